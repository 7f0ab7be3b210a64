"""The frame of all blocks that mix tokens and then channels, as in a transformer: only the token mixing differs.

    U = X + mixing(norm1(X))                  between tokens: attention, a convolution, pooling, a shift, or nothing
    Y = U + W2 gelu(W1 norm2(U))              along channels, one MLP shared by all tokens; left out with 0 hidden units

This is ViT's pre-norm block (arXiv 2010.11929, eqs. 2-3) with attention as the mixing, and "MetaFormer" (PoolFormer,
arXiv 2111.11418, section 3.1) with any. A block of this kind is a config that says what its token mixing is and costs.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NoReturn

import torch
from pydantic import Field
from torch import nn

from allmlp.errors import BadSetting
from allmlp.models.layers import Axis, DropPath, Gelu, LayerNormConfig, Macs, Mlp, NormConfig, build_norm
from allmlp.values import Value


class FramedConfig(Value, ABC):
    """`channel_hidden`: hidden units of channel mixing; 0 leaves it out, and the block is its token mixing alone."""

    channel_hidden: int = Field(default=0, ge=0)
    activation: Gelu = "erf"
    norm: NormConfig = LayerNormConfig()

    token_axes: ClassVar[dict[str, tuple[Axis, ...]]] = {}  # weights for one grid are weights for any
    folded: ClassVar[bool] = False

    @property
    def branches(self) -> int:
        return 2 if self.channel_hidden else 1

    @abstractmethod
    def mixing(self, width: int, grid: tuple[int, int]) -> nn.Module:
        """What mixes tokens: `(B, S, C) -> (B, S, C)`. Raises `BadSetting` for a width or grid it can't have."""

    @abstractmethod
    def mixing_macs(self, width: int, tokens: int) -> int:
        """Multiply-adds of it for one image."""

    def macs(self, width: int, tokens: int) -> Macs:
        return Macs(self.mixing_macs(width, tokens), 2 * tokens * width * self.channel_hidden)

    def beside(self, copies: int) -> NoReturn:
        refuse_beside(str(getattr(self, "kind", "framed")))

    def build(self, width: int, grid: tuple[int, int], drop_paths: list[DropPath]) -> "FramedBlock":
        return FramedBlock(self, width, grid, drop_paths)


class FramedBlock(nn.Module):
    """`(B, S, C) -> (B, S, C)`: token mixing, then channel mixing if there is any."""

    def __init__(self, config: FramedConfig, width: int, grid: tuple[int, int], drop_paths: list[DropPath]):
        super().__init__()
        self.norm1 = build_norm(config.norm, width)
        self.mix_tokens = config.mixing(width, grid)
        self.drop_path1 = drop_paths[0]
        self.mix_channels = config.channel_hidden > 0
        if config.channel_hidden:
            self.norm2 = build_norm(config.norm, width)
            self.mlp_channels = Mlp(width, config.channel_hidden, config.activation)
            self.drop_path2 = drop_paths[1]

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        x_BSC = x_BSC + self.drop_path1(self.mix_tokens(self.norm1(x_BSC)))
        if self.mix_channels:
            x_BSC = x_BSC + self.drop_path2(self.mlp_channels(self.norm2(x_BSC)))
        return x_BSC


class OnGrid(nn.Module):
    """A module for images, over tokens laid out as one: `(B, S, C) -> (B, S, C)`, S in raster order on a grid of
    (rows, columns)."""

    def __init__(self, module: nn.Module, grid: tuple[int, int]):
        super().__init__()
        self.module, self.rows, self.columns = module, grid[0], grid[1]

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        x_BCHW = x_BSC.transpose(1, 2).unflatten(2, (self.rows, self.columns))
        return self.module(x_BCHW).flatten(2).transpose(1, 2)


def refuse_beside(kind: str) -> NoReturn:
    """Raises `BadSetting`: such blocks side by side are not one block of the same kind."""
    raise BadSetting(f"method 'block' puts copies of the token mixing side by side, which a block of kind {kind!r} has "
                     "no form for; take method 'auto'")
