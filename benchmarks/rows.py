"""The rows of a file in results/, which the programs here read and write as `allmlp reproduce` does."""

from allmlp.reproduce.table import read, write

__all__ = ["read", "write"]
