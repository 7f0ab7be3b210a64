"""The layers that all families share. Parameter names are timm's (`fc1`, `fc2`, `alpha`, `beta`).

Axes: B batch, S tokens, C channels, F hidden.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import nn

from allmlp.models.products import linear, over_tokens
from allmlp.values import Value

Gelu = Literal["tanh", "erf"]
"""Which GELU. "tanh": 0.5x(1 + tanh(sqrt(2/pi)(x + 0.044715x³))), flax's default and so Google's Mixers (MLP-Mixer
[vj:models_mixer.py]). "erf": x·Φ(x), PyTorch's default and so ResMLP, gMLP and all of timm. They differ by at most
4.73e-4."""


Activation = Literal[Gelu, "relu", "silu", "hardswish"]
"""What ResMLP's appendix A tries in place of GELU too."""


def gelu(kind: Gelu) -> nn.GELU:
    return nn.GELU(approximate="tanh" if kind == "tanh" else "none")


def activate(kind: Activation) -> nn.Module:
    if kind in ("tanh", "erf"):
        return gelu(kind)
    return {"relu": nn.ReLU, "silu": nn.SiLU, "hardswish": nn.Hardswish}[kind]()


Axis = Literal["tokens in", "tokens out", "hidden", "halves of hidden", "channels"]
"""What an axis of a token-mixing parameter counts, for `resize`: tokens that are summed over, tokens that come out, the
hidden units of token mixing (in two halves, value and gate, where the MLP is gated), or none of these."""


class Macs(NamedTuple):
    """Multiply-adds of a block's linear layers for one image, by what they mix."""

    token_mixing: int
    channel_mixing: int


class LayerNormConfig(Value):
    """LayerNorm over the channels of each token. Flax and timm's mixers use 1e-6, PyTorch's default is 1e-5. `affine`:
    a scale and a shift per channel follow (not where the next linear layer has them, see `fold`)."""

    kind: Literal["layernorm"] = "layernorm"
    epsilon: float = Field(default=1e-6, gt=0)
    affine: bool = True


class AffineConfig(Value):
    """ResMLP's Aff (eq. 1): a scale and a shift per channel, no statistics."""

    kind: Literal["affine"] = "affine"


class IdentityConfig(Value):
    """No norm: what is left of Aff once the next linear layer has its scale and shift (see `fold`)."""

    kind: Literal["identity"] = "identity"


AnyNorm = LayerNormConfig | AffineConfig | IdentityConfig
NormConfig = Annotated[AnyNorm, Field(discriminator="kind")]


class Affine(nn.Module):
    """`alpha * x + beta`, per channel; starts as the identity. Shapes `(1, 1, C)` as in timm's state dicts."""

    def __init__(self, width: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.beta, self.alpha, x_BSC)


def build_norm(config: AnyNorm, width: int) -> nn.Module:
    if isinstance(config, LayerNormConfig):
        return nn.LayerNorm(width, eps=config.epsilon, elementwise_affine=config.affine)
    return Affine(width) if isinstance(config, AffineConfig) else nn.Identity()


def without_affine(config: AnyNorm) -> AnyNorm:
    """The same norm without its scale and shift per channel."""
    return config.with_(affine=False) if isinstance(config, LayerNormConfig) else IdentityConfig()


class Mlp(nn.Module):
    """Linear, activation, linear over the last axis: `(…, width)` to `(…, width)` through `hidden`.

    `turned`: x is a view `(B, C, S)` of tokens `(B, S, C)`; so is what comes out, where that saves turning it back.
    """

    def __init__(self, width: int, hidden: int, activation: Activation, turned: bool = False):
        super().__init__()
        self.turned = turned
        self.fc1 = nn.Linear(width, hidden)
        self.act = activate(activation)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]  (functions there take no modules)
            return self.fc2(self.act(self.fc1(x)))
        hidden = linear(self.fc1, x, self.act)
        if self.turned:
            return over_tokens(self.fc2, hidden.transpose(1, 2)).transpose(1, 2)
        return linear(self.fc2, hidden)


class GluMlp(nn.Module):
    """SwiGLU, the gated MLP of timm's gmixer: the first half of the hidden units times SiLU of the second half."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.SiLU()
        self.fc2 = nn.Linear(hidden // 2, width)

    def init_own(self, generator: torch.Generator | None = None) -> None:
        """The gate starts near silu(1), a constant (timm)."""
        half = self.fc1.out_features // 2
        nn.init.normal_(self.fc1.weight[half:], std=1e-6, generator=generator)
        nn.init.ones_(self.fc1.bias[half:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(value * self.act(gate))


class DropPath(nn.Module):
    """Stochastic depth of one residual branch: in training, each sample loses the branch with probability `rate`.

    `rescale`: kept branches are divided by `1 - rate` (timm, DeiT); big_vision does not. `rows` and `total`: set by
    `draw_for_whole_batch`.
    """

    def __init__(self, rate: float, rescale: bool):
        super().__init__()
        self.rate, self.rescale = rate, rescale
        self.rows: torch.Tensor | None = None
        self.total = 0

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return x_BSC
        rows = self.rows
        views = 0 if rows is None else x_BSC.shape[0] // rows.shape[0]
        count = x_BSC.shape[0] if rows is None else views * self.total
        keep = torch.empty(count, 1, 1, dtype=x_BSC.dtype, device=x_BSC.device).bernoulli_(1 - self.rate)
        if rows is not None:
            keep = keep.view(views, self.total, 1, 1)[:, rows].view(-1, 1, 1)
        return x_BSC * (keep / (1 - self.rate) if self.rescale else keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}, rescale={self.rescale}"


def draw_for_whole_batch(network: nn.Module, rows: Sequence[int] | np.ndarray, total: int) -> None:
    """From now on `network` sees the images `rows` of a batch of `total`, and draws stochastic depth for all of them.

    Several processes that share a batch then drop what one alone would. Several views of each image may come one view
    of all images after the other.
    """
    placed = torch.as_tensor(rows, device=next(network.parameters()).device)
    for module in network.modules():
        if isinstance(module, DropPath) and module.rate:
            module.rows, module.total = placed, total


class StochasticDepth(Value):
    """How drop rates are spread over the network; the sources disagree:

    - `rule="mlp"`: linear from 0 at the first branch to `rate` at the last (MLP-Mixer, App. B: per MLP);
    - `rule="block"`, `rescale=False`: block i gets rate·i/(L-1), both branches alike (big_vision);
    - `rule="constant"`: every block gets `rate` (timm, DeiT and so ResMLP).
    """

    rate: float = Field(default=0.0, ge=0, lt=1)
    rule: Literal["mlp", "block", "constant"] = "constant"
    rescale: bool = True

    def rates(self, branches: Sequence[int]) -> list[list[float]]:
        """The drop rate of each residual branch, for blocks that have `branches` of them, from first to last."""
        numbers = [number - 1 for number in accumulate(int(count > 0) for count in branches)]

        def rate(block: int, branch: int) -> float:
            if self.rule == "constant":
                return self.rate
            if self.rule == "block":  # what merges patches has no branch and does not count
                return self.rate * numbers[block] / max(numbers[-1], 1)
            return self.rate * (sum(branches[:block]) + branch) / max(sum(branches) - 1, 1)

        return [[rate(block, branch) for branch in range(count)] for block, count in enumerate(branches)]
