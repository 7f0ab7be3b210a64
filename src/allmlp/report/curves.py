"""The history of a run as line diagrams. Pointing at an epoch shows its numbers."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from allmlp.report.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, fitted_axis, frame
from allmlp.report.markup import Html, join, tag
from allmlp.report.numbers import count, known, percent, small

MOST_STRIPS = 200  # epochs one can point at; finer could not be hit with a finger or mouse
MOST_NUMBERS = 3  # in the line above a diagram; more are in the box that the browser shows

History: TypeAlias = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Line:
    """`points`: epoch -> value. `style`: a class of the style sheet, such as "accent" or "quiet"."""

    label: str
    points: Mapping[float, float]
    style: str


def curves(history: History, best_epoch: int | None) -> list[Html]:
    """The diagrams that the history has values for."""
    last = history[-1] if history else {}
    split = str(last.get("eval_split") or "evaluation")
    score = str(last.get("score_name") or "accuracy")
    loss = [Line("training", points(history, "train_loss"), "quiet"),
            Line(split, points(history, "eval_loss"), "accent")]
    scores = points(history, "eval_score") or points(history, "eval_top1")
    best = f", kept epoch {best_epoch}" if best_epoch in scores else ""
    found = [
        diagram("Loss", loss, small),
        diagram(_capital(score), [Line(split + best, scores, "accent")], lambda value: percent(value, 2), top=100,
                unit="%", mark=best_epoch),
        diagram("Learning rate", [Line("at the end of the epoch", points(history, "lr"), "accent")], small),
        diagram("Speed", [Line("images per second", points(history, "images_per_second"), "accent")],
                lambda value: count(round(value)), from_zero=True),
    ]
    return [each for each in found if each is not None]


def points(history: History, key: str) -> dict[float, float]:
    """Epoch -> value, where both are known."""
    rows = ((known(row.get("epoch")), known(row.get(key))) for row in history)
    return {epoch: value for epoch, value in rows if epoch is not None and value is not None}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def diagram(
    title: str, lines: Sequence[Line], write: Callable[[float], str], *, top: float = math.inf, unit: str = "",
    from_zero: bool = False, mark: int | None = None, legend: bool = True,
) -> Html | None:
    """One diagram over epochs; None where no line has a point. `top`: the axis never passes it; `mark`: an epoch."""
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    epochs = sorted({epoch for line in lines for epoch in line.points})
    values = [value for line in lines for value in line.points.values()]
    x = fitted_axis(epochs, LEFT, WIDTH - RIGHT, whole=True)
    y = fitted_axis([*values, 0.0] if from_zero else values, HEIGHT - BOTTOM, TOP, top=top)
    drawing = tag(
        "svg",
        frame(x, y, "epoch", unit),
        [_draw(line, x, y) for line in lines],
        [tag("circle", cx=x.at(mark), cy=y.at(line.points[mark]), r=4, class_="mark")
         for line in lines if mark is not None and mark in line.points],
        _strips(epochs, lines, x, y, write),
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title,
    )
    keys = [tag("span", tag("i", class_=line.style), line.label, class_="key") for line in lines] if legend else None
    return tag("figure", tag("figcaption", tag("b", title), keys), drawing)


def _draw(line: Line, x: Axis, y: Axis) -> Html:
    places = [(x.at(epoch), y.at(value)) for epoch, value in sorted(line.points.items())]
    if len(places) == 1:
        return tag("circle", cx=places[0][0], cy=places[0][1], r=3, class_=f"dot {line.style}")
    return tag("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in places), class_=f"line {line.style}")


def _strips(epochs: Sequence[float], lines: Sequence[Line], x: Axis, y: Axis, write: Callable[[float], str]) -> Html:
    """Invisible columns over the diagram; the one that is pointed at shows a ruler, its points and its numbers."""
    chosen = epochs[:: -(-len(epochs) // MOST_STRIPS)]
    edges = [x.start, *((x.at(a) + x.at(b)) / 2 for a, b in itertools.pairwise(chosen)), x.end]
    return join(_strip(epoch, left, right, lines, x, y, write)
                for epoch, (left, right) in zip(chosen, itertools.pairwise(edges), strict=True))


def _strip(
    epoch: float, left: float, right: float, lines: Sequence[Line], x: Axis, y: Axis, write: Callable[[float], str]
) -> Html:
    there = [line for line in lines if epoch in line.points]
    numbers = [f"{line.label.partition(',')[0]} {write(line.points[epoch])}" for line in there]
    short = [f"epoch {small(epoch)}", *(numbers if len(numbers) <= MOST_NUMBERS else [])]
    return tag(
        "g",
        tag("rect", x=left, y=0, width=right - left, height=y.start),
        tag("line", x1=x.at(epoch), x2=x.at(epoch), y1=y.end, y2=y.start),
        [tag("circle", cx=x.at(epoch), cy=y.at(line.points[epoch]), r=3.5, class_=line.style) for line in there],
        tag("text", " · ".join(short), x=x.end, y=y.end - 12, class_="end"),
        tag("title", "\n".join([f"epoch {small(epoch)}", *numbers])),
        class_="strip",
    )
