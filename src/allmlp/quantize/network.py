"""A network in int8, block after block, each fitted to what the blocks before it give; layers may stay in float."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from allmlp.models.model import Model
from allmlp.quantize import dynamic, layers
from allmlp.quantize.arithmetic import Int8Linear, apply, approximate_sums
from allmlp.quantize.calibrate import calibrate, images_at_once
from allmlp.quantize.choices import BEST, Choices
from allmlp.quantize.dynamic import DynamicBlock
from allmlp.quantize.exact import linear as exact_linear
from allmlp.quantize.int8 import Int8Block, Sample, fitted, linear, quantise_for
from allmlp.quantize.parts import PIXEL_CENTRE, BlockParts, GMLPParts, Linear, Parts, take_apart

FIT_TOKENS, LEAST_FIT_IMAGES = 8192, 8  # how much of the calibration images weights are fitted to, as memory allows

QuantisedBlock = Int8Block | DynamicBlock
Half = BlockParts | QuantisedBlock  # of a block, for what it does with tokens, or with channels


@dataclass(frozen=True)
class Int8Network:
    """`parts`: the network in float; its head stays so. `float_layers`: so do these, by name, and what int8 they have
    in `stem` and `blocks` is not used."""

    parts: Parts
    stem: Int8Linear
    blocks: tuple[QuantisedBlock, ...]
    float_layers: frozenset[str] = frozenset()

    @property
    def used_stem(self) -> Int8Linear | Linear:
        return self.parts.stem if layers.STEM in self.float_layers else self.stem

    @property
    def halves(self) -> tuple[tuple[Half, Half], ...]:
        """Of each block, what mixes tokens and what mixes channels: the block in int8, or in float. gMLP's one layer
        stands twice."""
        return tuple(self._halves())

    def _halves(self) -> Iterator[tuple[Half, Half]]:
        for number, (exact, int8) in enumerate(zip(self.parts.blocks, self.blocks, strict=True)):
            over_tokens, over_channels = layers.of_block(number, isinstance(exact, GMLPParts))
            yield (exact if over_tokens in self.float_layers else int8,
                   exact if over_channels in self.float_layers else int8)


def quantise(model: Model, images: np.ndarray, choices: Choices = BEST, float_layers: frozenset[str] = frozenset()
             ) -> Int8Network:
    """`model` in int8 for images like `images`, uint8 `(N, H, W, 3)` of the training set.

    `float_layers`: by name, will run in float, so that the layers behind them are not fitted to their int8.

    Raises `BadData` for no images, `BadSetting` for a network that has no int8 of ours.
    """
    parts = take_apart(model)
    ranges = calibrate(model, images, choices)
    stem, sample = linear(parts.stem, 1.0, PIXEL_CENTRE), None
    if choices.fit:
        most = images_at_once(model.config, max(FIT_TOKENS // parts.tokens, LEAST_FIT_IMAGES))
        chosen = np.linspace(0, len(images) - 1, min(len(images), most)).round().astype(np.int64)
        pixels = parts.rows_of(images[chosen])
        exact = exact_linear(pixels.astype(np.float32) - PIXEL_CENTRE, parts.stem)
        stem = fitted(parts.stem, 1.0, PIXEL_CENTRE, pixels, exact)
        sample = Sample(exact, exact if layers.STEM in float_layers else apply(pixels, stem, approximate_sums))
    blocks = []
    for number, (block, of_block) in enumerate(zip(parts.blocks, ranges, strict=True)):
        over_tokens, over_channels = layers.of_block(number, isinstance(block, GMLPParts))
        quantise_block = dynamic.quantise_for if choices.activations == "dynamic" else quantise_for
        quantised, sample = quantise_block(block, of_block, choices, sample,
                                           (over_tokens in float_layers, over_channels in float_layers))
        blocks.append(quantised)
    return Int8Network(parts, stem, tuple(blocks), float_layers)
