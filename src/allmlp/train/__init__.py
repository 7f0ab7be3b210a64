"""Training: `train` runs a recipe and finishes with the final metrics and the report."""

from allmlp.train.finish import train

__all__ = ["train"]
