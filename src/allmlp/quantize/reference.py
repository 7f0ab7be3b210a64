"""int8 in plain numpy: what the engine has to compute, to the bit where numbers are whole. Slow; for tests and checks.
Layers that stay in float beside it are those of `exact.py`.

Axes: S tokens, C channels, F hidden, K classes; any axes may stand before. All floats are float32, as in the engine.
`sums`: how products are summed, `arithmetic.approximate_sums` where a look is enough.
"""

import numpy as np

from allmlp.quantize import dynamic, exact
from allmlp.quantize.arithmetic import Floats, Int8Linear, Sums, accumulate, apply, indices, normalise, to_byte
from allmlp.quantize.dynamic import DynamicGMLP, DynamicMixer, DynamicResMLP
from allmlp.quantize.int8 import Int8GMLP, Int8Mixer, Int8ResMLP
from allmlp.quantize.network import Int8Network, QuantisedBlock
from allmlp.quantize.parts import PIXEL_CENTRE, GMLPParts, MixerParts, ResMLPParts
from allmlp.quantize.tables import gelu, to_entry


def mix_tokens(x_SC: Floats, block: QuantisedBlock, sums: Sums = accumulate) -> Floats:
    """Token mixing, with what it is added to."""
    if isinstance(block, DynamicMixer | DynamicResMLP):
        return dynamic.mix_tokens(x_SC, block, sums)
    assert isinstance(block, Int8Mixer | Int8ResMLP)
    operand_CS = to_byte(normalise(x_SC, block.norm1)).swapaxes(-1, -2)
    if isinstance(block, Int8Mixer):
        scaled = sums(operand_CS, block.tokens1).astype(np.float32) * block.tokens1.scale * block.column_scale[:, None]
        hidden = block.tokens_table[to_entry(scaled + block.tokens1.shift)]
        return x_SC + apply(hidden, block.tokens2, sums).swapaxes(-1, -2)
    scaled = sums(operand_CS, block.tokens).astype(np.float32) * block.tokens.scale * block.column_scale[:, None]
    return x_SC + (scaled.swapaxes(-1, -2) + block.shift)


def mix_channels(x_SC: Floats, block: QuantisedBlock, sums: Sums = accumulate) -> Floats:
    """Channel mixing, with what it is added to: norm, linear, GELU, linear."""
    if isinstance(block, DynamicMixer | DynamicResMLP):
        return dynamic.mix_channels(x_SC, block, sums)
    assert isinstance(block, Int8Mixer | Int8ResMLP)
    operand_SC = to_byte(normalise(x_SC, block.norm2))
    hidden = block.channels_table[to_entry(indices(operand_SC, block.channels1, sums))]
    return x_SC + apply(hidden, block.channels2, sums)


def gated(x_SC: Floats, block: QuantisedBlock, sums: Sums = accumulate) -> Floats:
    """A block of gMLP."""
    if isinstance(block, DynamicGMLP):
        return dynamic.gated(x_SC, block, sums)
    assert isinstance(block, Int8GMLP)
    operand = to_byte(normalise(x_SC, block.norm1))
    carrier, gate = (gelu(apply(operand, layer, sums).astype(np.float64), block.gelu).astype(np.float32)
                     for layer in (block.carrier, block.gate))
    mixed_FS = sums(to_byte(normalise(gate, block.norm2)).swapaxes(-1, -2), block.tokens).astype(np.float32)
    gates = (mixed_FS * block.tokens.scale * block.column_scale[:, None] + block.tokens.shift).swapaxes(-1, -2)
    out = to_byte(gates * carrier * np.float32(block.out_scale) + np.float32(block.out_shift))
    return x_SC + apply(out, block.out, sums)


def logits(network: Int8Network, images: np.ndarray, stored: exact.Stored = exact.as_float32) -> Floats:
    """uint8 `(N, H, W, 3)` to float32 `(N, K)`. `stored`: how layers that stay in float keep their operands."""
    results = []
    for image in images:
        pixels_SP = network.parts.rows_of(image[None])[0]
        if isinstance(network.used_stem, Int8Linear):
            x_SC = apply(pixels_SP, network.used_stem)
        else:
            x_SC = exact.linear(pixels_SP.astype(np.float32) - PIXEL_CENTRE, network.used_stem, stored)
        for over_tokens, over_channels in network.halves:
            if isinstance(over_tokens, GMLPParts):
                x_SC = exact.gated(x_SC, over_tokens, stored)
                continue
            if isinstance(over_tokens, Int8GMLP | DynamicGMLP):
                x_SC = gated(x_SC, over_tokens)
                continue
            x_SC = (exact.mix_tokens(x_SC, over_tokens, stored) if isinstance(over_tokens, MixerParts | ResMLPParts)
                    else mix_tokens(x_SC, over_tokens))
            if isinstance(over_channels, MixerParts | ResMLPParts):
                x_SC = exact.mix_channels(x_SC, over_channels, stored)
            else:
                assert not isinstance(over_channels, GMLPParts)
                x_SC = mix_channels(x_SC, over_channels)
        results.append(exact.answer(x_SC[None], network.parts)[0])
    return np.array(results, dtype=np.float32).reshape(len(images), len(network.parts.head.bias))
