"""Shares of small weights, by block and by what counts as small (ResMLP, figures 3 and B.2)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from allmlp import figures
from allmlp.inspection.sparsity import THRESHOLD, small_shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORDS = {  # of a block's linear maps; a map of another name is called by that
    "mlp_tokens.fc1": "token mixing, first", "mlp_tokens.fc2": "token mixing, second",
    "linear_tokens": "patch interaction", "mlp_channels.gate.proj": "spatial gate",
    "mlp_channels.fc1": "channel mixing, first", "mlp_channels.fc2": "channel mixing, second",
}  # fmt: skip
MOST_LETTERS = 20
THRESHOLDS = np.linspace(0, 0.25, 26)
Weights = Mapping[str, Sequence[np.ndarray | None]]
"""Each linear map by its name in a block, in every block."""


@figures.style()
def sparsity_curves(networks: Mapping[str, Weights]) -> "Figure":
    """A row for each network: left the share of weights below 5 % of the largest of their matrix, by block; right the
    same by what is taken for small, over all blocks together."""
    figure, *axes = figures.new(figures.TEXT_WIDTH_CM, 6 * len(networks), len(networks), 2, sharey="row")
    for (name, weights), left, right in zip(networks.items(), axes[::2], axes[1::2], strict=True):
        for i, (layer, blocks) in enumerate(weights.items()):
            colour = figures.COLOURS[i % len(figures.COLOURS)]
            left.plot(100 * small_shares(blocks), color=colour, marker=figures.MARKERS[i % len(figures.MARKERS)])
            curves = 100 * np.array([small_shares(blocks, threshold) for threshold in THRESHOLDS])
            right.plot(100 * THRESHOLDS, np.nanmean(curves, axis=1), color=colour, label=WORDS.get(layer, layer))
            right.fill_between(100 * THRESHOLDS, np.nanmin(curves, axis=1), np.nanmax(curves, axis=1), color=colour,
                               alpha=0.15, linewidth=0)
        _label(left, right, name if len(networks) > 1 else None)
    return figure


def _label(left: "Axes", right: "Axes", name: str | None) -> None:
    from matplotlib.ticker import MaxNLocator

    left.set(xlabel="block", ylabel="share of the weights below, %", ylim=(0, None))
    start = figures.ending(name, MOST_LETTERS) if name else "by block"
    left.set_title(f"{start}, below {100 * THRESHOLD:g} % of the largest weight")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.axvline(100 * THRESHOLD, color=figures.QUIET, linewidth=0.8, linestyle=(0, (3, 2)))
    right.set(xlabel="below so many % of the largest weight", xlim=(0, 100 * THRESHOLDS[-1]),
              title="at other thresholds: mean and range of blocks")
    right.legend(loc="lower right")
