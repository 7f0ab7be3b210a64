"""Linear maps between a small and a large number of cells that divide the same length: token grids, pixels of a patch.

All are float64 matrices whose rows sum to 1, so a constant goes to the same constant.
"""

from typing import Literal, NamedTuple

import torch
from torch.nn import functional as F

Kernel = Literal["nearest", "bilinear", "bicubic", "area"]


class GridMaps(NamedTuple):
    """Between the tokens of two grids, in raster order: values on the one to values on the other."""

    to_old: torch.Tensor  # (old tokens, new tokens)
    to_new: torch.Tensor  # (new tokens, old tokens)


def grid_maps(old: tuple[int, int], new: tuple[int, int], kernel: Kernel, least_squares: bool) -> GridMaps:
    """Maps between grids of (rows, columns): along each axis for itself, so one may grow while the other shrinks.

    The map towards the finer grid interpolates. The map back averages with the same weights; or, with `least_squares`,
    it is the pseudo-inverse, which recovers exactly what was interpolated.
    """
    rows, columns = (_side_maps(*sides, kernel, least_squares) for sides in zip(old, new, strict=True))
    return GridMaps(torch.kron(rows.to_old, columns.to_old), torch.kron(rows.to_new, columns.to_new))


def _side_maps(old: int, new: int, kernel: Kernel, least_squares: bool) -> GridMaps:
    finer = interpolation(min(old, new), max(old, new), kernel)
    coarser = torch.linalg.pinv(finer) if least_squares else finer.T / finer.sum(0)[:, None]
    return GridMaps(coarser.contiguous(), finer) if new >= old else GridMaps(finer, coarser.contiguous())


def along(tensor: torch.Tensor, axis: int, matrix: torch.Tensor) -> torch.Tensor:
    """`matrix` (new, old) applied to one axis of `tensor`."""
    return (tensor.movedim(axis, -1) @ matrix.T.to(tensor.device)).movedim(-1, axis)


def interpolation(source: int, target: int, kernel: Kernel) -> torch.Tensor:
    """The matrix `(target, source)` of a resampling with half-pixel centres, antialiased where it reduces."""
    if kernel == "area":  # how much of each target cell lies in each source cell
        edges = torch.arange(target + 1, dtype=torch.float64) / target * source
        cells = torch.arange(source, dtype=torch.float64)
        overlap = torch.minimum(edges[1:, None], cells + 1) - torch.maximum(edges[:-1, None], cells)
        weights = overlap.clamp(min=0)
        return weights / weights.sum(1, keepdim=True)
    identity = torch.eye(source, dtype=torch.float64)[None, None]
    if kernel == "nearest":
        return F.interpolate(identity, (target, source), mode="nearest-exact")[0, 0]
    return F.interpolate(identity, (target, source), mode=kernel, antialias=True)[0, 0]
