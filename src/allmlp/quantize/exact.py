"""The same layers in float32: what int8 is fitted to and compared with. Tokens (N, S, C)."""

import numpy as np

from allmlp.quantize.arithmetic import Floats, normalise
from allmlp.quantize.parts import BlockParts, GMLPParts, Linear, MixerParts, Parts, ResMLPParts
from allmlp.quantize.tables import gelu


def turned(values: np.ndarray) -> np.ndarray:
    """(…, S, C) to (…, C, S)."""
    return values.swapaxes(-1, -2)


def linear(x: Floats, layer: Linear) -> Floats:
    return x @ layer.weight.astype(np.float32).T + layer.bias.astype(np.float32)


def activate(x: Floats, kind: str) -> Floats:
    return gelu(x, kind).astype(np.float32)


def mix_tokens(x_NSC: Floats, block: MixerParts | ResMLPParts) -> Floats:
    """Token mixing, with what it is added to."""
    normed_NCS = turned(normalise(x_NSC, block.norm1))
    if isinstance(block, MixerParts):
        hidden = activate(linear(normed_NCS, block.tokens1), block.gelu)
        return x_NSC + turned(linear(hidden, block.tokens2))
    mixed = turned(normed_NCS @ block.tokens.astype(np.float32).T)
    return x_NSC + (mixed * block.column_scale + block.shift).astype(np.float32)


def mix_channels(x_NSC: Floats, block: MixerParts | ResMLPParts) -> Floats:
    """Channel mixing, with what it is added to."""
    hidden = activate(linear(normalise(x_NSC, block.norm2), block.channels1), block.gelu)
    return x_NSC + linear(hidden, block.channels2)


def gated(x_NSC: Floats, block: GMLPParts) -> Floats:
    """A block of gMLP."""
    normed = normalise(x_NSC, block.norm1)
    carrier, gate = (activate(linear(normed, layer), block.gelu) for layer in (block.carrier, block.gate))
    gates = turned(linear(turned(normalise(gate, block.norm2)), block.tokens))
    return x_NSC + linear(carrier * gates, block.out)


def run_block(x_NSC: Floats, block: BlockParts) -> Floats:
    return gated(x_NSC, block) if isinstance(block, GMLPParts) else mix_channels(mix_tokens(x_NSC, block), block)


def answer(x_NSC: Floats, parts: Parts) -> Floats:
    """Logits (N, K) of the last block's tokens."""
    return linear(normalise(x_NSC, parts.norm).mean(1), parts.head)
