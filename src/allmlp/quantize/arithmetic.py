"""The steps that our int8 arithmetic consists of (`int8.py` defines it), in numpy, for any leading axes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from allmlp.quantize.parts import Norm

Floats = np.ndarray
WHOLE = 1.5 * 2**23  # float32 that this is a part of have no fraction
LEAST_SCALE = np.float32(2**-24)


@dataclass(frozen=True)
class Int8Linear:
    """`weight` int8 (outputs, inputs); `scale` and `shift` float32 (outputs,); `zero_point` of what comes in."""

    weight: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    zero_point: int


Sums = Callable[[np.ndarray, Int8Linear], np.ndarray]


def accumulate(operand: np.ndarray, layer: Int8Linear) -> np.ndarray:
    """Bytes (…, inputs) to int32 sums (…, outputs)."""
    return (operand.astype(np.int32) - layer.zero_point) @ layer.weight.astype(np.int32).T


def approximate_sums(operand: np.ndarray, layer: Int8Linear) -> Floats:
    """The same in float32, which rounds sums beyond 2^24, but quickly."""
    return (operand.astype(np.float32) - layer.zero_point) @ layer.weight.astype(np.float32).T


def rounded_to_bf16(values: np.ndarray) -> Floats:
    """Finite numbers as float32 with the 8 bits of mantissa that bf16 has, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)


def to_byte(values: Floats) -> np.ndarray:
    """Rounded to nearest, ties to even, cut to [0, 255]."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def apply(operand: np.ndarray, layer: Int8Linear,
          sums: Sums = accumulate) -> Floats:
    """Bytes (…, inputs) to the layer's outputs."""
    return sums(operand, layer).astype(np.float32) * layer.scale + layer.shift


def indices(operand: np.ndarray, layer: Int8Linear, sums: Sums = accumulate) -> np.ndarray:
    """Bytes (…, inputs) to the whole numbers that the layer's outputs are rounded to, once, ties to even."""
    scale, start, whole = index_constants(layer.scale, layer.shift)
    whole_sums = (sums(operand, layer).astype(np.float64) + start).astype(np.float32)
    return np.rint(whole_sums.astype(np.float64) * scale + whole)  # the product is exact


def index_constants(scale: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`scale`, `start` and `whole` of `round((acc + start) * scale + whole)`, float64 like `scale` and `shift`.

    A whole and an even number make up the shift, to half a step of the sums. (acc + start) is near `WHOLE`, so that the
    engine's sums can be floats from the beginning (native/src/indices.h)."""
    scale = np.maximum(scale.astype(np.float32), LEAST_SCALE).astype(np.float64)
    shift = shift.astype(np.float32).astype(np.float64)
    whole = (2 * np.rint((shift - WHOLE * scale) / 2) + WHOLE).astype(np.float32).astype(np.float64)
    return scale, np.rint((shift + WHOLE - whole) / scale), whole - WHOLE


def normalise(x_SC: Floats, norm: Norm) -> Floats:
    """Of tokens (…, S, C)."""
    y = x_SC.astype(np.float64)
    if norm.epsilon is not None:
        y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + norm.epsilon)
    return (y * norm.scale + norm.shift).astype(np.float32)
