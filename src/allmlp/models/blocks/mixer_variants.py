"""What MLP-Mixer's authors tried for token mixing and did not keep (arXiv 2105.01601, appendix A.1).

Channel mixing is MixerBlock's; so is W2 gelu(W1 · + b1) + b2 below, written `mlp`. X is the normalised input (S, C).

- `untied`: a token MLP for each channel: column c of the result is mlp_c(X_c). C times the parameters, the same work.
- `grouped`: G neighbouring channels are mixed together with the tokens. X is laid out as (S·G, C/G): column j holds
  channels jG to jG + G - 1 of all tokens; one mlp from S·G to S·G serves all C/G columns. (The paper says "by reshape";
  a plain row-major reshape would put channels together that stand C/G apart. The two differ by a fixed order of the
  channels only, which stem and channel mixing can learn.)
- `views`: the same, but each token is first mapped by G learned linear maps C -> C/G: column j holds output j of all G.
  The result is laid out as (S, C) again, and there is no map back.

With one group, `grouped` is Mixer. UNVERIFIED, as neither is published: the paper's G, and the hidden widths it took.
The fourth trial, pyramids (a token MLP from S to fewer tokens), is `models/pyramid.py`.
"""

import math
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from allmlp.errors import BadSetting
from allmlp.models.init import lecun_normal
from allmlp.models.layers import Axis, DropPath, Gelu, LayerNormConfig, Macs, Mlp, NormConfig, build_norm, gelu
from allmlp.values import Value


class MixerVariantConfig(Value):
    """`token_hidden`: D_S, of each token MLP. `groups`: G, which must divide the width; 1 where channels are untied."""

    kind: Literal["mixer_variant"] = "mixer_variant"
    token_hidden: int = Field(ge=1)
    channel_hidden: int = Field(ge=1)
    mixing: Literal["untied", "grouped", "views"] = "untied"
    groups: int = Field(default=1, ge=1)
    activation: Gelu = "tanh"
    norm: NormConfig = LayerNormConfig()

    branches: ClassVar[int] = 2
    folded: ClassVar[bool] = False

    @model_validator(mode="after")
    def _groups_have_an_effect(self) -> Self:
        if self.mixing == "untied" and self.groups > 1:
            raise ValueError(f"{self.groups} groups have no effect where each channel has its own token MLP; set "
                             "mixing to 'grouped' or 'views', or groups to 1")
        return self

    def macs(self, width: int, tokens: int) -> Macs:
        """C/G columns of S·G numbers take what C columns of S take."""
        views = tokens * width * width if self.mixing == "views" else 0
        return Macs(views + 2 * width * tokens * self.token_hidden, 2 * tokens * width * self.channel_hidden)

    @property
    def token_axes(self) -> dict[str, tuple[Axis, ...]]:
        if self.groups > 1:
            raise BadSetting("resize knows no rule for a mixer that mixes groups of channels with its tokens; "
                             "train it at the image size and patch size that you need")
        if self.mixing == "untied":
            return {
                "mlp_tokens.fc1.weight": ("channels", "hidden", "tokens in"),
                "mlp_tokens.fc1.bias": ("channels", "hidden"),
                "mlp_tokens.fc2.weight": ("channels", "tokens out", "hidden"),
                "mlp_tokens.fc2.bias": ("channels", "tokens out"),
            }
        return {
            "mlp_tokens.mlp.fc1.weight": ("hidden", "tokens in"),
            "mlp_tokens.mlp.fc1.bias": ("hidden",),
            "mlp_tokens.mlp.fc2.weight": ("tokens out", "hidden"),
            "mlp_tokens.mlp.fc2.bias": ("tokens out",),
        }

    def beside(self, copies: int) -> "MixerVariantConfig":
        return self.with_(token_hidden=copies * self.token_hidden)

    def build(self, width: int, grid: tuple[int, int], drop_paths: list[DropPath]) -> "MixerVariantBlock":
        return MixerVariantBlock(self, width, grid, drop_paths)


class LinearPerChannel(nn.Module):
    """`(C, B, n) -> (C, B, m)`: a linear layer for each channel. Starts as flax's linear layers do, each by itself."""

    def __init__(self, channels: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(channels, outputs))

    def init_own(self, generator: torch.Generator | None = None) -> None:
        lecun_normal(self.weight, self.weight.shape[2], generator)
        nn.init.zeros_(self.bias)

    def forward(self, x_CBN: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias[:, None], x_CBN, self.weight.transpose(1, 2))


class UntiedMixing(nn.Module):
    """`(B, S, C) -> (B, S, C)`: a token MLP for each channel."""

    def __init__(self, config: MixerVariantConfig, width: int, tokens: int):
        super().__init__()
        self.fc1 = LinearPerChannel(width, tokens, config.token_hidden)
        self.act = gelu(config.activation)
        self.fc2 = LinearPerChannel(width, config.token_hidden, tokens)

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x_BSC.permute(2, 0, 1)))).permute(1, 2, 0)


class JointMixing(nn.Module):
    """`(B, S, C) -> (B, S, C)`: one MLP over all tokens of G channels, neighbours or learned views of all."""

    def __init__(self, config: MixerVariantConfig, width: int, tokens: int):
        super().__init__()
        if width % config.groups:
            raise BadSetting(f"mixer variant: {config.groups} groups for a width of {width}; groups must divide it")
        self.groups, self.columns = config.groups, width // config.groups
        self.views = nn.Linear(width, width) if config.mixing == "views" else None
        self.mlp = Mlp(tokens * config.groups, config.token_hidden, config.activation)

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        """G counts the members of a group, J the C/G columns."""
        if self.views is None:
            x_BJSG = x_BSC.unflatten(2, (self.columns, self.groups)).permute(0, 2, 1, 3)
        else:
            x_BJSG = self.views(x_BSC).unflatten(2, (self.groups, self.columns)).permute(0, 3, 1, 2)
        mixed_BJSG = self.mlp(x_BJSG.flatten(2)).unflatten(2, (-1, self.groups))
        return mixed_BJSG.permute((0, 2, 1, 3) if self.views is None else (0, 2, 3, 1)).flatten(2)


class MixerVariantBlock(nn.Module):
    """`(B, S, C) -> (B, S, C)`: token mixing of another kind, then Mixer's channel mixing."""

    def __init__(self, config: MixerVariantConfig, width: int, grid: tuple[int, int], drop_paths: list[DropPath]):
        super().__init__()
        mixing = UntiedMixing if config.mixing == "untied" else JointMixing
        self.norm1 = build_norm(config.norm, width)
        self.mlp_tokens = mixing(config, width, math.prod(grid))
        self.drop_path1 = drop_paths[0]
        self.norm2 = build_norm(config.norm, width)
        self.mlp_channels = Mlp(width, config.channel_hidden, config.activation)
        self.drop_path2 = drop_paths[1]

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        x_BSC = x_BSC + self.drop_path1(self.mlp_tokens(self.norm1(x_BSC)))
        return x_BSC + self.drop_path2(self.mlp_channels(self.norm2(x_BSC)))
