"""How each patch reads all patches: the rows of a linear map along tokens, each laid out where its patch is.

ResMLP's figure 2, and gMLP's spatial gates. Beside them the map's closest Toeplitz form: one kernel over displacements,
and how much of the map it explains (`inspection.toeplitz`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from allmlp.inspection.pictures.mosaic import Panel, in_rows, limit_of, mosaic
from allmlp.inspection.toeplitz import by_chance, displacement_kernel, toeplitz_share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 256  # maps of a larger grid are too small to see: then the central ones, as in ResMLP's figure
CENTRAL = 6


def token_matrices(matrices: Mapping[int, np.ndarray]) -> "Figure":
    """For each block of one network its matrix `(rows, columns, rows, columns)`: the token that is made, then those it
    is made of. Above each patch's weights, below the mean weight for each displacement."""
    above = in_rows([_rows(block, matrix) for block, matrix in matrices.items()])
    below = in_rows([_displacements(matrix) for matrix in matrices.values()])
    return mosaic([row for pair in zip(above, below, strict=True) for row in pair])


def _rows(block: int, matrix: np.ndarray) -> Panel:
    rows, columns = grid = matrix.shape[:2]
    if rows * columns <= MOST_ROWS:
        return Panel(f"block {block}", f"all {rows} × {columns} patches", matrix.reshape(-1, *grid), across=columns)
    high, wide = (min(CENTRAL, side) for side in grid)
    top, left = (rows - high) // 2, (columns - wide) // 2
    central = matrix[top : top + high, left : left + wide].reshape(-1, *grid)
    remark = f"the central {high} × {wide} of {rows} × {columns} patches"
    return Panel(f"block {block}", remark, central, limit_of(matrix), across=wide)


def _displacements(matrix: np.ndarray) -> Panel:
    share, chance = toeplitz_share(matrix), by_chance(matrix.shape[:2])
    return Panel("mean by displacement", f"explains {100 * share:.0f} % (chance {100 * chance:.0f} %)",
                 displacement_kernel(matrix)[None], across=1)
