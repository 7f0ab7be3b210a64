"""int8 with the ranges of the moment: an operand's rows have scales of their own, found while the network runs.

A row is what one sum runs over: a token where channels are mixed, a channel where tokens are. Of a row x, `s` is
max |x| / 127, its bytes are `u = round(x / s) + 128`, and a product gives `Σ (u - 128) w * scale * s + shift`, in
float32 and in this order. So nothing is ever cut, and one odd token costs the others nothing. Norms, GELU and what is
between products are float32. The stem sees bytes anyway and is that of `int8.py`; so is how weights are rounded.

Of calibration only the ranges before channel mixing are used, to move scales from channels into weights.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from allmlp.quantize import exact as floats
from allmlp.quantize.arithmetic import Floats, Int8Linear, Sums, accumulate, approximate_sums, normalise
from allmlp.quantize.calibrate import BlockRanges
from allmlp.quantize.choices import Choices
from allmlp.quantize.exact import activate, turned
from allmlp.quantize.int8 import MIDDLE, Left, Sample, centred, fitted, linear, migrate, of_both
from allmlp.quantize.parts import BlockParts, GMLPParts, Linear, MixerParts, Norm

LEAST = np.array(1e-12, np.float32)  # the largest magnitude of a row that is nothing
STEP = np.array(1 / 127, np.float32)


@dataclass(frozen=True)
class DynamicMixer:
    norm1: Norm
    tokens1: Int8Linear
    tokens2: Int8Linear
    norm2: Norm
    channels1: Int8Linear
    channels2: Int8Linear
    gelu: Literal["erf", "tanh"]


@dataclass(frozen=True)
class DynamicResMLP:
    norm1: Norm
    tokens: Int8Linear
    column_scale: np.ndarray  # (C,) float32
    shift: np.ndarray  # (S, C) float32
    norm2: Norm
    channels1: Int8Linear
    channels2: Int8Linear
    gelu: Literal["erf", "tanh"]


@dataclass(frozen=True)
class DynamicGMLP:
    norm1: Norm
    carrier: Int8Linear
    gate: Int8Linear
    norm2: Norm
    tokens: Int8Linear
    out: Int8Linear
    gelu: Literal["erf", "tanh"]


DynamicBlock = DynamicMixer | DynamicResMLP | DynamicGMLP


def to_rows(x: Floats) -> tuple[np.ndarray, Floats]:
    """Bytes (…, inputs) and the scale of each row (…, 1)."""
    scale = np.maximum(np.abs(x).max(-1, keepdims=True), LEAST) * STEP
    return np.clip(np.rint(x / scale) + MIDDLE, 0, 255).astype(np.uint8), scale


def product(x: Floats, layer: Int8Linear, sums: Sums = accumulate) -> Floats:
    rows, scale = to_rows(x)
    return sums(rows, layer).astype(np.float32) * layer.scale * scale + layer.shift


def mix_tokens(x_SC: Floats, block: DynamicMixer | DynamicResMLP, sums: Sums = accumulate) -> Floats:
    """Token mixing, with what it is added to."""
    normed_CS = turned(normalise(x_SC, block.norm1))
    if isinstance(block, DynamicMixer):
        hidden = activate(product(normed_CS, block.tokens1, sums), block.gelu)
        return x_SC + turned(product(hidden, block.tokens2, sums))
    return x_SC + (turned(product(normed_CS, block.tokens, sums)) * block.column_scale + block.shift)


def mix_channels(x_SC: Floats, block: DynamicMixer | DynamicResMLP, sums: Sums = accumulate) -> Floats:
    """Channel mixing, with what it is added to."""
    hidden = activate(product(normalise(x_SC, block.norm2), block.channels1, sums), block.gelu)
    return x_SC + product(hidden, block.channels2, sums)


def gated(x_SC: Floats, block: DynamicGMLP, sums: Sums = accumulate) -> Floats:
    """A block of gMLP."""
    normed = normalise(x_SC, block.norm1)
    carrier, gate = (activate(product(normed, layer, sums), block.gelu) for layer in (block.carrier, block.gate))
    gates = turned(product(turned(normalise(gate, block.norm2)), block.tokens, sums))
    return x_SC + product(carrier * gates, block.out, sums)


def quantise_for(block: BlockParts, ranges: BlockRanges, choices: Choices, sample: Sample | None,
                 left: Left = (False, False)) -> tuple[DynamicBlock, Sample | None]:
    """A block with dynamic activations, fitted to `sample` where there is one; and the sample behind the block. `left`:
    as of `int8.quantise_for`."""
    if isinstance(block, GMLPParts):
        return _gmlp(block, ranges, choices, sample, left)
    normed = of_both(None if left[0] else sample, lambda x: turned(normalise(x, block.norm1)))
    if isinstance(block, MixerParts):
        first, inner = _fitted(block.tokens1, block.tokens1, normed)
        second, out = _fitted(block.tokens2, block.tokens2, of_both(inner, lambda x: activate(x, block.gelu)))
        behind = of_both(out, turned)
    else:
        layer = Linear(block.tokens, np.zeros(len(block.tokens)))
        first, out = _fitted(layer, layer, normed)
        second = first
        behind = of_both(out, lambda x: (turned(x) * block.column_scale + block.shift).astype(np.float32))
    sample = of_both(sample, lambda x: floats.mix_tokens(x, block)) if left[0] else _sum(sample, behind)
    norm2, (moved,) = _moved(block.norm2, ranges, choices, block.channels1)
    x = None if left[1] else sample
    normed = x and Sample(normalise(x.exact, block.norm2), normalise(x.quantised, norm2))
    channels1, inner = _fitted(block.channels1, moved, normed)
    channels2, out = _fitted(block.channels2, block.channels2, of_both(inner, lambda x: activate(x, block.gelu)))
    sample = of_both(sample, lambda x: floats.mix_channels(x, block)) if left[1] else _sum(sample, out)
    if isinstance(block, MixerParts):
        return DynamicMixer(block.norm1, first, second, norm2, channels1, channels2, block.gelu), sample
    return DynamicResMLP(block.norm1, first, block.column_scale.astype(np.float32), block.shift.astype(np.float32),
                         norm2, channels1, channels2, block.gelu), sample


def _gmlp(block: GMLPParts, ranges: BlockRanges, choices: Choices, sample: Sample | None, left: Left
          ) -> tuple[DynamicGMLP, Sample | None]:
    norm1, moved = _moved(block.norm1, ranges, choices, block.carrier, block.gate)
    x = None if left[0] else sample
    normed = x and Sample(normalise(x.exact, block.norm1), normalise(x.quantised, norm1))
    carrier, carried = _fitted(block.carrier, moved[0], normed)
    gate, gating = _fitted(block.gate, moved[1], normed)
    carried, gating = (of_both(each, lambda x: activate(x, block.gelu)) for each in (carried, gating))
    tokens, gates = _fitted(block.tokens, block.tokens, of_both(gating, lambda x: turned(normalise(x, block.norm2))))
    both = carried and gates and Sample(carried.exact * turned(gates.exact),
                                        carried.quantised * turned(gates.quantised))
    out, behind = _fitted(block.out, block.out, both)
    sample = of_both(sample, lambda x: floats.gated(x, block)) if left[0] else _sum(sample, behind)
    return DynamicGMLP(norm1, carrier, gate, block.norm2, tokens, out, block.gelu), sample


def _moved(norm: Norm, ranges: BlockRanges, choices: Choices, *layers: Linear) -> tuple[Norm, list[Linear]]:
    """The norm before layers over channels and these layers, scales and centres moved from the one to the others."""
    around = [centred(layer, ranges.channels_centre) for layer in layers]
    factor, _, moved = migrate(ranges.channels_in, *around, strength=choices.migrate)
    return Norm(norm.epsilon, norm.scale / factor, (norm.shift - ranges.channels_centre) / factor), moved


def _fitted(layer: Linear, moved: Linear, x: Sample | None) -> tuple[Int8Linear, Sample | None]:
    """`moved`, which is `layer` as it meets the operand, in int8; and what comes out."""
    if x is None:
        return linear(moved, 1.0, MIDDLE), None
    (rows, scale), out = to_rows(x.quantised), floats.linear(x.exact, layer)
    found = fitted(moved, 1.0, MIDDLE, rows, out, scale)
    return found, Sample(out, product(x.quantised, found, approximate_sums))


def _sum(one: Sample | None, other: Sample | None) -> Sample | None:
    return one and other and Sample(one.exact + other.exact, one.quantised + other.quantised)
