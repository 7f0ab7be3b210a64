"""ResMLP's class-MLP: pooling by layers that are learned (arXiv 2105.03404, Table 3 and appendix D.3).

As in CaiT, a class token joins after the blocks, and in two more layers it alone changes, reading the tokens, which
stay as they are; attention is a linear map there. With c the class token (C), X the tokens after the network's last
norm (S, C), [c; X] both of them (S + 1, C):

    c <- c + γ1 ⊙ (a norm([c; X]) + b)     a: S + 1 numbers, the same for all channels
    c <- c + γ2 ⊙ (C gelu(B norm(c)))      4C hidden units

Twice, with other weights, then a norm; what comes out goes to the head. There is no public code. Norms, LayerScale and
their numbers are those that fit the paper's parameters (17.72, 32.39 and 47.06 M for 17.7, 32.4 and 47.1). UNVERIFIED:
the rest, such as where LayerScale starts (here as in the network's last block, as in CaiT) and that the network keeps
its last norm beside this one.
"""

import torch
from torch import nn

from allmlp.models.layers import AnyNorm, Mlp, build_norm

NUM_LAYERS = 2
EXPANSION = 4


class ClassMlpLayer(nn.Module):
    """The class token `(B, 1, C)` after reading the tokens `(B, S, C)`."""

    def __init__(self, width: int, tokens: int, norm: AnyNorm, layer_scale: float | None):
        super().__init__()
        self.layer_scale = layer_scale

        def scale() -> nn.Parameter | None:
            return None if layer_scale is None else nn.Parameter(torch.empty(width))

        self.norm1 = build_norm(norm, width)
        self.linear_tokens = nn.Linear(tokens + 1, 1)
        self.ls1 = scale()
        self.norm2 = build_norm(norm, width)
        self.mlp_channels = Mlp(width, EXPANSION * width, "erf")
        self.ls2 = scale()

    def init_own(self, generator: torch.Generator | None = None) -> None:
        for parameter in (self.ls1, self.ls2):
            if parameter is not None and self.layer_scale is not None:
                nn.init.constant_(parameter, self.layer_scale)

    def forward(self, class_B1C: torch.Tensor, x_BSC: torch.Tensor) -> torch.Tensor:
        normed_BTC = self.norm1(torch.cat([class_B1C, x_BSC], dim=1))
        read_B1C = self.linear_tokens(normed_BTC.transpose(1, 2)).transpose(1, 2)
        class_B1C = class_B1C + (read_B1C if self.ls1 is None else self.ls1 * read_B1C)
        mixed_B1C = self.mlp_channels(self.norm2(class_B1C))
        return class_B1C + (mixed_B1C if self.ls2 is None else self.ls2 * mixed_B1C)


class ClassMlp(nn.Module):
    """`(B, S, C) -> (B, C)`: pooling. `layer_scale`: where γ1 and γ2 start; None: there are none."""

    def __init__(self, width: int, tokens: int, norm: AnyNorm, layer_scale: float | None):
        super().__init__()
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.layers = nn.ModuleList([ClassMlpLayer(width, tokens, norm, layer_scale) for _ in range(NUM_LAYERS)])
        self.norm = build_norm(norm, width)

    def init_own(self, generator: torch.Generator | None = None) -> None:
        nn.init.trunc_normal_(self.class_token, std=0.02, generator=generator)

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        class_B1C = self.class_token.repeat(len(x_BSC), 1, 1)
        for layer in self.layers:
            class_B1C = layer(class_B1C, x_BSC)
        return self.norm(class_B1C).squeeze(1)


def macs(width: int, tokens: int) -> int:
    """Multiply-adds for one image: of each layer the S + 1 terms in each channel, and the MLP of one token."""
    return NUM_LAYERS * (width * (tokens + 1) + 2 * EXPANSION * width * width)
