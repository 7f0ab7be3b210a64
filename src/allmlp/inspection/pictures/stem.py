"""What the patch embedding looks for: every channel's kernel as a small picture (MLP-Mixer, figure 7)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from allmlp.inspection.order import by_frequency
from allmlp.inspection.pictures.mosaic import Panel, mosaic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def stem_filters(kernels: Mapping[str, np.ndarray]) -> "Figure":
    """`kernels`: for each network by name `(C, patch rows, patch columns, I)`. Low frequency first.

    With three input channels a kernel is a colour picture; with another number, one map for each channel, side by side.
    """
    return mosaic([[_panel(name, each) for name, each in kernels.items()]])


def _panel(name: str, kernels: np.ndarray) -> Panel:
    number, height, width, channels = kernels.shape
    ordered = kernels[by_frequency(kernels)]
    what = f"{number} kernels of {height} × {width} pixels"
    if channels == 3:
        return Panel(name, f"{what}, red, green and blue", ordered)
    side_by_side = ordered.transpose(0, 1, 3, 2).reshape(number, height, channels * width)
    return Panel(name, what if channels == 1 else f"{what}, {channels} input channels side by side", side_by_side)
