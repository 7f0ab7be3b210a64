"""ResMLP's block (arXiv 2105.03404, eqs. 2-3 and Algorithm 1).

    Z = X + γ1 ⊙ (A Aff(X) + b)            along patches: one linear map, no nonlinearity, shared by all channels
    Y = Z + γ2 ⊙ (C gelu(B Aff(Z)))        along channels

γ1, γ2 are LayerScale vectors, one number per channel and no shift: so in the published code and Algorithm 1, although
eqs. 2-3 typeset a full Aff there. The hidden width is 4C in every published model.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from allmlp.models.layers import (
    AffineConfig,
    Axis,
    DropPath,
    Gelu,
    Macs,
    Mlp,
    NormConfig,
    build_norm,
    without_affine,
)
from allmlp.models.products import over_tokens
from allmlp.values import Value


class ResMLPConfig(Value):
    """`layer_scale` is where γ1 and γ2 start: 0.1 for 12 layers, 1e-5 for 24, 1e-6 for 36 and for B24 (DeiT's code;
    timm starts its 12-layer network at 1e-4).

    `folded`: no Aff and no γ2; what Aff leaves to token mixing is γ1, a scale per channel, and `shift1`, one number per
    token and channel in which A's bias is too (`fold.py`)."""

    kind: Literal["resmlp"] = "resmlp"
    channel_hidden: int = Field(ge=1)
    layer_scale: float = Field(gt=0)
    activation: Gelu = "erf"
    norm: NormConfig = AffineConfig()
    folded: bool = False

    branches: ClassVar[int] = 2

    def macs(self, width: int, tokens: int) -> Macs:
        return Macs(width * tokens * tokens, 2 * tokens * width * self.channel_hidden)

    @property
    def token_axes(self) -> dict[str, tuple[Axis, ...]]:
        bias: dict[str, tuple[Axis, ...]] = (
            {"shift1": ("tokens out", "channels")} if self.folded else {"linear_tokens.bias": ("tokens out",)}
        )
        return {"linear_tokens.weight": ("tokens out", "tokens in"), **bias}

    def beside(self, copies: int) -> "ResMLPConfig":
        return self

    def build(self, width: int, grid: tuple[int, int], drop_paths: list[DropPath]) -> "ResMLPBlock":
        return ResMLPBlock(self, width, grid, drop_paths)


class ResMLPBlock(nn.Module):
    """`(B, S, C) -> (B, S, C)`: cross-patch linear map, then per-patch MLP."""

    def __init__(self, config: ResMLPConfig, width: int, grid: tuple[int, int], drop_paths: list[DropPath]):
        super().__init__()
        tokens = grid[0] * grid[1]
        norm = without_affine(config.norm) if config.folded else config.norm
        self.layer_scale = config.layer_scale
        self.norm1 = build_norm(norm, width)
        self.linear_tokens = nn.Linear(tokens, tokens, bias=not config.folded)
        self.ls1 = nn.Parameter(torch.empty(width))
        self.shift1 = nn.Parameter(torch.empty(tokens, width)) if config.folded else None
        self.drop_path1 = drop_paths[0]
        self.norm2 = build_norm(norm, width)
        self.mlp_channels = Mlp(width, config.channel_hidden, config.activation)
        self.ls2 = None if config.folded else nn.Parameter(torch.empty(width))
        self.drop_path2 = drop_paths[1]

    def init_own(self, generator: torch.Generator | None = None) -> None:
        nn.init.constant_(self.ls1, self.layer_scale)
        if self.ls2 is not None:
            nn.init.constant_(self.ls2, self.layer_scale)
        if self.shift1 is not None:
            nn.init.zeros_(self.shift1)

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        normed_BSC = self.norm1(x_BSC)
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]  (functions there take no modules)
            mixed_BSC = self.linear_tokens(normed_BSC.transpose(1, 2)).transpose(1, 2)
        else:
            mixed_BSC = over_tokens(self.linear_tokens, normed_BSC)
        if self.shift1 is None:
            mixed_BSC = self.ls1 * mixed_BSC
        else:
            mixed_BSC = torch.addcmul(self.shift1, self.ls1, mixed_BSC)
        x_BSC = x_BSC + self.drop_path1(mixed_BSC)
        mixed_BSC = self.mlp_channels(self.norm2(x_BSC))
        if self.ls2 is not None:
            mixed_BSC = self.ls2 * mixed_BSC
        return x_BSC + self.drop_path2(mixed_BSC)
