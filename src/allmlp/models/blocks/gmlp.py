"""gMLP's block (arXiv 2105.08050), as in timm, whose implementation loads trained weights.

    Z = gelu(U LayerNorm(X));  Z1, Z2 = halves of Z's channels
    Y = X + V (Z1 ⊙ (W LayerNorm(Z2) + b))   W, b along tokens, shared by all channels

The spatial gate starts as a constant 1 (W ≈ 0, b = 1), so each block starts as a plain MLP. The gate's norm keeps
PyTorch's epsilon 1e-5 where the block's norm has 1e-6: timm's trained weights were made so.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from allmlp.models.layers import (
    Axis,
    DropPath,
    Gelu,
    LayerNormConfig,
    Macs,
    NormConfig,
    build_norm,
    gelu,
    without_affine,
)
from allmlp.models.products import linear, over_tokens
from allmlp.values import Value


class GMLPConfig(Value):
    """`hidden` is d_ffn: the first linear's width, halved by the gate. `folded`: the block's norm has no
    scale and shift."""

    kind: Literal["gmlp"] = "gmlp"
    hidden: int = Field(ge=2)
    activation: Gelu = "erf"
    norm: NormConfig = LayerNormConfig()
    gate_norm: NormConfig = LayerNormConfig(epsilon=1e-5)
    folded: bool = False

    branches: ClassVar[int] = 1
    token_axes: ClassVar[dict[str, tuple[Axis, ...]]] = {
        "mlp_channels.gate.proj.weight": ("tokens out", "tokens in"),
        "mlp_channels.gate.proj.bias": ("tokens out",),
    }

    @field_validator("hidden")
    @classmethod
    def _even(cls, hidden: int) -> int:
        if hidden % 2:
            raise ValueError("must be even: the gate splits the hidden channels in halves")
        return hidden

    def macs(self, width: int, tokens: int) -> Macs:
        """The gate's linear map mixes tokens; its product with the other half is elementwise and not counted."""
        half = self.hidden // 2
        return Macs(half * tokens * tokens, tokens * width * (self.hidden + half))

    def beside(self, copies: int) -> "GMLPConfig":
        return self

    def build(self, width: int, grid: tuple[int, int], drop_paths: list[DropPath]) -> "GMLPBlock":
        return GMLPBlock(self, width, grid, drop_paths)


class SpatialGatingUnit(nn.Module):
    """`(B, S, F) -> (B, S, F/2)`: the first half of the channels times a linear map over tokens of the second half."""

    def __init__(self, hidden: int, tokens: int, norm: NormConfig):
        super().__init__()
        self.norm = build_norm(norm, hidden // 2)
        self.proj = nn.Linear(tokens, tokens)

    def init_own(self, generator: torch.Generator | None = None) -> None:
        nn.init.normal_(self.proj.weight, std=1e-6, generator=generator)
        nn.init.ones_(self.proj.bias)

    def forward(self, x_BSF: torch.Tensor) -> torch.Tensor:
        carrier, gate = x_BSF.chunk(2, dim=-1)
        gate_BSF = self.norm(gate)
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]  (functions there take no modules)
            return carrier * self.proj(gate_BSF.transpose(1, 2)).transpose(1, 2)
        return carrier * over_tokens(self.proj, gate_BSF)


class GatedMlp(nn.Module):
    """Linear, GELU, spatial gate, linear."""

    def __init__(self, config: GMLPConfig, width: int, tokens: int):
        super().__init__()
        self.fc1 = nn.Linear(width, config.hidden)
        self.act = gelu(config.activation)
        self.gate = SpatialGatingUnit(config.hidden, tokens, config.gate_norm)
        self.fc2 = nn.Linear(config.hidden // 2, width)

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]
            return self.fc2(self.gate(self.act(self.fc1(x_BSC))))
        return linear(self.fc2, self.gate(linear(self.fc1, x_BSC, self.act)))


class GMLPBlock(nn.Module):
    """`(B, S, C) -> (B, S, C)`: one residual branch in which the gate mixes tokens."""

    def __init__(self, config: GMLPConfig, width: int, grid: tuple[int, int], drop_paths: list[DropPath]):
        super().__init__()
        self.norm = build_norm(without_affine(config.norm) if config.folded else config.norm, width)
        self.mlp_channels = GatedMlp(config, width, grid[0] * grid[1])
        self.drop_path = drop_paths[0]

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        return x_BSC + self.drop_path(self.mlp_channels(self.norm(x_BSC)))
