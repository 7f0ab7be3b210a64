"""The effective receptive field: which pixels a token depends on, by how much (Luo et al. 2016; Raghu et al., arXiv
2108.08810, section 4).

The absolute gradient of the centre token, summed over its channels, with respect to the image; summed over the colours
and averaged over images. That is what the network uses, where the theoretical field of an all-MLP network is the whole
image from the first block on. Taken after a LayerNorm with equal scales it would be 0, as the sum over the channels is
then the same for every image: take the output of a block.
"""

import math

import numpy as np
import torch
from torch import nn

from allmlp.errors import BadSetting
from allmlp.inspection.outputs import as_tokens, evaluating, hooked


def receptive_field(
    network: nn.Module, images: torch.Tensor, layer: str, grid: tuple[int, int] | None = None, skip: int = 0
) -> np.ndarray:
    """The mean |gradient| of the centre token of `layer` at each pixel, float32 `(H, W)`.

    `images` normalised `(N, 3, H, W)`; `grid`: (rows, columns) of tokens where they are not a square; `skip` class
    tokens in front. The centre token of an even grid is the one right and below of the middle. Raises `UnknownName` for
    a layer that is none, `BadSetting` where the tokens make no grid.
    """
    kept: list[torch.Tensor] = []
    images = images.detach().clone().requires_grad_()
    keep = {layer: lambda _module, _inputs, output: kept.append(output.clone())}
    with evaluating(network), torch.enable_grad(), hooked(network, keep):
        network(images)
    output = kept[-1]
    rows, columns = (output.shape[2], output.shape[3]) if output.ndim == 4 else token_grid(output.shape[1] - skip, grid)
    tokens_NSC = as_tokens(output, skip)
    gradient, = torch.autograd.grad(tokens_NSC[:, rows // 2 * columns + columns // 2].sum(), images)
    return gradient.abs().sum(1).mean(0).numpy()


def token_grid(tokens: int, grid: tuple[int, int] | None = None) -> tuple[int, int]:
    """(rows, columns) of so many tokens. Raises `BadSetting` where they make none."""
    rows, columns = grid or (math.isqrt(tokens), math.isqrt(tokens))
    if rows * columns != tokens:
        raise BadSetting(f"{tokens} tokens are no grid of {rows} x {columns}; give its (rows, columns)")
    return rows, columns


def mean_distance(field: np.ndarray, centre: tuple[float, float]) -> float:
    """How far from `centre` (row, column) the weight of a field `(H, W)` lies on average, in its pixels."""
    rows, columns = np.indices(field.shape)
    distance = np.hypot(rows - centre[0], columns - centre[1])
    return float((distance * field).sum() / field.sum())
