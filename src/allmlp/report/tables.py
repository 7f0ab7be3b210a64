"""Tables: the classes, facts by name, and measured speed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from allmlp.evaluate.scores import ClassMetrics
from allmlp.inspection.flops import count_macs, count_parameters
from allmlp.models.model import ModelConfig
from allmlp.report.content import Speed
from allmlp.report.markup import Child, Html, breakable, join, tag
from allmlp.report.numbers import SPACE, count, large, percent, small

OPEN_ROWS = 20  # of the table of classes; the others open at a click


def table(titles: Sequence[str], rows: Iterable[Sequence[Child]], numbers: Collection[int] = ()) -> Html:
    """A table that scrolls sideways where it is too wide; the columns in `numbers` are aligned to the right."""
    head = tag("tr", [tag("th", title, class_=_align(i, numbers)) for i, title in enumerate(titles)])
    body = [tag("tr", [tag("td", cell, class_=_align(i, numbers)) for i, cell in enumerate(row)]) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", body)), class_="wide")


def _align(column: int, numbers: Collection[int]) -> str | None:
    return "number" if column in numbers else None


def class_table(classes: Sequence[ClassMetrics]) -> Html:
    """One row per class, the worst F1 first, classes without images last."""
    several = any(row.average_precision_percent is not None for row in classes)
    ranked = sorted(classes, key=lambda row: (row.f1_percent is None, row.f1_percent or 0))
    titles = ["class", "images", *(["average precision"] if several else []), "precision", "recall", "F1", ""]
    rows = [_class_row(row, several) for row in ranked]
    numbers = range(1, len(titles) - 1)
    shown = table(titles, rows[:OPEN_ROWS], numbers)
    if len(rows) <= OPEN_ROWS:
        return shown
    more = tag("summary", f"{count(len(rows) - OPEN_ROWS)} more")
    return join(shown, tag("details", more, table(titles, rows[OPEN_ROWS:], numbers)))


def _class_row(row: ClassMetrics, several: bool) -> list[Child]:
    rates = [row.average_precision_percent] if several else []
    rates += [row.precision_percent, row.recall_percent, row.f1_percent]
    bar = tag("div", tag("i", style=f"width:{row.f1_percent or 0:.1f}%"), class_="meter")
    return [breakable(row.name), count(row.support), *map(percent, rates), bar]


def speed_table(speeds: Sequence[Speed]) -> Html:
    rows = [
        (count(speed.batch_size), count(round(speed.images_per_second)),
         small(1000 * speed.batch_size / speed.images_per_second), _device(speed))
        for speed in speeds
    ]
    return table(("batch", "images/s", "ms per batch", "on"), rows, numbers=range(3))


def _device(speed: Speed) -> str:
    if speed.threads is None:
        return speed.device
    return f"{speed.device}, {speed.threads} thread{'' if speed.threads == 1 else 's'}"


def facts(rows: Iterable[tuple[str, Child]]) -> Html:
    """Names on the left, values on the right."""
    return tag("table", [tag("tr", tag("th", name), tag("td", value)) for name, value in rows], class_="facts")


def model_facts(name: str, config: ModelConfig) -> Html:
    parameters, macs = count_parameters(config), count_macs(config)
    kinds = ", ".join(dict.fromkeys(block.kind for block in config.layers))
    tokens = f"{_size(config.grid)} = {count(config.grid[0] * config.grid[1])} tokens"
    return facts([
        ("network", name),
        ("blocks", f"{config.depth} × {kinds}, width {config.width}"),
        ("image", f"{_size(config.image_size)} pixels, {config.in_channels} channels"),
        ("patches", f"{_size(config.patch_size)} pixels, {tokens}"),
        ("parameters", f"{count(parameters)} ({large(4 * parameters)}B in float32)"),
        ("work per image", f"{large(macs)} multiply-adds, {large(2 * macs)}FLOPs"),
    ])


def machine_facts(machine: Mapping[str, Any]) -> Html:
    """A mapping, with the mappings inside it spread out."""
    rows: list[tuple[str, Child]] = []
    for name, value in machine.items():
        if isinstance(value, Mapping):
            rows.append((name, [tag("span", f"{key}{SPACE}{text}", class_="version") for key, text in value.items()]))
        elif value is not None:
            rows.append((name, str(value)))
    return facts(rows)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"
