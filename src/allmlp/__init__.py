"""allmlp: all-MLP vision models. Importing it is light: torch is loaded at the first use of a name that needs it."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "AllMLPError",
    "ModelConfig",
    "Preprocess",
    "Recipe",
    "create_model",
    "list_models",
    "load",
    "load_predictor",
    "save",
]

_HOME = {
    "AllMLPError": "allmlp.errors",
    "Preprocess": "allmlp.preprocess",
    "Recipe": "allmlp.recipe",
    "ModelConfig": "allmlp.models.model",
    "create_model": "allmlp.models.variants",
    "list_models": "allmlp.models.variants",
    "load": "allmlp.checkpoint",
    "load_predictor": "allmlp.backends",
    "save": "allmlp.checkpoint",
}

if TYPE_CHECKING:
    from allmlp.backends import load_predictor
    from allmlp.checkpoint import load, save
    from allmlp.errors import AllMLPError
    from allmlp.models.model import ModelConfig
    from allmlp.models.variants import create_model, list_models
    from allmlp.preprocess import Preprocess
    from allmlp.recipe import Recipe


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'allmlp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__"])
