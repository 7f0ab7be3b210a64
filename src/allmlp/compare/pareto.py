"""Accuracy over cost, and the front: the contenders that no other one beats in both."""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from allmlp import figures
from allmlp.compare.contenders import label
from allmlp.compare.measure import Compared, best_accuracy
from allmlp.report.numbers import large

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS = {"latency_ms": "latency of one image, ms", "macs": "multiply-adds per image", "parameters": "parameters"}
ACCURACIES = {"accuracy_percent": "accuracy, %", "few_shot_percent": "{shots}-shot accuracy, %",
              "knn_percent": "k-NN accuracy, %"}


def front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Numbers of the points on the Pareto front, by rising cost: no other costs as little or less and is as accurate or
    better, one of the two strictly. Of equal points all are on it or none."""
    found = []
    for i, (cost, accuracy) in enumerate(zip(costs, accuracies, strict=True)):
        beaten = any(other <= cost and better >= accuracy and (other < cost or better > accuracy)
                     for other, better in zip(costs, accuracies, strict=True))
        if not beaten:
            found.append(i)
    return sorted(found, key=lambda i: (costs[i], accuracies[i]))


@figures.style()
def figure(rows: Sequence[Compared], shots: int) -> "Figure":
    """A panel for each cost that every row has; ours and timm's in two colours, the front as a line."""
    column = best_accuracy(rows)
    shown = [row for row in rows if getattr(row, column) is not None]
    costs = [cost for cost in COSTS if shown and all(getattr(row, cost) is not None for row in shown)]
    drawn, *axes = figures.new(figures.TEXT_WIDTH_CM, 6.4, columns=max(len(costs), 1), sharey=True)
    for place, cost in zip(axes, costs, strict=False):
        _panel(place, shown, cost, column)
    axes[0].set_ylabel(ACCURACIES[column].format(shots=shots))
    handles, names = axes[0].get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside lower center", ncols=len(names))
    return drawn


def _panel(place: "Axes", rows: Sequence[Compared], cost: str, column: str) -> None:
    from matplotlib import patheffects

    x, y = ([getattr(row, name) for row in rows] for name in (cost, column))
    best = front(x, y)
    place.plot([x[i] for i in best], [y[i] for i in best], color=figures.QUIET, linewidth=1, zorder=1, label="front",
               drawstyle="steps-post")
    for source, colour, marker in (("allmlp", figures.COLOURS[0], "o"), ("timm", figures.COLOURS[1], "s")):
        for weights, face in (("trained", colour), ("fresh", "white")):
            chosen = [i for i, row in enumerate(rows) if (row.source, row.weights) == (source, weights)]
            if chosen:
                spread = [rows[i].few_shot_deviation or 0 for i in chosen] if column == "few_shot_percent" else None
                place.errorbar([x[i] for i in chosen], [y[i] for i in chosen], yerr=spread, color=colour, marker=marker,
                               markerfacecolor=face, linestyle="none", elinewidth=0.8, zorder=2,
                               label=source + ("" if weights == "trained" else ", fresh weights"))
    place.set_xscale("log")
    place.margins(x=0.18, y=0.14)
    log_axis(place)
    place.set_xlabel(COSTS[cost])
    centre = math.sqrt(min(x) * max(x))
    for i, row in enumerate(rows):  # to the side where there is room
        right = x[i] <= centre
        place.annotate(label(row.model), (x[i], y[i]), xytext=(5 if right else -5, 4), textcoords="offset points",
                       ha="left" if right else "right", fontsize=6, color=figures.INK,
                       path_effects=[patheffects.withStroke(linewidth=2, foreground="white")])


def log_axis(place: "Axes", which: Literal["x", "y"] = "x") -> None:
    """A logarithmic axis, set once all is drawn: ticks 1, 2, 5, 10, …, over more than two decades 1, 10, …; k, M, G."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    (place.set_xscale if which == "x" else place.set_yscale)("log")
    axis = place.xaxis if which == "x" else place.yaxis
    low, high = place.get_xlim() if which == "x" else place.get_ylim()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: re.sub(r"\.0+(?!\d)", "", large(value))))
    axis.set_minor_formatter(NullFormatter())
