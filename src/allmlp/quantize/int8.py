"""Our int8 arithmetic, defined once; the engine and every export compute exactly this.

- A weight matrix has one scale per output: `w = round(W / s_w)` in [-127, 127], `s_w = max |W| / 127`.
- An operand is a byte `u` in [0, 255] that stands for `(u - zero_point) * s`. Token mixing treats channels one by one,
  so its operand has a scale per channel; the others have one scale for the tensor.
- A sum is a whole number: `acc = Σ (u - zero_point) * w`, exact in int32.
- Sums become numbers in float32, in this order and with two roundings: `acc * scale + shift`.
- GELU is a table of 512: the sum becomes an index, `i = round(acc * scale + shift)` cut to [0, 511], ties to even, and
  `table[i]` is the operand of the next layer. Behind a layer over channels that is one rounding: there the shift is of
  whole numbers, `round((acc + start) * scale + whole)` (`arithmetic.index_constants`), so that little is left to do.
  What lies below -4.5 of GELU's argument is 0 to any int8, so the indices begin there at the lowest. From 255 on all
  entries are the same, or each is one more than the one before, up to 255: GELU is its argument there, and an index
  with the step of the bytes is the byte, so that nothing is rounded twice.
- LayerNorm writes `round(y * scale + shift)`, cut to [0, 255]: its own scale and shift with the operand's in them.
- Residuals, norms and the head are float32.

What makes it precise is multiplied out beforehand, so that kernels know nothing of it:

- Scales are moved between norms and the linear layers over channels behind them (SmoothQuant, arXiv 2211.10438), so
  that a channel with large values costs the others nothing; and each channel's range is centred, what that takes away
  being a constant in the layer's bias (Outlier Suppression+, arXiv 2304.09145).
- Token mixing has a scale per channel anyway. Centring would add to each sum what belongs to its token and its channel:
  ResMLP has a table for that, Mixer and gMLP do not. Scales per token can't be moved at all: what is before is divided
  by a token's own deviation, which takes them out again.
- Weights are rounded for sums of real activations (`rounding.py`), and what a layer loses on average over these is
  added to its shift.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from allmlp.quantize import exact as floats
from allmlp.quantize.arithmetic import Int8Linear, apply, approximate_sums, index_constants, normalise, to_byte
from allmlp.quantize.calibrate import BlockRanges
from allmlp.quantize.choices import Choices
from allmlp.quantize.exact import activate, turned
from allmlp.quantize.exact import linear as exact_linear
from allmlp.quantize.parts import BlockParts, GMLPParts, Linear, MixerParts, Norm, ResMLPParts
from allmlp.quantize.rounding import compensated
from allmlp.quantize.tables import TINY, Table, gelu_table, index_range, to_entry

MIDDLE = 128  # the zero point of operands that have both signs


@dataclass(frozen=True)
class Int8Mixer:
    norm1: Norm
    tokens1: Int8Linear
    column_scale: np.ndarray  # (C,) float32
    tokens_table: np.ndarray  # (512,) uint8
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


@dataclass(frozen=True)
class Sample:
    """Tokens (N, S, C) float32 before a block: `exact`, and as they are where all before it is int8."""

    exact: np.ndarray
    quantised: np.ndarray


def quantise_weight(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 (O, I) and the float64 scale of each output."""
    scale = np.maximum(np.abs(weight).max(1), TINY) / 127
    return np.rint(weight / scale[:, None]).astype(np.int8), scale


def linear(layer: Linear, operand_scale: float, zero_point: int) -> Int8Linear:
    """The layer for an operand with one scale; sums times `scale` plus `shift` are the layer's outputs."""
    weight, scale = quantise_weight(layer.weight)
    return Int8Linear(weight, (scale * operand_scale).astype(np.float32), layer.bias.astype(np.float32), zero_point)


