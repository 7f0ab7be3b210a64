"""SPACH's block: convolution, token MLP and attention in one frame (arXiv 2108.13002; [spach:models/spach/spach.py]).

    U = X + γ ⊙ Fs(LN1(X)) + DW(X)            Fs: token MLP, attention, or none; DW: a depthwise 3 x 3 convolution
    Y = U + W2 gelu(W1 LN2(U))

γ, one number per channel, starts at 1e-4. DW sees the raw input and is never dropped: it tells attention where a token
is, and in the network called "convolution" it is all that mixes tokens (no Fs, no LN1, no γ). The paper's eq. 1 has Fs
after channel mixing, its figure and code as here.

Several layers can share one Fs ("weight sharing", section 4.3): such a block is all those layers, with their own norms,
γ, DW and channel mixing.
"""

from typing import ClassVar, Literal, NoReturn, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from allmlp.models.blocks.attention import Attention, attention_macs
from allmlp.models.blocks.frame import OnGrid, refuse_beside
from allmlp.models.layers import Axis, DropPath, Gelu, LayerNormConfig, Macs, Mlp, NormConfig, build_norm
from allmlp.values import Value


class SpachConfig(Value):
    """`token_hidden` is for the token MLP (SPACH: half the tokens), `heads` for attention (SPACH: 32 channels each).
    `layers`: how many share their Fs."""

    kind: Literal["spach"] = "spach"
    mixing: Literal["convolution", "mlp", "attention"] = "convolution"
    channel_hidden: int = Field(ge=1)
    token_hidden: int = Field(default=0, ge=0)
    heads: int = Field(default=0, ge=0)
    layers: int = Field(default=1, ge=1, le=1_024)
    layer_scale: float = Field(default=1e-4, gt=0)
    activation: Gelu = "erf"
    norm: NormConfig = LayerNormConfig()

    folded: ClassVar[bool] = False

    @model_validator(mode="after")
    def _what_the_mixing_takes(self) -> Self:
        for name, given, taken in (("token_hidden", self.token_hidden, self.mixing == "mlp"),
                                   ("heads", self.heads, self.mixing == "attention")):
            if bool(given) != taken:
                raise ValueError(f"{name} {given} with mixing {self.mixing!r}; "
                                 + ("give at least 1" if taken else "leave it out"))
        if self.layers > 1 and self.mixing == "convolution":
            raise ValueError(f"{self.layers} layers share their token mixing, and mixing 'convolution' has none to "
                             "share; take layers 1")
        return self

    @property
    def branches(self) -> int:
        return self.layers * (1 if self.mixing == "convolution" else 2)

    @property
    def token_axes(self) -> dict[str, tuple[Axis, ...]]:
        if self.mixing != "mlp":
            return {}
        return {
            "mix_tokens.mlp.fc1.weight": ("hidden", "tokens in"),
            "mix_tokens.mlp.fc1.bias": ("hidden",),
            "mix_tokens.mlp.fc2.weight": ("tokens out", "hidden"),
            "mix_tokens.mlp.fc2.bias": ("tokens out",),
        }

    def macs(self, width: int, tokens: int) -> Macs:
        mixing = {"convolution": 0, "mlp": 2 * width * tokens * self.token_hidden,
                  "attention": attention_macs(width, tokens)}[self.mixing]  # fmt: skip
        token_mixing, channel_mixing = mixing + 9 * tokens * width, 2 * tokens * width * self.channel_hidden
        return Macs(self.layers * token_mixing, self.layers * channel_mixing)

    def beside(self, copies: int) -> NoReturn:
        refuse_beside(self.kind)

    def build(self, width: int, grid: tuple[int, int], drop_paths: list[DropPath]) -> "SpachBlock":
        return SpachBlock(self, width, grid, drop_paths)


class TokenMlp(nn.Module):
    """`(B, S, C) -> (B, S, C)`: an MLP along tokens, shared by all channels."""

    def __init__(self, tokens: int, hidden: int, activation: Gelu):
        super().__init__()
        self.mlp = Mlp(tokens, hidden, activation)

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        return self.mlp(x_BSC.transpose(1, 2)).transpose(1, 2)


class SpachLayer(nn.Module):
    """All of one layer but Fs, which it is given."""

    def __init__(self, config: SpachConfig, width: int, grid: tuple[int, int], drop_paths: list[DropPath]):
        super().__init__()
        self.mixes = config.mixing != "convolution"
        if self.mixes:
            self.norm1 = build_norm(config.norm, width)
            self.layer_scale = config.layer_scale
            self.ls1 = nn.Parameter(torch.empty(width))
            self.drop_path1 = drop_paths[0]
        self.position = OnGrid(nn.Conv2d(width, width, 3, padding=1, groups=width), grid)
        self.norm2 = build_norm(config.norm, width)
        self.mlp_channels = Mlp(width, config.channel_hidden, config.activation)
        self.drop_path2 = drop_paths[-1]

    def init_own(self, generator: torch.Generator | None = None) -> None:
        if self.mixes:
            nn.init.constant_(self.ls1, self.layer_scale)

    def forward(self, x_BSC: torch.Tensor, mix_tokens: nn.Module) -> torch.Tensor:
        u_BSC = x_BSC
        if self.mixes:
            u_BSC = u_BSC + self.drop_path1(self.ls1 * mix_tokens(self.norm1(x_BSC)))
        u_BSC = u_BSC + self.position(x_BSC)
        return u_BSC + self.drop_path2(self.mlp_channels(self.norm2(u_BSC)))


class SpachBlock(nn.Module):
    """`(B, S, C) -> (B, S, C)`: `layers` of them with one Fs, `mix_tokens`."""

    def __init__(self, config: SpachConfig, width: int, grid: tuple[int, int], drop_paths: list[DropPath]):
        super().__init__()
        self.mix_tokens = _mixing(config, width, grid[0] * grid[1])
        each = config.branches // config.layers
        self.layers = nn.ModuleList(
            SpachLayer(config, width, grid, drop_paths[number * each : (number + 1) * each])
            for number in range(config.layers)
        )

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x_BSC = layer(x_BSC, self.mix_tokens)
        return x_BSC


def _mixing(config: SpachConfig, width: int, tokens: int) -> nn.Module:
    if config.mixing == "mlp":
        return TokenMlp(tokens, config.token_hidden, config.activation)
    return Attention(width, config.heads) if config.mixing == "attention" else nn.Identity()
