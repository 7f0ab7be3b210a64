"""Features of a data set in the plane, a colour and a mark for each class."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from allmlp import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEN = ("#332288", "#cc6677", "#117733", "#88ccee", "#aa4499", "#ddaa33", "#44aa99", "#882255", "#999933", "#6b7280")
"""For up to ten classes: Paul Tol's "muted", told apart by the colour-blind."""
MOST_NAMED = 20  # classes; more names would hide the points
LETTERS = 16


@figures.style()
def feature_embedding(points: Mapping[str, np.ndarray], labels: np.ndarray, classes: Sequence[str]) -> "Figure":
    """`points`: for each network by name `(N, 2)`; `labels` `(N,)`: class numbers. The name of a class stands at the
    median of its points."""
    side = min(figures.TEXT_WIDTH_CM / len(points), 10.5)
    figure, *axes = figures.new(side * len(points), side + 0.5, 1, len(points))
    for cell, (name, placed) in zip(axes, points.items(), strict=True):
        _scatter(cell, placed, labels, classes)
        cell.set_title(name)
        cell.set(xticks=[], yticks=[])
        cell.set_aspect("equal", adjustable="datalim")
        cell.grid(False)
        for spine in cell.spines.values():
            spine.set(visible=True, color=figures.RULE)
    return figure


def _scatter(cell: "Axes", placed: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    import matplotlib
    from matplotlib.patheffects import withStroke

    size = float(np.clip(5000 / len(placed), 4, 16))
    present = np.unique(labels)
    for i, label in enumerate(present):
        own = placed[labels == label]
        many = matplotlib.colormaps["turbo"](0.05 + 0.9 * i / max(len(present) - 1, 1))
        colour = TEN[i] if len(present) <= len(TEN) else many
        cell.scatter(*own.T, s=size, color=colour, marker=figures.MARKERS[i % len(figures.MARKERS)], alpha=0.75,
                     linewidths=0)
        if len(present) <= MOST_NAMED:
            name = classes[int(label)]
            x, y = np.median(own, axis=0)
            cell.text(x, y, name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…", ha="center", va="center",
                      weight="bold", size=9, path_effects=[withStroke(linewidth=2.5, foreground="white")])
