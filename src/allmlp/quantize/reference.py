"""int8 in plain numpy: what the engine has to compute, to the bit where numbers are whole. Slow; for tests and checks.

Axes: S tokens, C channels, F hidden, K classes. All floats are float32, as in the engine.
"""

import numpy as np

from allmlp.quantize.int8 import Int8Block, Int8GMLP, Int8Linear, Int8Mixer, gelu, linear
from allmlp.quantize.parts import PIXEL_CENTRE, Norm, Parts

Floats = np.ndarray


def accumulate(operand: np.ndarray, layer: Int8Linear) -> np.ndarray:
    """Bytes (…, inputs) to int32 sums (…, outputs)."""
    return (operand.astype(np.int32) - layer.zero_point) @ layer.weight.astype(np.int32).T


def to_byte(values: Floats) -> np.ndarray:
    """Rounded to nearest, ties to even, cut to [0, 255]."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def apply(operand: np.ndarray, layer: Int8Linear) -> Floats:
    return accumulate(operand, layer).astype(np.float32) * layer.scale + layer.shift


def normalise(x_SC: Floats, norm: Norm) -> Floats:
    y = x_SC.astype(np.float64)
    if norm.epsilon is not None:
        y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + norm.epsilon)
    return (y * norm.scale + norm.shift).astype(np.float32)


def mlp(x_SC: Floats, norm: Norm, first: Int8Linear, table: np.ndarray, second: Int8Linear) -> Floats:
    """Channel mixing: norm, linear, GELU, linear."""
    return apply(table[to_byte(apply(to_byte(normalise(x_SC, norm)), first))], second)


def run_block(x_SC: Floats, block: Int8Block) -> Floats:
    """One block on one image's tokens."""
    if isinstance(block, Int8GMLP):
        operand = to_byte(normalise(x_SC, block.norm1))
        carrier, gate = (gelu(apply(operand, layer).astype(np.float64), block.gelu).astype(np.float32)
                         for layer in (block.carrier, block.gate))
        mixed_FS = accumulate(to_byte(normalise(gate, block.norm2)).T, block.tokens).astype(np.float32)
        gates = (mixed_FS * block.tokens.scale * block.column_scale[:, None] + block.tokens.shift).T
        return x_SC + apply(to_byte(gates * carrier * np.float32(block.out_scale) + np.float32(block.out_shift)),
                            block.out)
    operand_CS = to_byte(normalise(x_SC, block.norm1)).T
    if isinstance(block, Int8Mixer):
        sums = accumulate(operand_CS, block.tokens1).astype(np.float32)
        index = to_byte(sums * block.tokens1.scale * block.column_scale[:, None] + block.tokens1.shift)
        x_SC = x_SC + apply(block.tokens_table[index], block.tokens2).T
    else:
        sums = accumulate(operand_CS, block.tokens).astype(np.float32)
        x_SC = x_SC + ((sums * block.tokens.scale * block.column_scale[:, None]).T + block.shift)
    return x_SC + mlp(x_SC, block.norm2, block.channels1, block.channels_table, block.channels2)


def logits(parts: Parts, blocks: tuple[Int8Block, ...], images: np.ndarray) -> Floats:
    """uint8 `(N, H, W, 3)` to float32 `(N, K)` through the network's int8 blocks."""
    (rows, columns), (height, width) = parts.patch_size, parts.image_size
    stem = linear(parts.stem, 1.0, PIXEL_CENTRE)
    results = []
    for image in images:
        grid = image.reshape(height // rows, rows, width // columns, columns, 3).swapaxes(1, 2)
        x_SC = apply(grid.reshape(parts.tokens, -1), stem)
        for block in blocks:
            x_SC = run_block(x_SC, block)
        pooled = normalise(x_SC, parts.norm).mean(0)
        results.append(pooled @ parts.head.weight.astype(np.float32).T + parts.head.bias.astype(np.float32))
    return np.array(results, dtype=np.float32).reshape(len(images), len(parts.head.bias))
