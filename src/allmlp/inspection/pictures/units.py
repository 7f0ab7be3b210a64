"""What the hidden units of token mixing read: weights laid out at their tokens (MLP-Mixer, figures 5 and 6)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from allmlp.inspection.order import by_opposite_pairs
from allmlp.inspection.pictures.mosaic import Panel, in_rows, mosaic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_UNITS = 512  # of a panel; more are too small to see


def token_mixing_units(units: Mapping[str, Mapping[int, np.ndarray]]) -> "Figure":
    """`units`: for each network by name, for each block `(F, rows, columns)`; in pairs of opposite phase, low frequency
    first (`inspection.order`). Of one network the blocks stand in rows of three; several networks are the columns."""
    panels = [[_panel(f"{name}, block {block}" if len(units) > 1 else f"block {block}", maps)
               for block, maps in blocks.items()] for name, blocks in units.items()]
    if len(units) == 1:
        return mosaic(in_rows(panels[0]))
    longest = max(map(len, panels))
    return mosaic([[row[i] if i < len(row) else None for row in panels] for i in range(longest)])


def _panel(title: str, maps: np.ndarray) -> Panel:
    order = by_opposite_pairs(maps)
    shown = order.index[:MOST_UNITS]
    of = f"{len(maps)} units" if len(shown) == len(maps) else f"{len(shown)} of {len(maps)} units"
    return Panel(title, f"{of}, {100 * order.opposite_share:.0f} % in opposite pairs", maps[shown], paired=True)