def fitted(layer: Linear, operand_scale: float, zero_point: int, operands: np.ndarray, exact: np.ndarray,
           column_scale: np.ndarray | float = 1.0) -> Int8Linear:
    """The same, with weights rounded for `operands`, bytes (…, inputs), and a shift that makes the outputs' mean that
    of `exact` (…, outputs). `column_scale`: of each row of operands, where they have their own."""
    nearest = linear(layer, operand_scale, zero_point)
    numbers = (operands.astype(np.float32) - zero_point) * column_scale
    weight = compensated(layer.weight, nearest.scale.astype(np.float64) / operand_scale,
                         numbers.reshape(-1, numbers.shape[-1]))
    rounded = replace(nearest, weight=weight)
    outputs = approximate_sums(operands, rounded) * rounded.scale * column_scale + rounded.shift
    lost = (exact - outputs).reshape(-1, outputs.shape[-1]).mean(0, dtype=np.float64)
    return replace(rounded, shift=(rounded.shift + lost).astype(np.float32))


def to_index(layer: Int8Linear, table: Table) -> Int8Linear:
    """The same layer with outputs that are indices of the table."""
    step = np.float32(table.step)
    return replace(layer, scale=layer.scale / step, shift=(layer.shift - np.float32(table.low)) / step)


def counted(layer: Int8Linear) -> Int8Linear:
    """The same layer for indices, with the shift that its whole numbers make, for whoever adds it in another way."""
    scale, start, whole = index_constants(layer.scale, layer.shift)
    return replace(layer, scale=scale.astype(np.float32), shift=(start * scale + whole).astype(np.float32))


def operand(norm: Norm, scale: np.ndarray | float, centre: np.ndarray | float = 0.0) -> Norm:
    """The norm that writes bytes: `scale` is what one step of a byte stands for, per channel or for all, and `centre`
    the number that the middle byte stands for."""
    return Norm(norm.epsilon, norm.scale / scale, (norm.shift - centre) / scale + MIDDLE)


def migrate(largest: np.ndarray, *layers: Linear, strength: float = 0.5) -> tuple[np.ndarray, float, list[Linear]]:
    """By what to divide each channel of an operand and multiply the weights behind it; the operand's scale then.

    `largest` (C,): the largest magnitude of each channel. `strength`: as `Choices.migrate`.
    """
    weights = np.maximum.reduce([np.abs(layer.weight).max(0) for layer in layers])
    factor = np.maximum(largest, TINY) ** strength / np.maximum(weights, TINY) ** (1 - strength)
    scale = float(np.max(largest / factor)) / 127
    return factor, max(scale, TINY), [Linear(layer.weight * factor, layer.bias) for layer in layers]


Left = tuple[bool, bool]  # whether token mixing and channel mixing stay in float


def quantise_for(block: BlockParts, ranges: BlockRanges, choices: Choices, sample: Sample | None,
                 left: Left = (False, False)) -> tuple[Int8Block, Sample | None]:
    """A block in int8, fitted to `sample`, else with weights rounded to nearest; and the sample behind the block.

    `left`: what will run in float all the same. It is not fitted, and what is behind it meets its floats."""
    if isinstance(block, GMLPParts):
        return _gmlp(block, ranges, choices, sample, left)
    if isinstance(block, ResMLPParts):
        return _resmlp(block, ranges, choices, sample, left)
    return _mixer(block, ranges, choices, sample, left)


def of_both(sample: Sample | None, step: Callable[[np.ndarray], np.ndarray]) -> Sample | None:
    """What `step` makes of both: with a layer in float, the sample behind it."""
    return sample and Sample(step(sample.exact), step(sample.quantised))


@dataclass(frozen=True)
class Seen:
    """What a layer takes: `exact`, and as bytes, each row of them with its own `scale` where that is not 1."""

    exact: np.ndarray
    operands: np.ndarray
    scale: np.ndarray | float = 1.0


