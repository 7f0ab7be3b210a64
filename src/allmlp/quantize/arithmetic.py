"""The steps that our int8 arithmetic consists of (`int8.py` defines it), in numpy, for any leading axes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from allmlp.quantize.parts import Norm

Floats = np.ndarray


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


def normalise(x_SC: Floats, norm: Norm) -> Floats:
    """Of tokens (…, S, C)."""
    y = x_SC.astype(np.float64)
    if norm.epsilon is not None:
        y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + norm.epsilon)
    return (y * norm.scale + norm.shift).astype(np.float32)
