"""A network in int8, block after block, each fitted to what the blocks before it give."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from allmlp.models.model import Model
from allmlp.quantize.arithmetic import Int8Linear, apply, approximate_sums
from allmlp.quantize.calibrate import BEST, Choices, calibrate
from allmlp.quantize.exact import linear as exact_linear
from allmlp.quantize.exact import run_block
from allmlp.quantize.int8 import Int8Block, Sample, fitted, linear, quantise_for
from allmlp.quantize.parts import PIXEL_CENTRE, Parts, take_apart

FIT_TOKENS, LEAST_FIT_IMAGES = 8192, 8  # how much of the calibration images weights are fitted to


@dataclass(frozen=True)
class Int8Network:
    """`parts`: the network in float; its head stays so."""

    parts: Parts
    stem: Int8Linear
    blocks: tuple[Int8Block, ...]


def quantise(model: Model, images: np.ndarray, choices: Choices = BEST, float_blocks: Collection[int] = ()
             ) -> Int8Network:
    """`model` in int8 for images like `images`, uint8 `(N, H, W, 3)` of the training set.

    `float_blocks`: blocks, by number, that will run in float, so that those behind them are not fitted to their int8.

    Raises `BadData` for none, `BadSetting` for a network that has no int8 of ours.
    """
    parts = take_apart(model)
    ranges = calibrate(model, images, choices)
    stem, sample = linear(parts.stem, 1.0, PIXEL_CENTRE), None
    if choices.fit:
        most = max(FIT_TOKENS // parts.tokens, LEAST_FIT_IMAGES)
        chosen = np.linspace(0, len(images) - 1, min(len(images), most)).round().astype(np.int64)
        pixels = parts.rows_of(images[chosen])
        exact = exact_linear(pixels.astype(np.float32) - PIXEL_CENTRE, parts.stem)
        stem = fitted(parts.stem, 1.0, PIXEL_CENTRE, pixels, exact)
        sample = Sample(exact, apply(pixels, stem, approximate_sums))
    blocks = []
    for number, (block, of_block) in enumerate(zip(parts.blocks, ranges, strict=True)):
        quantised, behind = quantise_for(block, of_block, choices, sample)
        if sample is not None and number in float_blocks:
            behind = Sample(run_block(sample.exact, block), run_block(sample.quantised, block))
        blocks.append(quantised)
        sample = behind
    return Int8Network(parts, stem, tuple(blocks))