def _mlp(first: tuple[Linear, float], second: Linear, arguments: tuple[float, float], kind: str, seen: Seen | None,
         exact_first: Linear) -> tuple[Int8Linear, np.ndarray, Int8Linear, tuple[np.ndarray, np.ndarray] | None]:
    """Two layers with GELU between them: the first for indices, its table, the second; and what comes out for `seen`,
    exactly and in int8. `first`: the layer as it meets the operand, and the operand's scale."""
    table = gelu_table(*index_range(*arguments), kind)
    entries, scale, zero_point = table.entries, table.scale, table.zero_point
    if seen is None:
        return to_index(linear(*first, MIDDLE), table), entries, linear(second, scale, zero_point), None
    inner = exact_linear(seen.exact, exact_first)
    one = to_index(fitted(*first, MIDDLE, seen.operands, inner, seen.scale), table)
    hidden = entries[to_entry(approximate_sums(seen.operands, one) * one.scale * seen.scale + one.shift)]
    outer = exact_linear(activate(inner, kind), second)
    two = fitted(second, scale, zero_point, hidden, outer)
    return one, entries, two, (outer, apply(hidden, two, approximate_sums))


def _mixer(block: MixerParts, ranges: BlockRanges, choices: Choices, sample: Sample | None, left: Left
           ) -> tuple[Int8Mixer, Sample | None]:
    token_scale = np.maximum(ranges.tokens_in, TINY) / 127
    norm1 = operand(block.norm1, token_scale)
    seen = None
    if sample is not None and not left[0]:
        seen = Seen(turned(normalise(sample.exact, block.norm1)), turned(to_byte(normalise(sample.quantised, norm1))),
                    token_scale[:, None].astype(np.float32))
    one, table, two, out = _mlp((block.tokens1, 1.0), block.tokens2, ranges.tokens_hidden, block.gelu, seen,
                                block.tokens1)
    if sample is not None and out is not None:
        sample = Sample(sample.exact + turned(out[0]), sample.quantised + turned(out[1]))
    if left[0]:
        sample = of_both(sample, lambda x: floats.mix_tokens(x, block))
    norm2, channels1, channels_table, channels2, sample = _channels(block, ranges, choices, sample, left)
    return Int8Mixer(norm1, one, token_scale.astype(np.float32), table, two, norm2, channels1, channels_table,
                     channels2), sample


def _channels(block: MixerParts | ResMLPParts, ranges: BlockRanges, choices: Choices, sample: Sample | None, left: Left
              ) -> tuple[Norm, Int8Linear, np.ndarray, Int8Linear, Sample | None]:
    middle = centred(block.channels1, ranges.channels_centre)
    factor, scale, (first,) = migrate(ranges.channels_in, middle, strength=choices.migrate)
    norm2 = operand(block.norm2, scale * factor, ranges.channels_centre)
    seen = None
    if sample is not None and not left[1]:
        seen = Seen(normalise(sample.exact, block.norm2), to_byte(normalise(sample.quantised, norm2)))
    one, table, two, out = _mlp((first, scale), block.channels2, ranges.channels_hidden, block.gelu, seen,
                                block.channels1)
    if sample is not None and out is not None:
        sample = Sample(sample.exact + out[0], sample.quantised + out[1])
    if left[1]:
        sample = of_both(sample, lambda x: floats.mix_channels(x, block))
    return norm2, counted(one), table, two, sample


def centred(layer: Linear, centre: np.ndarray | float) -> Linear:
    """The layer for an operand from which `centre` (inputs,) was taken."""
    return Linear(layer.weight, layer.bias + layer.weight @ np.broadcast_to(centre, layer.weight.shape[1]))


