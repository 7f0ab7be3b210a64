"""What int8 costs, layer by layer: one of them in int8, all others in float32, on the same images.

What a layer is, and what it is called, stands in `layers.py`.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np

from allmlp.quantize import exact
from allmlp.quantize.arithmetic import Floats, apply, approximate_sums, rounded_to_bf16
from allmlp.quantize.exact import as_float32
from allmlp.quantize.layer_cost import LayerCost
from allmlp.quantize.layers import STEM, of_block
from allmlp.quantize.network import Int8Network
from allmlp.quantize.parts import PIXEL_CENTRE, GMLPParts, Parts
from allmlp.quantize.reference import gated, mix_channels, mix_tokens

Step = Callable[[Floats], Floats]
BF16_ERROR = 0.005  # five times what bf16 costs a whole network that has no outliers


def sensitivity(int8: Int8Network, images: np.ndarray) -> tuple[LayerCost, ...]:
    """The cost of each layer, in the network's order. `images`: uint8 `(N, H, W, 3)` of the training set, a few are
    enough."""
    parts = int8.parts
    pixels = parts.rows_of(images)
    steps: list[tuple[str, int | None, Step, Step]] = [
        (STEM, None, lambda x: exact.linear(x.astype(np.float32) - PIXEL_CENTRE, parts.stem),
         partial(apply, layer=int8.stem, sums=approximate_sums))]
    for number, (block, quantised) in enumerate(zip(parts.blocks, int8.blocks, strict=True)):
        over_tokens, over_channels = of_block(number, isinstance(block, GMLPParts))
        if isinstance(block, GMLPParts):
            steps.append((over_tokens, number, partial(exact.gated, block=block),
                          partial(gated, block=quantised, sums=approximate_sums)))
        else:
            steps.append((over_tokens, number, partial(exact.mix_tokens, block=block),
                          partial(mix_tokens, block=quantised, sums=approximate_sums)))
            steps.append((over_channels, number, partial(exact.mix_channels, block=block),
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


def worst_layers(costs: tuple[LayerCost, ...]) -> list[str]:
    """The layers, from the one that int8 hurts most."""
    return [cost.layer for cost in sorted(costs, key=lambda cost: -cost.rms_error)]


def precise_in_bf16(parts: Parts, images: np.ndarray, layers: Iterable[str]) -> set[str]:
    """Those of `layers` that cost the logits less than `BF16_ERROR` of their deviation, each alone in bf16."""
    wanted, found = set(layers), set[str]()
    before, steps = [parts.rows_of(images)], list(_in_float(parts))
    for _, step in steps:
        before.append(step(before[-1], as_float32))
    logits = exact.answer(before[-1], parts)
    spread = float(logits.std()) or 1.0
    for number, (name, step) in enumerate(steps):
        if name not in wanted:
            continue
        x = step(before[number], rounded_to_bf16)
        for _, later in steps[number + 1 :]:
            x = later(x, as_float32)
        error = float(np.sqrt(np.square(exact.answer(x, parts) - logits).mean())) / spread
        if error < BF16_ERROR:
            found.add(name)
    return found


def _in_float(parts: Parts) -> Iterator[tuple[str, Callable[[Floats, exact.Stored], Floats]]]:
    """Each layer by name, as a function of what comes in and of how it stores its operands."""
    yield STEM, lambda x, stored: exact.linear(x.astype(np.float32) - PIXEL_CENTRE, parts.stem, stored)
    for number, block in enumerate(parts.blocks):
        over_tokens, over_channels = of_block(number, isinstance(block, GMLPParts))
        if isinstance(block, GMLPParts):
            yield over_tokens, lambda x, stored, block=block: exact.gated(x, block, stored)
        else:
            yield over_tokens, lambda x, stored, block=block: exact.mix_tokens(x, block, stored)
            yield over_channels, lambda x, stored, block=block: exact.mix_channels(x, block, stored)
