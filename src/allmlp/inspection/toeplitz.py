"""How far a map from tokens to tokens depends only on where the other token lies, as a convolution does.

A matrix here has the shape `(rows, columns, rows, columns)`: the weight with which the token at the first place is made
of the one at the second. Averaged over all pairs of the same displacement (rows down, columns right), it becomes the
closest matrix that is Toeplitz in both directions: a convolution whose kernel reaches over the whole grid. gMLP's
authors saw its gates become such; ResMLP's early layers look alike.
"""

import math
from collections.abc import Sequence

import numpy as np


def displacement_kernel(matrix: np.ndarray) -> np.ndarray:
    """The mean weight for each displacement, `(2·rows - 1, 2·columns - 1)`, with no displacement in the middle."""
    place = _places(matrix.shape[:2])
    shape = tuple(2 * side - 1 for side in matrix.shape[:2])
    sums = np.bincount(place.ravel(), matrix.astype(np.float64).ravel(), minlength=math.prod(shape))
    return (sums / np.bincount(place.ravel(), minlength=math.prod(shape))).reshape(shape)


def toeplitz_share(matrix: np.ndarray) -> float:
    """The share of the weights' variance that the closest Toeplitz matrix explains: 1 for a convolution, about
    `by_chance` for independent random weights, 0 where all weights are equal (which says nothing about places)."""
    variance = float(matrix.astype(np.float64).var())
    closest = displacement_kernel(matrix).ravel()[_places(matrix.shape[:2])]
    return float(closest.var()) / variance if variance else 0.0


def by_chance(grid: Sequence[int]) -> float:
    """The share that independent random weights have on average: free numbers of a Toeplitz matrix beside its mean,
    per free number of any matrix."""
    return ((2 * grid[0] - 1) * (2 * grid[1] - 1) - 1) / max((grid[0] * grid[1]) ** 2 - 1, 1)


def _places(grid: Sequence[int]) -> np.ndarray:
    """For each pair (token out, token in), the place of its displacement in the flat kernel, `(S, S)`."""
    rows, columns = (axis.ravel() for axis in np.indices(grid))
    down = rows[None, :] - rows[:, None] + grid[0] - 1
    right = columns[None, :] - columns[:, None] + grid[1] - 1
    return down * (2 * grid[1] - 1) + right
