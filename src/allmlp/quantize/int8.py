"""Our int8 arithmetic, defined once; the engine and every export compute exactly this.

- A weight matrix has one scale per output: `w = round(W / s_w)` in [-127, 127], `s_w = max |W| / 127`.
- An operand is a byte `u` in [0, 255] that stands for `(u - zero_point) * s`. Token mixing treats channels one by one,
  so its operand has a scale per channel; the others have one scale for the tensor.
- A sum is a whole number: `acc = Σ (u - zero_point) * w`, exact in int32.
- Sums become numbers in float32, in this order and with two roundings: `acc * scale + shift`.
- GELU is a table of 256: the sum becomes an index, `i = round(acc * scale + shift)` cut to [0, 255], ties to even, and
  `table[i]` is the operand of the next layer. What lies below -4.5 of GELU's argument is 0 to any int8, so the indices
  begin there at the lowest.
- LayerNorm writes `round(y * scale + shift)`, cut to [0, 255]: its own scale and shift with the operand's in them.
- Residuals, norms and the head are float32.

Scales are moved between norms and the linear layers behind them (SmoothQuant, arXiv 2211.10438, α = 1/2), so that a
channel with large values costs the others nothing.
"""

from dataclasses import dataclass
from math import erf

import numpy as np

from allmlp.quantize.calibrate import BlockRanges
from allmlp.quantize.parts import BlockParts, GMLPParts, Linear, MixerParts, Norm, ResMLPParts

MIDDLE = 128  # the zero point of operands that have both signs
LOWEST = -4.5  # GELU(-4.5) = -1.5e-5
TINY = 1e-12  # a range that is nothing


@dataclass(frozen=True)
class Int8Linear:
    """`weight` int8 (outputs, inputs); `scale` and `shift` float32 (outputs,); `zero_point` of what comes in."""

    weight: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    zero_point: int


@dataclass(frozen=True)
class Int8Mixer:
    norm1: Norm
    tokens1: Int8Linear
    column_scale: np.ndarray  # (C,) float32
    tokens_table: np.ndarray  # (256,) uint8
    tokens2: Int8Linear
    norm2: Norm
    channels1: Int8Linear
    channels_table: np.ndarray
    channels2: Int8Linear


@dataclass(frozen=True)
class Int8ResMLP:
    norm1: Norm
    tokens: Int8Linear  # its shift is not used: `shift` is
    column_scale: np.ndarray
    shift: np.ndarray  # (S, C) float32
    norm2: Norm
    channels1: Int8Linear
    channels_table: np.ndarray
    channels2: Int8Linear


@dataclass(frozen=True)
class Int8GMLP:
    """The GELU of gMLP stays in float32, since both halves are needed as numbers; `out_scale` and `out_shift` make the
    gated values an operand."""

    norm1: Norm
    carrier: Int8Linear
    gate: Int8Linear
    norm2: Norm
    tokens: Int8Linear
    column_scale: np.ndarray
    out_scale: float
    out_shift: float
    out: Int8Linear
    gelu: str


Int8Block = Int8Mixer | Int8ResMLP | Int8GMLP


def gelu(x: np.ndarray, kind: str) -> np.ndarray:
    """GELU in float64."""
    if kind == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def quantise_weight(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 (O, I) and the float64 scale of each output."""
    scale = np.maximum(np.abs(weight).max(1), TINY) / 127
    return np.rint(weight / scale[:, None]).astype(np.int8), scale


def linear(layer: Linear, operand_scale: float, zero_point: int) -> Int8Linear:
    """The layer for an operand with one scale; sums times `scale` plus `shift` are the layer's outputs."""
    weight, scale = quantise_weight(layer.weight)
    return Int8Linear(weight, (scale * operand_scale).astype(np.float32), layer.bias.astype(np.float32), zero_point)


def to_index(layer: Int8Linear, low: float, high: float) -> Int8Linear:
    """The same layer with outputs from `low` to `high` as indices 0 to 255."""
    step = np.float32((high - low) / 255)
    return Int8Linear(layer.weight, layer.scale / step, (layer.shift - np.float32(low)) / step, layer.zero_point)


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


def operand(norm: Norm, scale: np.ndarray | float) -> Norm:
    """The norm that writes bytes: `scale` is what one step of a byte stands for, per channel or for all."""
    return Norm(norm.epsilon, norm.scale / scale, norm.shift / scale + MIDDLE)


def migrate(largest: np.ndarray, *layers: Linear) -> tuple[np.ndarray, float, list[Linear]]:
    """By what to divide each channel of an operand and multiply the weights behind it; the operand's scale then.

    `largest` (C,): the largest magnitude of each channel.
    """
    weights = np.maximum.reduce([np.abs(layer.weight).max(0) for layer in layers])
    factor = np.sqrt(np.maximum(largest, TINY) / np.maximum(weights, TINY))
    scale = float(np.max(largest / factor)) / 127
    return factor, max(scale, TINY), [Linear(layer.weight * factor, layer.bias) for layer in layers]


def quantise_block(block: BlockParts, ranges: BlockRanges) -> Int8Block:
    """A block in int8, for activations of the given ranges."""
    if isinstance(block, GMLPParts):
        return _gmlp(block, ranges)
    token_scale = np.maximum(ranges.tokens_in, TINY) / 127
    norm1 = operand(block.norm1, token_scale)
    channels = _channels(block, ranges)
    if isinstance(block, ResMLPParts):
        tokens = linear(Linear(block.tokens, np.zeros(len(block.tokens))), 1.0, MIDDLE)
        column_scale = (block.column_scale * token_scale).astype(np.float32)
        return Int8ResMLP(norm1, tokens, column_scale, block.shift.astype(np.float32), *channels)
    low, high = index_range(*ranges.tokens_hidden)
    table, hidden_scale, zero_point = gelu_table(low, high, block.gelu)
    return Int8Mixer(norm1, to_index(linear(block.tokens1, 1.0, MIDDLE), low, high), token_scale.astype(np.float32),
                     table, linear(block.tokens2, hidden_scale, zero_point), *channels)


def _channels(block: MixerParts | ResMLPParts, ranges: BlockRanges) -> tuple[Norm, Int8Linear, np.ndarray, Int8Linear]:
    factor, scale, (first,) = migrate(ranges.channels_in, block.channels1)
    low, high = index_range(*ranges.channels_hidden)
    table, hidden_scale, zero_point = gelu_table(low, high, block.gelu)
    return (operand(block.norm2, scale * factor), to_index(linear(first, scale, MIDDLE), low, high), table,
            linear(block.channels2, hidden_scale, zero_point))


def _gmlp(block: GMLPParts, ranges: BlockRanges) -> Int8GMLP:
    factor, scale, (carrier, gate) = migrate(ranges.channels_in, block.carrier, block.gate)
    token_scale = np.maximum(ranges.tokens_in, TINY) / 127
    out_scale = max(ranges.channels_hidden[1], TINY) / 127
    return Int8GMLP(
        operand(block.norm1, scale * factor), linear(carrier, scale, MIDDLE), linear(gate, scale, MIDDLE),
        operand(block.norm2, token_scale), linear(block.tokens, 1.0, MIDDLE), token_scale.astype(np.float32),
        1 / out_scale, MIDDLE, linear(block.out, out_scale, MIDDLE), block.gelu,
    )  # fmt: skip
