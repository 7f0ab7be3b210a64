"""MLP-Mixer's block (arXiv 2105.01601, eq. 1), and timm's gated variant of it.

    U = X + W2 gelu(W1 LayerNorm(X))       along tokens, one MLP shared by all channels
    Y = U + W4 gelu(W3 LayerNorm(U))       along channels, one MLP shared by all tokens

Both norms run over the channels of each token, before the transposition. The hidden widths D_S and D_C are free
numbers: D_S is *not* derived from the number of tokens, which keeps the cost linear in it.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from allmlp.models.layers import (
    Axis,
    DropPath,
    GluMlp,
    LayerNormConfig,
    Macs,
    Mlp,
    NormConfig,
    build_norm,
    without_affine,
)
from allmlp.values import Value


class MixerConfig(Value):
    """`token_hidden` is D_S, `channel_hidden` is D_C. `activation="swiglu"` is timm's gmixer (no paper): both MLPs
    gated by SiLU, which halves their hidden widths after the first linear. `folded`: norm2 has no scale and shift."""

    kind: Literal["mixer"] = "mixer"
    token_hidden: int = Field(ge=1)
    channel_hidden: int = Field(ge=1)
    activation: Literal["tanh", "erf", "swiglu"] = "tanh"
    norm: NormConfig = LayerNormConfig()
    folded: bool = False

    branches: ClassVar[int] = 2  # residual branches, each with its own drop rate

    @model_validator(mode="after")
    def _even(self) -> "MixerConfig":
        if self.activation == "swiglu" and (self.token_hidden % 2 or self.channel_hidden % 2):
            raise ValueError(f"swiglu halves the hidden widths, so token_hidden {self.token_hidden} and "
                             f"channel_hidden {self.channel_hidden} must both be even")
        return self

    def macs(self, width: int, tokens: int) -> Macs:
        """Both linears of an MLP do the same work, except that gating halves what the second one sees."""
        def mlp(hidden: int) -> int:
            return width * tokens * (hidden + (hidden // 2 if self.activation == "swiglu" else hidden))

        return Macs(mlp(self.token_hidden), mlp(self.channel_hidden))

    @property
    def token_axes(self) -> dict[str, tuple[Axis, ...]]:
        first: Axis = "halves of hidden" if self.activation == "swiglu" else "hidden"
        return {
            "mlp_tokens.fc1.weight": (first, "tokens in"),
            "mlp_tokens.fc1.bias": (first,),
            "mlp_tokens.fc2.weight": ("tokens out", "hidden"),
            "mlp_tokens.fc2.bias": ("tokens out",),
        }

    def beside(self, copies: int) -> "MixerConfig":
        return self.with_(token_hidden=copies * self.token_hidden)

    def build(self, width: int, grid: tuple[int, int], drop_paths: list[DropPath]) -> "MixerBlock":
        return MixerBlock(self, width, grid, drop_paths)


class MixerBlock(nn.Module):
    """`(B, S, C) -> (B, S, C)`: token mixing, then channel mixing."""

    def __init__(self, config: MixerConfig, width: int, grid: tuple[int, int], drop_paths: list[DropPath]):
        super().__init__()
        tokens = grid[0] * grid[1]

        def mlp(size: int, hidden: int, turned: bool) -> nn.Module:
            if config.activation == "swiglu":
                return GluMlp(size, hidden)
            return Mlp(size, hidden, config.activation, turned)

        self.norm1 = build_norm(config.norm, width)
        self.mlp_tokens = mlp(tokens, config.token_hidden, turned=True)
        self.drop_path1 = drop_paths[0]
        self.norm2 = build_norm(without_affine(config.norm) if config.folded else config.norm, width)
        self.mlp_channels = mlp(width, config.channel_hidden, turned=False)
        self.drop_path2 = drop_paths[1]

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        normed_BCS = self.norm1(x_BSC).transpose(1, 2)
        x_BSC = x_BSC + self.drop_path1(self.mlp_tokens(normed_BCS).transpose(1, 2))
        return x_BSC + self.drop_path2(self.mlp_channels(self.norm2(x_BSC)))
