"""What int8 costs, layer by layer: one of them in int8, all others in float32, on the same images.

A layer is what the engine runs as one: the stem; a block's token mixing; its channel mixing, both products with the
GELU between them. A gMLP block is one layer.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from allmlp.quantize import exact
from allmlp.quantize.arithmetic import Floats, apply, approximate_sums
from allmlp.quantize.int8 import Int8GMLP
from allmlp.quantize.layer_cost import LayerCost
from allmlp.quantize.network import Int8Network
from allmlp.quantize.parts import PIXEL_CENTRE, GMLPParts
from allmlp.quantize.reference import gated, mix_channels, mix_tokens

Step = Callable[[Floats], Floats]


def sensitivity(int8: Int8Network, images: np.ndarray) -> tuple[LayerCost, ...]:
    """The cost of each layer, in the network's order. `images`: uint8 `(N, H, W, 3)` of the training set, a few are
    enough."""
    parts = int8.parts
    pixels = parts.rows_of(images)
    steps: list[tuple[str, int | None, Step, Step]] = [
        ("stem", None, lambda x: exact.linear(x.astype(np.float32) - PIXEL_CENTRE, parts.stem),
         partial(apply, layer=int8.stem, sums=approximate_sums))]
    for number, (block, quantised) in enumerate(zip(parts.blocks, int8.blocks, strict=True)):
        if isinstance(block, GMLPParts):
            assert isinstance(quantised, Int8GMLP)
            steps.append((f"blocks.{number}", number, partial(exact.gated, block=block),
                          partial(gated, block=quantised, sums=approximate_sums)))
        else:
            assert not isinstance(quantised, Int8GMLP)
            steps.append((f"blocks.{number}.tokens", number, partial(exact.mix_tokens, block=block),
                          partial(mix_tokens, block=quantised, sums=approximate_sums)))
            steps.append((f"blocks.{number}.channels", number, partial(exact.mix_channels, block=block),
                          partial(mix_channels, block=quantised, sums=approximate_sums)))
    before: list[np.ndarray] = [pixels]
    for _, _, in_float, _ in steps:
        before.append(in_float(before[-1]))
    logits = exact.answer(before[-1], parts)
    spread, found = float(logits.std()) or 1.0, []
    for number, (name, block_number, _, in_int8) in enumerate(steps):
        x = in_int8(before[number])
        for _, _, in_float, _ in steps[number + 1 :]:
            x = in_float(x)
        changed = exact.answer(x, parts)
        found.append(LayerCost(layer=name, block=block_number,
                               rms_error=float(np.sqrt(np.square(changed - logits).mean())) / spread,
                               top1_agreement_percent=100 * float((changed.argmax(1) == logits.argmax(1)).mean())))
    return tuple(found)


def worst_blocks(costs: tuple[LayerCost, ...]) -> list[int]:
    """The blocks, from the one that int8 hurts most."""
    of_block: dict[int, float] = {}
    for cost in costs:
        if cost.block is not None:
            of_block[cost.block] = of_block.get(cost.block, 0.0) + cost.rms_error**2
    return sorted(of_block, key=lambda block: -of_block[block])
