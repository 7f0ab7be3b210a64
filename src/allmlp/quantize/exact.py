"""The same layers in float: what int8 is fitted to and compared with, and how layers run that stay in float beside it.

Tokens (N, S, C). `stored`: how weights and operands of products are kept, in float32 as they are, or in bf16
(`arithmetic.rounded_to_bf16`); all else is float32.
"""

from collections.abc import Callable

import numpy as np

from allmlp.quantize.arithmetic import Floats, normalise
from allmlp.quantize.parts import GMLPParts, Linear, MixerParts, Parts, ResMLPParts
from allmlp.quantize.tables import gelu

Stored = Callable[[np.ndarray], Floats]


def as_float32(values: np.ndarray) -> Floats:
    return values.astype(np.float32, copy=False)


def turned(values: np.ndarray) -> np.ndarray:
    """(…, S, C) to (…, C, S)."""
    return values.swapaxes(-1, -2)


def linear(x: Floats, layer: Linear, stored: Stored = as_float32) -> Floats:
    return stored(x) @ stored(layer.weight).T + layer.bias.astype(np.float32)


def activate(x: Floats, kind: str) -> Floats:
    if x.ndim < 3:
        return gelu(x, kind).astype(np.float32)
    result = np.empty_like(x, dtype=np.float32)
    for one, its in zip(x, result, strict=True):  # image by image: GELU takes float64, several times
        its[...] = gelu(one, kind)
    return result


def mix_tokens(x_NSC: Floats, block: MixerParts | ResMLPParts, stored: Stored = as_float32) -> Floats:
    """Token mixing, with what it is added to."""
    normed_NCS = turned(normalise(x_NSC, block.norm1))
    if isinstance(block, MixerParts):
        hidden = activate(linear(normed_NCS, block.tokens1, stored), block.gelu)
        return x_NSC + turned(linear(hidden, block.tokens2, stored))
    mixed = turned(stored(normed_NCS) @ stored(block.tokens).T)
    return x_NSC + (mixed * block.column_scale + block.shift).astype(np.float32)


def mix_channels(x_NSC: Floats, block: MixerParts | ResMLPParts, stored: Stored = as_float32) -> Floats:
    """Channel mixing, with what it is added to."""
    hidden = activate(linear(normalise(x_NSC, block.norm2), block.channels1, stored), block.gelu)
    return x_NSC + linear(hidden, block.channels2, stored)


def gated(x_NSC: Floats, block: GMLPParts, stored: Stored = as_float32) -> Floats:
    """A block of gMLP."""
    normed = normalise(x_NSC, block.norm1)
    carrier, gate = (activate(linear(normed, layer, stored), block.gelu) for layer in (block.carrier, block.gate))
    gates = turned(linear(turned(normalise(gate, block.norm2)), block.tokens, stored))
    return x_NSC + linear(carrier * gates, block.out, stored)


def answer(x_NSC: Floats, parts: Parts) -> Floats:
    """Logits (N, K) of the last block's tokens."""
    return linear(normalise(x_NSC, parts.norm).mean(1), parts.head)
