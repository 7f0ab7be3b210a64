"""int8 in plain numpy: what the engine has to compute, to the bit where numbers are whole. Slow; for tests and checks.

Axes: S tokens, C channels, F hidden, K classes; any axes may stand before. All floats are float32, as in the engine.
`sums`: how products are summed, `arithmetic.approximate_sums` where a look is enough.
"""

from collections.abc import Callable

import numpy as np

from allmlp.quantize.arithmetic import Floats, Int8Linear, accumulate, apply, normalise, to_byte
from allmlp.quantize.int8 import Int8Block, Int8GMLP, Int8Mixer, Int8ResMLP, linear
from allmlp.quantize.parts import PIXEL_CENTRE, Parts
from allmlp.quantize.tables import gelu

Sums = Callable[[np.ndarray, Int8Linear], np.ndarray]


def run_block(x_SC: Floats, block: Int8Block, sums: Sums = accumulate) -> Floats:
    if isinstance(block, Int8GMLP):
        return gated(x_SC, block, sums)
    return mix_channels(mix_tokens(x_SC, block, sums), block, sums)


def mix_tokens(x_SC: Floats, block: Int8Mixer | Int8ResMLP, sums: Sums = accumulate) -> Floats:
    """Token mixing, with what it is added to."""
    operand_CS = to_byte(normalise(x_SC, block.norm1)).swapaxes(-1, -2)
    if isinstance(block, Int8Mixer):
        scaled = sums(operand_CS, block.tokens1).astype(np.float32) * block.tokens1.scale * block.column_scale[:, None]
        hidden = block.tokens_table[to_byte(scaled + block.tokens1.shift)]
        return x_SC + apply(hidden, block.tokens2, sums).swapaxes(-1, -2)
    scaled = sums(operand_CS, block.tokens).astype(np.float32) * block.tokens.scale * block.column_scale[:, None]
    return x_SC + (scaled.swapaxes(-1, -2) + block.shift)


def mix_channels(x_SC: Floats, block: Int8Mixer | Int8ResMLP, sums: Sums = accumulate) -> Floats:
    """Channel mixing, with what it is added to: norm, linear, GELU, linear."""
    operand_SC = to_byte(normalise(x_SC, block.norm2))
    hidden = block.channels_table[to_byte(apply(operand_SC, block.channels1, sums))]
    return x_SC + apply(hidden, block.channels2, sums)


def gated(x_SC: Floats, block: Int8GMLP, sums: Sums = accumulate) -> Floats:
    operand = to_byte(normalise(x_SC, block.norm1))
    carrier, gate = (gelu(apply(operand, layer, sums).astype(np.float64), block.gelu).astype(np.float32)
                     for layer in (block.carrier, block.gate))
    mixed_FS = sums(to_byte(normalise(gate, block.norm2)).swapaxes(-1, -2), block.tokens).astype(np.float32)
    gates = (mixed_FS * block.tokens.scale * block.column_scale[:, None] + block.tokens.shift).swapaxes(-1, -2)
    out = to_byte(gates * carrier * np.float32(block.out_scale) + np.float32(block.out_shift))
    return x_SC + apply(out, block.out, sums)


def logits(parts: Parts, blocks: tuple[Int8Block, ...], images: np.ndarray, stem: Int8Linear | None = None) -> Floats:
    """uint8 `(N, H, W, 3)` to float32 `(N, K)` through the network's int8 blocks. `stem`: None rounds it to nearest."""
    stem = stem or linear(parts.stem, 1.0, PIXEL_CENTRE)
    results = []
    for image in images:
        x_SC = apply(parts.rows_of(image[None])[0], stem)
        for block in blocks:
            x_SC = run_block(x_SC, block)
        pooled = normalise(x_SC, parts.norm).mean(0)
        results.append(pooled @ parts.head.weight.astype(np.float32).T + parts.head.bias.astype(np.float32))
    return np.array(results, dtype=np.float32).reshape(len(images), len(parts.head.bias))
