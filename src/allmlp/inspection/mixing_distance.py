"""How far token mixing reaches, from the weights alone: what the mean attention distance is to a transformer.

A token p reads token q with strength

    ResMLP, gMLP   |A[p, q]|, the linear map along tokens
    MLP-Mixer      Σ_h |W2[p, h]| |W1[h, q]|, over the hidden units: a bound on what any input lets through, up to the
                   activation's slope (gated: the value half and the gate half added)

Its distance is the mean of |place of p - place of q| in pixels with these weights, and a block's the mean over p. A
block that reads everywhere alike has `uniform_distance`. (Analogue of Raghu et al., arXiv 2108.08810, section 4.)
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from allmlp.errors import BadSetting
from allmlp.models.blocks.gmlp import GMLPBlock
from allmlp.models.blocks.mixer import MixerBlock
from allmlp.models.blocks.resmlp import ResMLPBlock
from allmlp.models.layers import GluMlp, Mlp
from allmlp.models.model import Model


def mixing_strength(block: nn.Module) -> np.ndarray:
    """How strongly each token (rows) reads each token (columns), `(S, S)`, float32. Raises `BadSetting` for a block
    that does not mix tokens by weights of its own."""
    with torch.no_grad():
        if isinstance(block, MixerBlock) and isinstance(mlp := block.mlp_tokens, Mlp | GluMlp):
            first = mlp.fc1.weight.abs()
            if isinstance(mlp, GluMlp):
                value, gate = first.chunk(2)
                first = value + gate
            return (mlp.fc2.weight.abs() @ first).float().numpy()
        if isinstance(block, ResMLPBlock) and isinstance(getattr(block, "linear_tokens", None), nn.Linear):
            return block.linear_tokens.weight.abs().float().numpy()
        if isinstance(block, GMLPBlock):
            return block.mlp_channels.gate.proj.weight.abs().float().numpy()
    raise BadSetting(f"{type(block).__name__}: its token mixing is no matrix of weights; the distance is for "
                     "MLP-Mixer, ResMLP and gMLP blocks")


def mixing_distances(model: Model) -> list[float]:
    """The mean distance in pixels at which each block reads, from first to last. Raises `BadSetting`."""
    apart = distances(model.config.grid, model.config.patch_size)
    return [_weighted(mixing_strength(block), apart) for block in model.blocks]


def uniform_distance(grid: tuple[int, int], patch_size: Sequence[int]) -> float:
    """The distance in pixels of a block that reads all tokens alike."""
    return float(distances(grid, patch_size).mean())


def distances(grid: tuple[int, int], patch_size: Sequence[int]) -> np.ndarray:
    """Pixels between the centres of all pairs of patches, `(S, S)`, raster order."""
    rows, columns = np.indices(grid).reshape(2, -1)
    return np.hypot(patch_size[0] * (rows[:, None] - rows), patch_size[1] * (columns[:, None] - columns))


def _weighted(strength: np.ndarray, apart: np.ndarray) -> float:
    return float(((strength * apart).sum(1) / strength.sum(1)).mean())
