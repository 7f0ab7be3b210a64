"""What in an image speaks for a class: exact class-activation maps and occlusion, over the image itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from allmlp import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRONGEST = 0.8  # opacity of the full colour, so that the image stays to be seen
PALEST = 0.35  # how far the image below is bleached
MOST_LETTERS = 20


@dataclass(frozen=True)
class Evidence:
    """One image with what a network made of it. `image` uint8 `(H, W, 3)` as the network saw it; `classes` and
    `probabilities` of the most probable; `activation` `(len(classes), rows, columns)`, or None where a network has no
    exact maps; `occlusion` `(rows, columns)` for the first class."""

    name: str
    image: np.ndarray
    classes: Sequence[str]
    probabilities: Sequence[float]
    activation: np.ndarray | None
    occlusion: np.ndarray


@figures.style()
def evidence_maps(images: Sequence[Evidence]) -> "Figure":
    """A row for each image: the image, the activation maps of its most probable classes on one scale, and occlusion."""
    columns = 2 + max(0 if each.activation is None else len(each.activation) for each in images)
    side = figures.TEXT_WIDTH_CM / 5
    height, width = images[0].image.shape[:2]
    row_height = side * min(max(height / width, 0.3), 3) + 0.9
    figure, *axes = figures.new(side * columns, row_height * len(images) + 1.2, len(images), columns)
    for i, each in enumerate(images):
        row = axes[i * columns : (i + 1) * columns]
        row[0].imshow(each.image, interpolation="nearest")
        _write(row[0], figures.ending(each.name, MOST_LETTERS), "")
        shown = [] if each.activation is None else list(each.activation)
        limit = max((float(np.abs(map_).max()) for map_ in shown), default=0.0)
        for cell, map_, class_, probability in zip(row[1:-1], shown, each.classes, each.probabilities, strict=False):
            _overlay(cell, each.image, map_, limit)
            title = f"{figures.ending(class_, MOST_LETTERS)} · {100 * probability:.1f} %"
            _write(cell, title, f"evidence, ±{limit:.2g}")
        largest = float(np.abs(each.occlusion).max())
        _overlay(row[-1], each.image, each.occlusion, largest)
        _write(row[-1], figures.ending(each.classes[0], MOST_LETTERS), f"missed if covered, ±{largest:.2g}")
    for cell in axes:
        cell.set_axis_off()
    _scale(figure, axes)
    return figure


def _overlay(cell: "Axes", image: np.ndarray, map_: np.ndarray, limit: float) -> None:
    """The image in pale grey below `map_`, whose cells are the more opaque the further from zero."""
    import matplotlib

    grey = image.mean(2) / 255
    cell.imshow(1 - PALEST * (1 - grey), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    place = map_ / (2 * (limit or 1)) + 0.5
    colours = matplotlib.colormaps[figures.SIGNED](place)
    colours[..., 3] = STRONGEST * np.sqrt(np.abs(2 * place - 1))
    height, width = image.shape[:2]
    cell.imshow(colours, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest")


def _write(cell: "Axes", title: str, remark: str) -> None:
    cell.set_title(title, size=7.5, pad=3)
    cell.text(0, -0.03, remark, transform=cell.transAxes, va="top", size=6.5, color=figures.QUIET)


def _scale(figure: "Figure", axes: Sequence["Axes"]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(-1, 1), figures.SIGNED), ax=list(axes), location="bottom",
                          shrink=0.4, aspect=32, pad=0.02, ticks=[-1, 0, 1])
    bar.ax.set_xticklabels(["against", "0", "for the class"])
    bar.set_label("each map up to the ± below it", size=7, color=figures.QUIET)
    bar.ax.tick_params(length=0, labelsize=7)
    bar.outline.set_linewidth(0.4)  # pyright: ignore[reportCallIssue]
