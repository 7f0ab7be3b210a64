"""GELU as a table: from the index of an argument to a byte."""

from dataclasses import dataclass

import numpy as np
from scipy.special import erf

LOWEST = -4.5  # GELU(-4.5) = -1.5e-5
TINY = 1e-12  # a range that is nothing
LAST = 255  # the last index that has a byte of its own
ENTRIES = 512  # those behind it are as the last one is, or go on by one


@dataclass(frozen=True)
class Table:
    """`entries` (512,) uint8, of the arguments `low + index * step`; each stands for `(entry - zero_point) * scale`."""

    entries: np.ndarray
    low: float
    step: float
    scale: float
    zero_point: int


def gelu(x: np.ndarray, kind: str) -> np.ndarray:
    """GELU in float64."""
    if kind == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def gelu_table(low: float, high: float, kind: str) -> Table:
    """For arguments from `low` to `high`. Where GELU is its argument, to the byte, before the indices end, they have
    the step of the bytes, and beyond each is one more: there, nothing is rounded twice."""
    values = gelu(low + np.arange(LAST + 1) * (high - low) / LAST, kind)
    smallest, largest = min(values.min(), 0.0), max(values.max(), TINY)
    scale = (largest - smallest) / 255
    zero_point = int(np.rint(-smallest / scale))
    arguments = np.rint(low / scale) + np.arange(ENTRIES)  # in steps
    steps = np.rint(gelu(arguments * scale, kind) / scale)
    if arguments[LAST] * scale < high and (steps[LAST:] == arguments[LAST:]).all():
        return Table(_bytes(steps + zero_point), float(arguments[0] * scale), scale, scale, zero_point)
    entries = _bytes(np.rint(values / scale) + zero_point)
    return Table(np.pad(entries, (0, ENTRIES - LAST - 1), mode="edge"), low, (high - low) / LAST, scale, zero_point)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


def to_entry(values: np.ndarray) -> np.ndarray:
    """Which entry of a table: rounded to nearest, ties to even, cut to [0, 511]."""
    return np.rint(np.clip(values, 0, ENTRIES - 1)).astype(np.uint16)


def index_range(low: float, high: float) -> tuple[float, float]:
    """The part of GELU's arguments that the table covers."""
    low = min(max(low, LOWEST), -0.5)
    return low, max(high, 0.5)
