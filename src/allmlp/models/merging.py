"""Patch merging: between the stages of a pyramid, neighbouring tokens become one of more channels.

A convolution of the size and stride of the merged cells, without bias, then a norm. It stands among the blocks as a
layer of its own, but is none: the blocks behind it are built for its grid and its width.

SPACH (arXiv 2108.13002, [spach:models/spach/misc.py]) merges 2 x 2 tokens, doubles the channels and norms over all
tokens and channels of an image (GroupNorm with one group, epsilon 1e-5); Swin norms each token, before it merges.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from allmlp.models.layers import AnyNorm, Axis, DropPath, LayerNormConfig, Macs, build_norm
from allmlp.values import Value


class WholeImageNormConfig(Value):
    """Mean and deviation over all tokens and channels of an image, then a scale and a shift per channel."""

    kind: Literal["whole image"] = "whole image"
    epsilon: float = Field(default=1e-5, gt=0)


class MergingConfig(Value):
    """`factor`: (rows, columns) of tokens that become one. `width`: channels after it; None: twice those before."""

    kind: Literal["merging"] = "merging"
    factor: tuple[int, int] = (2, 2)
    width: int | None = Field(default=None, ge=1, le=65_536)
    norm: AnyNorm | WholeImageNormConfig = Field(default=LayerNormConfig(), discriminator="kind")

    branches: ClassVar[int] = 0
    folded: ClassVar[bool] = False
    activation: ClassVar[None] = None  # none of its own
    token_axes: ClassVar[dict[str, tuple[Axis, ...]]] = {}

    def after(self, width: int, grid: tuple[int, int]) -> tuple[int, tuple[int, int]]:
        """Width and grid behind it. Raises `ValueError` for a grid that it does not divide."""
        if min(self.factor) < 1 or grid[0] % self.factor[0] or grid[1] % self.factor[1]:
            raise ValueError(f"merging takes {self.factor[0]} x {self.factor[1]} tokens together, which does not "
                             f"divide a grid of {grid[0]} x {grid[1]}; take another image size, patch size or factor")
        return self.width or 2 * width, (grid[0] // self.factor[0], grid[1] // self.factor[1])

    def macs(self, width: int, tokens: int) -> Macs:
        return Macs(0, tokens * width * self.after(width, self.factor)[0])

    def beside(self, copies: int) -> "MergingConfig":
        return self

    def build(self, width: int, grid: tuple[int, int], drop_paths: list[DropPath]) -> "PatchMerging":
        return PatchMerging(self, width, grid)


class PatchMerging(nn.Module):
    """`(B, S, C)` on a grid to `(B, S', C')` on the smaller one, both in raster order."""

    def __init__(self, config: MergingConfig, width: int, grid: tuple[int, int]):
        super().__init__()
        self.rows, self.columns = grid
        wider, _ = config.after(width, grid)
        self.reduction = nn.Conv2d(width, wider, config.factor, config.factor, bias=False)
        self.norm = (WholeImageNorm(wider, config.norm.epsilon) if isinstance(config.norm, WholeImageNormConfig)
                     else build_norm(config.norm, wider))

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        x_BCHW = x_BSC.transpose(1, 2).unflatten(2, (self.rows, self.columns))
        return self.norm(self.reduction(x_BCHW).flatten(2).transpose(1, 2))


class WholeImageNorm(nn.GroupNorm):
    """`(B, S, C) -> (B, S, C)`."""

    def __init__(self, width: int, epsilon: float):
        super().__init__(1, width, eps=epsilon)

    def init_own(self, generator: torch.Generator | None = None) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.transpose(1, 2)).transpose(1, 2)
