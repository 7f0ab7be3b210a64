"""Multi-head self-attention in the pre-norm frame: ViT's block (arXiv 2010.11929, eqs. 2-3; timm's `Block`).

    A = softmax(Q K^T / sqrt(C / heads)) V      for each head, its own C / heads channels of Q, K and V
    mixing(X) = W A + b                          all heads' channels beside each other

It treats all tokens alike, wherever they are: alone it can't tell an image from one with its patches in another order,
and the network has no positional embedding. Beside a block that can (mixer, convolution, spach) it needs none.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from allmlp.errors import BadSetting
from allmlp.models.blocks.frame import FramedConfig


class AttentionConfig(FramedConfig):
    """`heads` divides the width."""

    kind: Literal["attention"] = "attention"
    heads: int = Field(ge=1)

    def mixing(self, width: int, grid: tuple[int, int]) -> "Attention":
        return Attention(width, self.heads)

    def mixing_macs(self, width: int, tokens: int) -> int:
        return attention_macs(width, tokens)


def attention_macs(width: int, tokens: int) -> int:
    """Queries, keys, values and what comes out, 4·S·C²; the two products of tokens with tokens, 2·S²·C."""
    return 4 * tokens * width * width + 2 * tokens * tokens * width


class Attention(nn.Module):
    """`(B, S, C) -> (B, S, C)`, S any number. Raises `BadSetting` for heads that do not divide the width."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            fitting = [count for count in range(1, width + 1) if width % count == 0]
            near = min(fitting, key=lambda count: abs(count - heads))
            raise BadSetting(f"attention: {heads} heads do not divide the width {width}; take {near}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x_BSC).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3, B, heads, S, C / heads
        query, key, value = qkv.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))
