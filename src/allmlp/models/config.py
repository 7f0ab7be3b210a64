"""`ModelConfig`: a network as a value, from which it can be built again exactly."""

from collections.abc import Sequence
from numbers import Integral
from typing import Annotated, Any, Literal, NamedTuple, Self

import pydantic
from pydantic import Field

from allmlp.errors import BadSetting
from allmlp.models.blocks import AnyBlock
from allmlp.models.init import InitScheme
from allmlp.models.layers import LayerNormConfig, NormConfig, StochasticDepth
from allmlp.models.merging import MergingConfig
from allmlp.models.pyramid import PyramidConfig
from allmlp.models.segment import SegmentConfig
from allmlp.models.segment import check as check_segment
from allmlp.models.stems import PatchStem, StemConfig
from allmlp.values import Value

MAX_BRANCHES = 8_192  # in all blocks; a bound for files from outside, as blocks may hold others

AnyLayer = AnyBlock | MergingConfig | PyramidConfig
LayerConfig = Annotated[AnyLayer, Field(discriminator="kind")]


class Place(NamedTuple):
    """A layer in a network: what it is, and the width and the grid (rows, columns) that it is built for."""

    layer: AnyLayer
    width: int
    grid: tuple[int, int]


class ModelConfig(Value):
    """A network, complete. Sizes are (height, width) in pixels. `blocks` is repeated in turn up to `depth` layers.

    So one block is the same all through, two take turns, and `depth` of them are any sequence: the first k of one kind
    and the rest of another. Patch merging counts as a layer; behind it the grid is smaller and tokens are wider than
    `width`, which is what the stem makes.
    """

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    in_channels: int = Field(default=3, ge=1)
    width: int = Field(ge=1, le=65_536)
    depth: int = Field(ge=1, le=1_024)  # a bound for files from outside: each block takes time to build
    blocks: tuple[LayerConfig, ...] = Field(min_length=1)
    # Left out of JSON where it is the usual one, so that what older versions wrote and read stays as it was.
    stem: StemConfig = Field(default=PatchStem(), exclude_if=lambda stem: stem == PatchStem())
    norm: NormConfig = LayerNormConfig()  # the last one, before pooling
    # The mean over tokens; layers of their own (`class_mlp.py`); or none: the head then answers for every token.
    global_pool: Literal["avg", "class_mlp", ""] = "avg"
    drop_rate: float = Field(default=0.0, ge=0, lt=1)  # dropout before the head
    num_classes: int = Field(default=1000, ge=0)  # 0: no head, the features that would go into it come out
    # A head that answers for every pixel (`segment.py`); None: one for the whole image.
    segment: SegmentConfig | None = Field(default=None, exclude_if=lambda segment: segment is None)
    stochastic_depth: StochasticDepth = StochasticDepth()
    init: InitScheme = "flax"
    head_bias: float = 0.0  # where the head's bias starts; big_vision takes -6.9 with the sigmoid loss

    @pydantic.model_validator(mode="after")
    def _divisible(self) -> Self:
        for side, image, patch in zip(("height", "width"), self.image_size, self.patch_size, strict=True):
            if patch < 1 or image < 1:
                raise ValueError(f"{side}: image size {image} and patch size {patch} must be at least 1 pixel")
        self.stem.check(self.image_size, self.patch_size)
        return self

    @pydantic.model_validator(mode="after")
    def _all_blocks_used(self) -> Self:
        if len(self.blocks) > self.depth:
            raise ValueError(f"{len(self.blocks)} blocks for a depth of {self.depth}; give at most {self.depth}")
        return self

    @pydantic.model_validator(mode="after")
    def _layers_fit(self) -> Self:
        branches = 0
        for place in self.places:
            branches += place.layer.branches
            if branches > MAX_BRANCHES:
                raise ValueError(f"its blocks have more than {MAX_BRANCHES:,} residual branches, which is the limit")
        if self.out_width > 65_536:
            raise ValueError(f"merging ends in a width of {self.out_width}; the limit is 65,536")
        return self

    @pydantic.model_validator(mode="after")
    def _pixels_have_a_head(self) -> Self:
        check_segment(self)
        return self

    @property
    def task(self) -> Literal["classification", "segmentation"]:
        return "classification" if self.segment is None else "segmentation"

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of tokens that the stem makes."""
        return self.stem.grid(self.image_size, self.patch_size)

    @property
    def layers(self) -> list[AnyLayer]:
        """The config of each of the `depth` layers."""
        return [self.blocks[i % len(self.blocks)] for i in range(self.depth)]

    @property
    def places(self) -> list[Place]:
        """Each of the `depth` layers with its own width and grid."""
        return self._places_and_end()[0]

    @property
    def out_width(self) -> int:
        """Channels of the tokens that come out of the last layer."""
        return self._places_and_end()[1]

    @property
    def out_grid(self) -> tuple[int, int]:
        """(rows, columns) of them."""
        return self._places_and_end()[2]

    def _places_and_end(self) -> tuple[list[Place], int, tuple[int, int]]:
        places, width, grid = [], self.width, self.grid
        for layer in self.layers:
            places.append(Place(layer, width, grid))
            if isinstance(layer, MergingConfig | PyramidConfig):
                width, grid = layer.after(width, grid)
        return places, width, grid


def height_width(what: str, size: int | Sequence[int]) -> tuple[int, int]:
    """A size in pixels, (height, width) or one number for a square, as (height, width). Raises `BadSetting`."""
    sides: Any = (size, size) if isinstance(size, Integral) else size
    try:
        pair = len(sides) == 2  # an array of numpy's is no Sequence
    except TypeError:  # a number, None, a tensor without axes
        pair = False
    if not pair or not all(isinstance(side, Integral) for side in sides):
        shown = tuple(size) if isinstance(size, list) else size
        raise BadSetting(f"{what} {shown!r}: give one number or (height, width), in whole pixels")
    return int(sides[0]), int(sides[1])
