"""From data to pixels: an axis with round ticks, and the frame of a diagram."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from allmlp.report.markup import Html, join, tag
from allmlp.report.numbers import ticks

WIDTH, HEIGHT = 400, 236  # of a diagram, in its own units; it is scaled to the width there is
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 28, 34  # margins; above is room for a line of numbers


@dataclass(frozen=True)
class Axis:
    """Maps [low, high] to [start, end] pixels; `ticks` lie within."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def fitted_axis(
    values: Iterable[float], start: float, end: float, *, top: float = math.inf, whole: bool = False
) -> Axis:
    """An axis around `values` (at least one) that ends on ticks: multiples of 1, 2 or 5 times a power of ten.

    It starts at 0 unless all values lie in the upper half; it never passes `top`. `whole`: ticks at integers, and the
    axis ends on the values themselves.
    """
    values = list(values)
    low, high = min(values), max(values)
    if whole:
        low, high = (low, high) if high > low else (low - 1, high + 1)
        step = max(1, _step(high - low))
        return Axis(low, high, start, end, _multiples(step, math.ceil(low / step), math.floor(high / step)))
    low = low if low < 0 or low > high / 2 else 0.0
    if high - low <= 1e-9 * abs(high):  # all the same
        low, high = low - abs(low) / 2, high + (abs(high) / 2 or 1)
    high = min(high, top)
    step = _step(high - low)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(tick for tick in _multiples(step, first, last) if tick <= top)
    return Axis(ticks[0], max(ticks[-1], high), start, end, ticks)


def _step(span: float, most: int = 6) -> float:
    """The smallest of 1, 2, 5 times a power of ten that divides `span` into fewer than `most` parts."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) < most)


def _multiples(step: float, first: int, last: int) -> tuple[float, ...]:
    return tuple(float(f"{step * i:.12g}") for i in range(first, last + 1))  # 0.3, not 0.30000000000000004


def frame(x: Axis, y: Axis, x_label: str, unit: str = "") -> Html:
    """Grid lines and numbers of both axes."""
    return join(
        [
            join(
                tag("line", x1=x.start, x2=x.end, y1=y.at(tick), y2=y.at(tick), class_="grid"),
                tag("text", text + unit, x=x.start - 7, y=y.at(tick) + 4, class_="end"),
            )
            for tick, text in zip(y.ticks, ticks(y.ticks), strict=True)
        ],
        [tag("text", text, x=x.at(tick), y=y.start + 16, class_="middle")
         for tick, text in zip(x.ticks, ticks(x.ticks), strict=True)],
        tag("text", x_label, x=(x.start + x.end) / 2, y=y.start + 31, class_="middle"),
    )
