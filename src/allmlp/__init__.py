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
    "fold",
    "list_models",
    "load",
    "load_predictor",
    "push_to_hub",
    "register_with_timm",
    "resize",
    "save",
    "save_hub",
]

_HOME = {
    "AllMLPError": "allmlp.errors",
    "Preprocess": "allmlp.preprocess",
    "Recipe": "allmlp.recipe",
    "ModelConfig": "allmlp.models.model",
    "create_model": "allmlp.weights.pretrained",
    "fold": "allmlp.models.fold",
    "list_models": "allmlp.weights.pretrained",
    "load": "allmlp.checkpoint",
    "load_predictor": "allmlp.backends",
    "push_to_hub": "allmlp.publish",
    "register_with_timm": "allmlp.weights.registry",
    "resize": "allmlp.models.resize",
    "save": "allmlp.checkpoint",
    "save_hub": "allmlp.publish",
}

if TYPE_CHECKING:
    from allmlp.backends import load_predictor
    from allmlp.checkpoint import load, save
    from allmlp.errors import AllMLPError
    from allmlp.models.fold import fold
    from allmlp.models.model import ModelConfig
    from allmlp.models.resize import resize
    from allmlp.preprocess import Preprocess
    from allmlp.publish import push_to_hub, save_hub
    from allmlp.recipe import Recipe
    from allmlp.weights.pretrained import create_model, list_models
    from allmlp.weights.registry import register_with_timm


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'allmlp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__"])
