"""The picture of `allmlp bench`: images per second, and accuracy where it was measured."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from allmlp import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
PRECISIONS = {"fp32": figures.COLOURS[0], "bf16": figures.COLOURS[2], "int8": figures.COLOURS[1]}
MOST_PANELS = 4  # of numbers of threads and batch sizes


@figures.style()
def figure(rows: Sequence[Row]) -> "Figure":
    """A panel of bars for each number of threads and batch size, the first four; what is fastest in the first is on
    top. A last panel has the accuracies."""
    cells = list(dict.fromkeys((row["infer_batch_size"], row["threads"]) for row in rows))[:MOST_PANELS]
    here = {cell: {who(row): row for row in rows if (row["infer_batch_size"], row["threads"]) == cell}
            for cell in cells}
    order = list(here[cells[0]])
    measured = [row for row in here[cells[0]].values() if row["top1"] is not None]
    drawn, *axes = figures.new(figures.TEXT_WIDTH_CM, 2.4 + 0.62 * len(order), columns=len(cells) + bool(measured),
                               sharey=True)
    models, _, _, sizes = map(set, zip(*order, strict=True))
    for place, cell in zip(axes, cells, strict=False):
        speeds(place, [here[cell][name] for name in order])
        place.set_title(f"batch {cell[0]}, {cell[1]} thread{'s' if cell[1] > 1 else ''}")
        known = any(row["peak_percent"] is not None for row in here[cell].values())
        place.set_xlabel("images/s (share of the peak)" if known else "images/s")
    if measured:
        accuracies(axes[-1], [here[cells[0]][name] for name in order])
    axes[0].set_yticks(range(len(order)), [label(*name, len(models) > 1, len(sizes) > 1) for name in order])
    axes[0].invert_yaxis()
    return drawn


def who(row: Row) -> tuple[str, str, str, str]:
    return row["model"], row["backend"], row["precision"], str(row["infer_img_size"])


def label(model: str, backend: str, precision: str, size: str, several_models: bool, several_sizes: bool) -> str:
    return (f"{backend} {precision}" + (f", {size} px" if several_sizes else "")
            + (f"\n{figures.ending(model, 24)}" if several_models else ""))


def speeds(place: "Axes", rows: Sequence[Row]) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    values = [row["infer_samples_per_sec"] for row in rows]
    place.barh(range(len(rows)), values, height=0.62, color=[PRECISIONS[row["precision"]] for row in rows])
    for number, (row, value) in enumerate(zip(rows, values, strict=True)):
        share = f" ({row['peak_percent']:.0f} %)" if row["peak_percent"] is not None else ""
        place.annotate(f"{value:,.0f}{share}" if value >= 100 else f"{value:.1f}{share}", (value, number),
                       xytext=(3, 0), textcoords="offset points", va="center", fontsize=6.5, color=figures.INK)
    place.set_xlim(0, max(values) * 1.45)
    place.xaxis.set_major_locator(MaxNLocator(nbins=3))
    place.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}" if max(values) >= 10 else "{x:g}"))
    place.grid(axis="y", visible=False)


def accuracies(place: "Axes", rows: Sequence[Row]) -> None:
    known = [(number, row) for number, row in enumerate(rows) if row["top1"] is not None]
    values = [row["top1"] for _, row in known]
    place.scatter(values, [number for number, _ in known], color=[PRECISIONS[row["precision"]] for _, row in known],
                  zorder=2)
    for number, row in known:
        place.annotate(f"{row['top1']:.1f}", (row["top1"], number), xytext=(0, 5), textcoords="offset points",
                       ha="center", fontsize=6.5, color=figures.INK)
    margin = max(0.5, 0.25 * (max(values) - min(values)))
    place.set_xlim(min(values) - margin, max(values) + margin)
    place.set_title(f"top-1, {known[0][1]['top1_images']:,} images")
    place.set_xlabel("accuracy, %")
