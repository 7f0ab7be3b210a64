"""The figure of `see-like-cnns`: similarity maps, receptive fields, and four measures along depth."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from allmlp import figures
from allmlp.reproduce.experiment import Row
from allmlp.reproduce.see_found import matrix
from allmlp.reproduce.spread import curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = ("Mixer", "ViT", "ResNet")
CURVES = {"skip_ratio": "skip ratio |z| / |f(z)|", "field_px": "receptive field, px",
          "own_patch_cka": "CKA with a patch", "probe_percent": "10-shot probe, %"}

SEEDS = "a, b and c: one seed, the first; d to g: all seeds, mean and deviation"


@figures.style()
def figure(rows: Sequence[Row]) -> Figure:
    drawn = figures.empty(figures.TEXT_WIDTH_CM, 14.2, layout="constrained")
    parts: Any = drawn.subfigures(3, 1, height_ratios=(0.86, 0.62, 1.15), hspace=0.03)
    maps, fields, curves = parts
    _maps(maps, rows)
    _fields(fields, rows)
    for axes, (column, label), letter in zip(curves.subplots(1, 4), CURVES.items(), "defg", strict=True):
        _curve(axes, rows, column)
        axes.set(title=f"{letter}  {label}", xlabel="depth", xlim=(-0.03, 1.03), xticks=(0, 0.5, 1))
        axes.set_ylim(bottom=0)
    handles = [curves.axes[0].get_lines()[i] for i in range(len(NAMES))]
    dotted = Line2D([], [], color=figures.QUIET, linestyle=":", linewidth=1)
    curves.legend([*handles, dotted], [*NAMES, "with the other patches"], loc="outside lower center", ncols=4)
    return drawn


def _maps(part: Any, rows: Sequence[Row]) -> None:
    """CKA of all pairs of layers, of each network with itself and with Mixer, on one scale."""
    shown = [(f"{name} – {name}", matrix(rows, name, "similarity")) for name in NAMES]
    shown += [(f"{name} – Mixer", matrix(rows, name, "similarity_to_mixer")) for name in NAMES[1:]]
    all_axes = part.subplots(1, len(shown))
    for axes, (title, values), letter in zip(all_axes, shown, ("a", "", "", "b", ""), strict=True):
        axes.imshow(np.clip(values, 0, 1), vmin=0, vmax=1, origin="lower", aspect="auto",
                    interpolation="nearest", extent=(0, 1, 0, 1))
        axes.set_box_aspect(1)
        axes.set(title=f"{letter}  {title}" if letter else title, xticks=(0, 1), yticks=(0, 1))
        axes.grid(False)
        up, right = title.split(" – ")
        axes.set_xlabel(f"{right}, depth", labelpad=-4)
        axes.set_ylabel(up, labelpad=-2)
    part.suptitle(SEEDS, fontsize=7, color=figures.QUIET, x=0.005, ha="left")
    part.colorbar(ScalarMappable(Normalize(0, 1)), ax=list(all_axes), label="linear CKA", shrink=0.7,
                  ticks=(0, 0.5, 1), pad=0.01, aspect=10)


def _fields(part: Any, rows: Sequence[Row]) -> None:
    """Receptive fields after the first, a middle and the last block, each on a scale of its own largest gradient."""
    all_axes = part.subplots(1, 3 * len(NAMES))
    for number, name in enumerate(NAMES):
        values = matrix(rows, name, "field")
        side = round(values.shape[1] ** 0.5)
        blocks = (0, (len(values) - 1) // 2, len(values) - 1)
        for axes, block in zip(all_axes[3 * number : 3 * number + 3], blocks, strict=True):
            axes.imshow(np.sqrt(values[block].reshape(side, -1)), vmin=0, vmax=1, cmap="magma",
                        interpolation="nearest")
            axes.grid(False)
            axes.set(xticks=(), yticks=(), title=f"block {block + 1}")
            axes.spines[:].set_visible(False)
        all_axes[3 * number].set_title(f"{name}\nblock 1")
    all_axes[0].set_title("c  Mixer\nblock 1")
    bar = part.colorbar(ScalarMappable(Normalize(0, 1), "magma"), ax=list(all_axes), label="|gradient|, of largest",
                        shrink=0.9, pad=0.01, aspect=10, ticks=(0, 0.5, 1))
    bar.ax.set_yticklabels(("0", "¼", "1"))  # colours go by the square root, or the small ones would not be seen


def _curve(axes: "Axes", rows: Sequence[Row], column: str) -> None:
    for name in NAMES:
        of_layers = [row for row in rows if row["layer"]]
        depth, mean, deviation = curve(of_layers, name, "depth", column)
        colour = figures.FAMILIES[name]
        axes.fill_between(depth, mean - deviation, mean + deviation, color=colour, alpha=0.18, linewidth=0)
        axes.plot(depth, mean, color=colour, marker=figures.MARKERS[NAMES.index(name)], label=name)
    if column == "own_patch_cka":
        for name in NAMES:
            depth, mean, _ = curve([row for row in rows if row["layer"]], name, "depth", "other_patches_cka")
            axes.plot(depth, mean, color=figures.FAMILIES[name], linestyle=":", linewidth=1)
