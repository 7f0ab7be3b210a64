"""How every picture of ours looks, on paper and on the page, and how it is written: the same bytes every time.

Nothing global is touched: no pyplot, no state, and matplotlib's settings are ours only while a figure is drawn. A
function that draws is decorated, since matplotlib looks some of its settings up when a title or a line is added:

    @figures.style()
    def figure(rows):
        figure, axes = figures.new(12, 7)
        …
        return figure

The font is matplotlib's own DejaVu Sans, the only one that is there on every machine.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allmlp.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 200  # of the PNG
CM = 1 / 2.54  # in inches
TEXT_WIDTH_CM = 17.0  # of a page in two columns; one column takes half of it
MOST_CM = 800.0  # matplotlib draws up to 65,536 pixels

INK, QUIET, RULE = "#171a21", "#626b7a", "#e3e6eb"  # text; what matters less; grid lines
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b6270", "#8c6d46")
"""For lines and points, in this order: Okabe and Ito's, told apart by the colour-blind, without their yellow, which
vanishes on white; grey and brown end it."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # beside the colours, so that nothing hangs on colour alone
FAMILIES = {"Mixer": COLOURS[0], "ResMLP": COLOURS[1], "gMLP": COLOURS[2], "ResNet": COLOURS[3], "ViT": COLOURS[4]}
"""One colour for each kind of network, the same in every figure."""
SIGNED = "RdBu_r"  # colour map of values around zero, which is white: blue below, red above
AMOUNT = "viridis"  # colour map of amounts from zero up

SETTINGS: dict[str, Any] = {
    "font.family": ["DejaVu Sans"], "font.size": 8, "text.color": INK, "mathtext.fontset": "dejavusans",
    "axes.titlesize": 8.5, "axes.titlepad": 6, "axes.titlelocation": "left", "axes.labelsize": 8,
    "axes.labelcolor": INK, "axes.edgecolor": QUIET, "axes.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "axes.axisbelow": True, "axes.grid": True, "grid.color": RULE, "grid.linewidth": 0.6,
    "xtick.color": QUIET, "ytick.color": QUIET, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "xtick.major.size": 2.5, "ytick.major.size": 2.5, "xtick.minor.size": 0, "ytick.minor.size": 0,
    "lines.linewidth": 1.5, "lines.markersize": 4, "lines.solid_capstyle": "round", "errorbar.capsize": 2,
    "patch.linewidth": 0.6, "legend.frameon": False, "legend.fontsize": 7.5, "legend.handlelength": 1.6,
    "legend.borderaxespad": 0.3, "image.cmap": AMOUNT, "figure.facecolor": "white", "savefig.facecolor": "white",
    "figure.titlesize": 9.5, "svg.fonttype": "path", "svg.hashsalt": "allmlp", "path.simplify": False,
    "axes.formatter.use_mathtext": True, "axes.unicode_minus": True,
}  # fmt: skip


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Our settings while a figure is drawn, over matplotlib's own defaults; as `with`, or as a decorator."""
    import cycler
    import matplotlib

    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    settings: Any = {**defaults, **SETTINGS, "axes.prop_cycle": cycler.cycler(color=COLOURS)}
    with matplotlib.rc_context(settings):
        yield


@style()
def new(
    width_cm: float, height_cm: float, rows: int = 1, columns: int = 1, **subplots: Any
) -> "tuple[Figure, *tuple[Axes, ...]]":
    """A figure and its axes, row by row: `figure, left, right = new(16, 6, columns=2)`.

    `subplots`: what matplotlib's `Figure.subplots` takes too, such as `sharey=True` or `width_ratios=(2, 1)`. What is
    drawn is kept from overlapping by the constrained layout.
    """
    figure = empty(width_cm, height_cm, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    return figure, *axes.flat


@style()
def empty(width_cm: float, height_cm: float, **options: Any) -> "Figure":
    """A figure without axes, for those that lay out their own. `options` are those of matplotlib's `Figure`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    assert 0 < width_cm <= MOST_CM, f"{width_cm} cm wide"
    assert 0 < height_cm <= MOST_CM, f"{height_cm} cm high"
    figure = Figure(figsize=(width_cm * CM, height_cm * CM), dpi=DPI, **options)
    FigureCanvasAgg(figure)
    return figure


def ending(name: str, letters: int) -> str:
    """A name cut to so many letters where it is longer; the end of a path or a network's name tells the most."""
    return name if len(name) <= letters else f"…{name[len(name) - letters + 1 :]}"


@style()
def save(figure: "Figure", path_without_suffix: str | os.PathLike) -> tuple[Path, Path]:
    """Write `figure` as .png and .svg, each atomically; returns the two paths. Raises `CannotWrite`.

    Equal figures give equal bytes: no date, no version, and the SVG's names follow from its content.
    """
    written = []
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        path = Path(f"{os.fspath(path_without_suffix)}{suffix}")
        write_atomically(path, lambda temporary, kind=suffix[1:], about=metadata: figure.savefig(
            temporary, format=kind, dpi=DPI, metadata=about))
        written.append(path)
    return written[0], written[1]
