"""Numbers as they stand on the page. Between a number and its unit is a narrow space that does not break the line."""

import math
from collections.abc import Sequence
from typing import Any

SPACE = "\N{NARROW NO-BREAK SPACE}"
NOTHING = "–"


def percent(value: float | None, digits: int = 1) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}{SPACE}%"


def count(value: int) -> str:
    """1234567 as 1,234,567."""
    return f"{value:,}"


def large(value: float) -> str:
    """Three significant digits with k, M, G or T."""
    power = 0
    while power < 4 and float(f"{value:.3g}") >= 1000:  # rounded first: 999,960 is 1.00 M, not 1000 k
        value, power = value / 1000, power + 1
    if power == 0:
        return f"{value:.3g}"
    digits = f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}"
    return f"{digits}{SPACE}{'kMGT'[power - 1]}"


def small(value: float) -> str:
    """Four significant digits, exponents below a thousandth and without padding: 0.3125, 2.5e-4."""
    return _exponent(f"{value:.3e}" if 0 < abs(value) < 1e-3 else f"{value:.4g}")


def _exponent(text: str) -> str:
    mantissa, e, exponent = text.partition("e")
    return f"{float(mantissa):g}e{int(exponent)}" if e else mantissa


def ticks(values: Sequence[float]) -> list[str]:
    """The numbers of an axis, all in one notation."""
    if 0 < max(map(abs, values), default=0) < 0.01:
        return [_exponent(f"{value:.3e}") if value else "0" for value in values]
    return [small(value) for value in values]


def duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours}{SPACE}h {minutes}{SPACE}min"
    return f"{minutes}{SPACE}min {whole % 60}{SPACE}s" if minutes else f"{seconds:.3g}{SPACE}s"


def known(value: Any) -> float | None:
    """A finite number, or None: rows of a history may lack values, or hold NaN."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None
