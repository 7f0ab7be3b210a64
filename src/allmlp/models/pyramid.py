"""A Mixer block that leaves fewer tokens: the pyramids that MLP-Mixer's authors tried (arXiv 2105.01601, appendix A.1).

    U = W2 gelu(W1 LayerNorm(X) + b1) + b2     along tokens: W1 (D_S, S), W2 (S', D_S) with S' < S; no residual
    Y = U + W4 gelu(W3 LayerNorm(U))           along channels, as in Mixer

It stands among the blocks, and the blocks behind it are built for S' tokens. These are learned mixtures of all tokens
and have no place in the image; they are counted as a grid so that everything else can name them. UNVERIFIED: where the
paper's networks shrink and by how much, and what they do about the residual, which has no place to go.
"""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from allmlp.errors import BadSetting
from allmlp.models.layers import Axis, DropPath, Gelu, LayerNormConfig, Macs, Mlp, NormConfig, build_norm, gelu
from allmlp.values import Value


class PyramidConfig(Value):
    """`factor`: how many times fewer (rows, columns) come out. `token_hidden` is D_S, `channel_hidden` D_C."""

    kind: Literal["mixer_pyramid"] = "mixer_pyramid"
    token_hidden: int = Field(ge=1)
    channel_hidden: int = Field(ge=1)
    factor: tuple[int, int] = (2, 2)
    activation: Gelu = "tanh"
    norm: NormConfig = LayerNormConfig()

    branches: ClassVar[int] = 1  # channel mixing's; without token mixing nothing would come through
    folded: ClassVar[bool] = False

    def after(self, width: int, grid: tuple[int, int]) -> tuple[int, tuple[int, int]]:
        """Width and grid behind it. Raises `ValueError` for a grid that the factor does not divide."""
        if min(self.factor) < 1 or grid[0] % self.factor[0] or grid[1] % self.factor[1]:
            raise ValueError(f"a pyramid with the factor {self.factor[0]} x {self.factor[1]} does not divide a grid of "
                             f"{grid[0]} x {grid[1]}; take another image size, patch size or factor")
        return width, (grid[0] // self.factor[0], grid[1] // self.factor[1])

    def macs(self, width: int, tokens: int) -> Macs:
        fewer = tokens // math.prod(self.factor)
        return Macs(width * self.token_hidden * (tokens + fewer), 2 * fewer * width * self.channel_hidden)

    @property
    def token_axes(self) -> dict[str, tuple[Axis, ...]]:
        raise BadSetting("resize knows no rule for a pyramid, whose fewer tokens have no place in the image; train it "
                         "at the image size and patch size that you need")

    def beside(self, copies: int) -> "PyramidConfig":
        return self.with_(token_hidden=copies * self.token_hidden)

    def build(self, width: int, grid: tuple[int, int], drop_paths: list[DropPath]) -> "PyramidBlock":
        return PyramidBlock(self, width, grid, drop_paths)


class FewerTokens(nn.Module):
    """`(B, C, S) -> (B, C, S')`: linear, GELU, linear along tokens."""

    def __init__(self, tokens: int, hidden: int, fewer: int, activation: Gelu):
        super().__init__()
        self.fc1 = nn.Linear(tokens, hidden)
        self.act = gelu(activation)
        self.fc2 = nn.Linear(hidden, fewer)

    def forward(self, x_BCS: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x_BCS)))


class PyramidBlock(nn.Module):
    """`(B, S, C) -> (B, S', C)`."""

    def __init__(self, config: PyramidConfig, width: int, grid: tuple[int, int], drop_paths: list[DropPath]):
        super().__init__()
        fewer = math.prod(config.after(width, grid)[1])
        self.norm1 = build_norm(config.norm, width)
        self.mlp_tokens = FewerTokens(math.prod(grid), config.token_hidden, fewer, config.activation)
        self.norm2 = build_norm(config.norm, width)
        self.mlp_channels = Mlp(width, config.channel_hidden, config.activation)
        self.drop_path = drop_paths[0]

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        x_BSC = self.mlp_tokens(self.norm1(x_BSC).transpose(1, 2)).transpose(1, 2)
        return x_BSC + self.drop_path(self.mlp_channels(self.norm2(x_BSC)))