def _resmlp(block: ResMLPParts, ranges: BlockRanges, choices: Choices, sample: Sample | None, left: Left
            ) -> tuple[Int8ResMLP, Sample | None]:
    token_scale = np.maximum(ranges.tokens_in, TINY) / 127
    centre = np.broadcast_to(ranges.tokens_centre, token_scale.shape)
    norm1 = operand(block.norm1, token_scale, centre)
    layer = Linear(block.tokens, np.zeros(len(block.tokens)))
    shift = block.shift + np.outer(block.tokens.sum(1), block.column_scale * centre)
    column_scale = (block.column_scale * token_scale).astype(np.float32)
    tokens = linear(layer, 1.0, MIDDLE)
    if left[0]:
        sample = of_both(sample, lambda x: floats.mix_tokens(x, block))
    elif sample is not None:
        operands = turned(to_byte(normalise(sample.quantised, norm1)))
        exact = turned(normalise(sample.exact, block.norm1))
        tokens = fitted(layer, 1.0, MIDDLE, operands, exact_linear(exact - centre[:, None].astype(np.float32), layer),
                        token_scale[:, None].astype(np.float32))
        tokens = replace(tokens, shift=np.zeros_like(tokens.shift))
        mixed = turned(approximate_sums(operands, tokens) * tokens.scale) * column_scale
        wanted = turned(exact_linear(exact, layer)) * block.column_scale + block.shift
        shift = shift + (wanted - mixed - shift).mean(0)
        sample = Sample((sample.exact + wanted).astype(np.float32),
                        (sample.quantised + mixed + shift).astype(np.float32))
    norm2, channels1, channels_table, channels2, sample = _channels(block, ranges, choices, sample, left)
    return Int8ResMLP(norm1, tokens, column_scale, shift.astype(np.float32), norm2, channels1, channels_table,
                      channels2), sample


def _gmlp(block: GMLPParts, ranges: BlockRanges, choices: Choices, sample: Sample | None, left: Left
          ) -> tuple[Int8GMLP, Sample | None]:
    factor, scale, layers = migrate(ranges.channels_in, *(centred(layer, ranges.channels_centre)
                                                          for layer in (block.carrier, block.gate)),
                                    strength=choices.migrate)  # fmt: skip
    norm1 = operand(block.norm1, scale * factor, ranges.channels_centre)
    token_scale = np.maximum(ranges.tokens_in, TINY) / 127
    norm2 = operand(block.norm2, token_scale)
    low, high = min(ranges.channels_hidden[0], 0.0), max(ranges.channels_hidden[1], TINY)
    out_scale = (high - low) / 255
    zero_point = int(np.rint(-low / out_scale))
    if sample is None or left[0]:
        sample = of_both(sample, lambda x: floats.gated(x, block))
        carrier, gate = (linear(layer, scale, MIDDLE) for layer in layers)
        tokens, out = linear(block.tokens, 1.0, MIDDLE), linear(block.out, out_scale, zero_point)
    else:
        operands, exact = to_byte(normalise(sample.quantised, norm1)), normalise(sample.exact, block.norm1)
        inner = [exact_linear(exact, layer) for layer in (block.carrier, block.gate)]
        carrier, gate = (fitted(layer, scale, MIDDLE, operands, arguments)
                         for layer, arguments in zip(layers, inner, strict=True))
        exact_carrier, exact_gate = (activate(arguments, block.gelu) for arguments in inner)
        carried, gating = (activate(apply(operands, layer, approximate_sums), block.gelu)
                           for layer in (carrier, gate))
        column = token_scale[:, None].astype(np.float32)
        gating_bytes = turned(to_byte(normalise(gating, norm2)))
        mixed = exact_linear(turned(normalise(exact_gate, block.norm2)), block.tokens)
        tokens = fitted(block.tokens, 1.0, MIDDLE, gating_bytes, mixed, column)
        gates = turned(approximate_sums(gating_bytes, tokens) * tokens.scale * column + tokens.shift)
        gated = to_byte(gates * carried / out_scale + zero_point)
        wanted = exact_linear(exact_carrier * turned(mixed), block.out)
        out = fitted(block.out, out_scale, zero_point, gated, wanted)
        sample = Sample(sample.exact + wanted,
                        sample.quantised + apply(gated, out, approximate_sums))
    return Int8GMLP(norm1, carrier, gate, norm2, tokens, token_scale.astype(np.float32), 1 / out_scale,
                    float(zero_point), out, block.gelu), sample
