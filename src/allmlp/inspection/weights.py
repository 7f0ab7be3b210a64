"""Which weights of a network can be shown as maps, taken from it by their names and shapes.

What a family does not have, or has in another form (a token MLP in ResMLP; attention), is None, so that a picture can
leave it out and say so. Blocks are numbered as in the weights' names, from 0.
"""

import math

import numpy as np
import torch
from torch import nn

from allmlp.models.model import Model

UNITS = "mlp_tokens.fc1.weight"  # (hidden, tokens in)
MATRICES = {"linear_tokens.weight": "patch interaction", "mlp_channels.gate.proj.weight": "spatial gate"}
"""Maps from all tokens to all tokens, (tokens out, tokens in): ResMLP's, gMLP's."""


def stem_kernels(model: Model) -> np.ndarray | None:
    """What each channel of the patch embedding looks for: float32 `(C, patch rows, patch columns, I)`."""
    linear = getattr(model.stem, "proj", None)
    return _array(linear.weight).transpose(0, 2, 3, 1) if isinstance(linear, nn.Conv2d) else None


def token_units(model: Model, block: int) -> np.ndarray | None:
    """The weights with which each hidden unit of a token MLP reads the tokens: `(F, rows, columns)`."""
    weight = _parameter(model, block, UNITS)
    rows, columns = model.config.places[block].grid
    if weight is None or weight.ndim != 2 or weight.shape[1] != rows * columns:
        return None
    return weight.reshape(-1, rows, columns)


def token_matrix(model: Model, block: int) -> tuple[str, np.ndarray] | None:
    """What a block's linear map along tokens is called, and the map `(rows, columns, rows, columns)`: first the token
    that is made, then those it is made of."""
    grid = model.config.places[block].grid
    for name, called in MATRICES.items():
        weight = _parameter(model, block, name)
        if weight is not None and weight.shape == (math.prod(grid), math.prod(grid)):
            return called, weight.reshape(*grid, *grid)
    return None


def linear_weights(model: Model) -> dict[str, list[np.ndarray | None]]:
    """Each linear map of the blocks by its name in them ("mlp_tokens.fc1"): its weights in every block, or None."""
    blocks = [{name: _array(layer.weight) for name, layer in block.named_modules()
               if isinstance(layer, nn.Linear | nn.Conv2d)} for block in model.blocks]
    names = dict.fromkeys(name for block in blocks for name in block)
    return {name: [block.get(name) for block in blocks] for name in names}


def _parameter(model: Model, block: int, name: str) -> np.ndarray | None:
    parameters = dict(model.blocks[block].named_parameters())
    return _array(parameters[name]) if name in parameters else None


def _array(weight: torch.Tensor) -> np.ndarray:
    return weight.detach().float().cpu().numpy()
