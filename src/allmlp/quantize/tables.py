"""GELU as a table of 256: from the index of an argument to a byte."""

import numpy as np
from scipy.special import erf

LOWEST = -4.5  # GELU(-4.5) = -1.5e-5
TINY = 1e-12  # a range that is nothing


def gelu(x: np.ndarray, kind: str) -> np.ndarray:
    """GELU in float64."""
    if kind == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def gelu_table(low: float, high: float, kind: str) -> tuple[np.ndarray, float, int]:
    """For indices of arguments from `low` to `high`: the table, and scale and zero point of what stands in it."""
    values = gelu(low + np.arange(256) * (high - low) / 255, kind)
    smallest, largest = min(values.min(), 0.0), max(values.max(), TINY)
    scale = (largest - smallest) / 255
    zero_point = int(np.rint(-smallest / scale))
    return np.clip(np.rint(values / scale) + zero_point, 0, 255).astype(np.uint8), scale, zero_point


def index_range(low: float, high: float) -> tuple[float, float]:
    """The part of GELU's arguments that the table covers."""
    low = min(max(low, LOWEST), -0.5)
    return low, max(high, 0.5)
