"""ResMLP's block with its parts exchanged: the paper's ablations (arXiv 2105.03404, Table 3 and appendix A).

    Z = X + γ1 ⊙ interaction(norm(X))      between patches
    Y = Z + γ2 ⊙ (C act(B norm(Z)))        along channels, as in ResMLP

| interaction | what it is | Table 3 |
|---|---|---|
| linear | one linear map along tokens: ResMLP itself | baseline |
| removed | the whole first branch is gone: every patch is alone until pooling | "none", 14.9 M, 56.5 % |
| identity | only the linear map is gone; norm and γ1 stay | the same 14.9 M: the paper does not say which |
| mlp | linear, activation, linear along tokens; 4 hidden units per token | "linear → MLP" |
| conv | 3 x 3 over the grid of tokens, all channels | "conv 3x3" |
| depthwise | 3 x 3, each channel alone | "depth-wise conv 3x3" |
| separable | depthwise, then 1 x 1 | "separable conv 3x3" |

UNVERIFIED, as there is no public code: that the convolutions have biases, zeros outside the grid, and nothing nonlinear
between the two of "separable". The parameters agree with the paper's millions in all cases.
"""

import math
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from allmlp.models.layers import Activation, AffineConfig, Axis, DropPath, Macs, Mlp, NormConfig, build_norm
from allmlp.values import Value

Interaction = Literal["linear", "removed", "identity", "mlp", "conv", "depthwise", "separable"]


class ResMLPAblationConfig(Value):
    """`layer_scale`: where γ1 and γ2 start; None: there are none. `token_hidden`: hidden units of "mlp" and of nothing
    else."""

    kind: Literal["resmlp_ablation"] = "resmlp_ablation"
    channel_hidden: int = Field(ge=1)
    layer_scale: float | None = Field(gt=0)
    interaction: Interaction = "linear"
    token_hidden: int | None = Field(default=None, ge=1)
    activation: Activation = "erf"
    norm: NormConfig = AffineConfig()

    folded: ClassVar[bool] = False

    @model_validator(mode="after")
    def _hidden_units_where_they_are(self) -> Self:
        if (self.interaction == "mlp") != (self.token_hidden is not None):
            raise ValueError(f"token_hidden {self.token_hidden} with the interaction {self.interaction!r}: give it for "
                             "'mlp', where it is the number of hidden units, and for no other")
        return self

    @property
    def branches(self) -> int:
        return 1 if self.interaction == "removed" else 2

    def macs(self, width: int, tokens: int) -> Macs:
        between = {
            "linear": width * tokens * tokens,
            "removed": 0,
            "identity": 0,
            "mlp": 2 * width * tokens * (self.token_hidden or 0),
            "conv": 9 * tokens * width * width,
            "depthwise": 9 * tokens * width,
            "separable": 9 * tokens * width + tokens * width * width,
        }
        return Macs(between[self.interaction], 2 * tokens * width * self.channel_hidden)

    @property
    def token_axes(self) -> dict[str, tuple[Axis, ...]]:
        if self.interaction == "linear":
            return {"interaction.map.weight": ("tokens out", "tokens in"), "interaction.map.bias": ("tokens out",)}
        if self.interaction == "mlp":
            return {
                "interaction.map.fc1.weight": ("hidden", "tokens in"),
                "interaction.map.fc1.bias": ("hidden",),
                "interaction.map.fc2.weight": ("tokens out", "hidden"),
                "interaction.map.fc2.bias": ("tokens out",),
            }
        return {}

    def beside(self, copies: int) -> "ResMLPAblationConfig":
        return self if self.token_hidden is None else self.with_(token_hidden=copies * self.token_hidden)

    def build(self, width: int, grid: tuple[int, int], drop_paths: list[DropPath]) -> "ResMLPAblationBlock":
        return ResMLPAblationBlock(self, width, grid, drop_paths)


class OverTokens(nn.Module):
    """`(B, S, C) -> (B, S, C)`: a map of the last axis, applied along tokens."""

    def __init__(self, along: nn.Module):
        super().__init__()
        self.map = along

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        return self.map(x_BSC.transpose(1, 2)).transpose(1, 2)


class OverGrid(nn.Module):
    """`(B, S, C) -> (B, S, C)`: a map of images `(B, C, rows, columns)`, applied to the tokens at their places."""

    def __init__(self, grid: tuple[int, int], over: nn.Module):
        super().__init__()
        self.grid, self.map = grid, over

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        return self.map(x_BSC.transpose(1, 2).unflatten(2, self.grid)).flatten(2).transpose(1, 2)


def interaction(config: ResMLPAblationConfig, width: int, grid: tuple[int, int]) -> nn.Module:
    tokens, kind = math.prod(grid), config.interaction
    if kind == "identity":
        return nn.Identity()
    if kind == "linear":
        return OverTokens(nn.Linear(tokens, tokens))
    if kind == "mlp":
        assert config.token_hidden is not None
        return OverTokens(Mlp(tokens, config.token_hidden, config.activation))
    convolution = nn.Conv2d(width, width, 3, padding=1, groups=1 if kind == "conv" else width)
    if kind == "separable":
        return OverGrid(grid, nn.Sequential(convolution, nn.Conv2d(width, width, 1)))
    return OverGrid(grid, convolution)


class ResMLPAblationBlock(nn.Module):
    """`(B, S, C) -> (B, S, C)`: the interaction between patches, then the MLP of each patch."""

    def __init__(self, config: ResMLPAblationConfig, width: int, grid: tuple[int, int], drop_paths: list[DropPath]):
        super().__init__()
        self.layer_scale = config.layer_scale

        def scale() -> nn.Parameter | None:
            return None if config.layer_scale is None else nn.Parameter(torch.empty(width))

        self.interaction = None
        if config.interaction != "removed":
            self.norm1 = build_norm(config.norm, width)
            self.interaction = interaction(config, width, grid)
            self.ls1 = scale()
            self.drop_path1 = drop_paths[0]
        self.norm2 = build_norm(config.norm, width)
        self.mlp_channels = Mlp(width, config.channel_hidden, config.activation)
        self.ls2 = scale()
        self.drop_path2 = drop_paths[-1]

    def init_own(self, generator: torch.Generator | None = None) -> None:
        for parameter in self.parameters(recurse=False):  # γ1 and γ2, where there are any
            nn.init.constant_(parameter, self.layer_scale or 0.0)

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        if self.interaction is not None:
            mixed_BSC = self.interaction(self.norm1(x_BSC))
            if self.ls1 is not None:
                mixed_BSC = self.ls1 * mixed_BSC
            x_BSC = x_BSC + self.drop_path1(mixed_BSC)
        mixed_BSC = self.mlp_channels(self.norm2(x_BSC))
        if self.ls2 is not None:
            mixed_BSC = self.ls2 * mixed_BSC
        return x_BSC + self.drop_path2(mixed_BSC)
