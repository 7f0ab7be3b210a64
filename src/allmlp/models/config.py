"""`ModelConfig`: a network as a value, from which it can be built again exactly."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal, Self

import pydantic
from pydantic import Field

from allmlp.errors import BadSetting
from allmlp.models.blocks import BlockConfig
from allmlp.models.init import InitScheme
from allmlp.models.layers import LayerNormConfig, NormConfig, StochasticDepth
from allmlp.values import Value


class ModelConfig(Value):
    """A network, complete. Sizes are (height, width) in pixels. `blocks` is repeated in turn up to `depth` blocks."""

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    in_channels: int = Field(default=3, ge=1)
    width: int = Field(ge=1, le=65_536)
    depth: int = Field(ge=1, le=1_024)  # a bound for files from outside: each block takes time to build
    blocks: tuple[BlockConfig, ...] = Field(min_length=1)
    norm: NormConfig = LayerNormConfig()  # the last one, before pooling
    global_pool: Literal["avg", ""] = "avg"  # the mean over tokens, or none: the head then answers for every token
    drop_rate: float = Field(default=0.0, ge=0, lt=1)  # dropout before the head
    num_classes: int = Field(default=1000, ge=0)  # 0: no head, the features that would go into it come out
    stochastic_depth: StochasticDepth = StochasticDepth()
    init: InitScheme = "flax"
    head_bias: float = 0.0  # where the head's bias starts; big_vision takes -6.9 with the sigmoid loss

    @pydantic.model_validator(mode="after")
    def _divisible(self) -> Self:
        for side, image, patch in zip(("height", "width"), self.image_size, self.patch_size, strict=True):
            if patch < 1 or image < 1:
                raise ValueError(f"{side}: image size {image} and patch size {patch} must be at least 1 pixel")
            if image % patch:
                low, high = image // patch * patch, (image // patch + 1) * patch
                near = f"{low} or {high}" if low else f"{high}"
                raise ValueError(f"image {side} {image} is not divisible by the patch {side} {patch}; take {near}")
        return self

    @pydantic.model_validator(mode="after")
    def _all_blocks_used(self) -> Self:
        if len(self.blocks) > self.depth:
            raise ValueError(f"{len(self.blocks)} blocks for a depth of {self.depth}; give at most {self.depth}")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of tokens."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def layers(self) -> list[BlockConfig]:
        """The config of each of the `depth` blocks."""
        return [self.blocks[i % len(self.blocks)] for i in range(self.depth)]


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
