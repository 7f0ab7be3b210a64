"""Token mixing without weights, as controls: what does a network reach whose tokens hardly see each other?

- pooling: the mean over neighbouring tokens minus the token itself (PoolFormer, arXiv 2111.11418, eq. 4; the residual
  branch adds the token again). Beyond the edge of the grid there is nothing, and the mean is over fewer tokens.
- identity: no mixing at all (its Table 5, first row): tokens meet in the mean before the head, and nowhere else.

PoolFormer norms over all tokens and channels of an image and scales both branches per channel, starting at 1e-5; here
the norm is the frame's, over channels, and there is no scale.
"""

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from allmlp.models.blocks.frame import FramedConfig, OnGrid


class PoolingConfig(FramedConfig):
    """`window`: tokens on a side, odd, at least 3."""

    kind: Literal["pooling"] = "pooling"
    window: int = Field(default=3, ge=3, le=255)

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError(f"must be odd, to have a token in its middle; take {window - 1} or {window + 1}")
        return window

    def mixing(self, width: int, grid: tuple[int, int]) -> OnGrid:
        return OnGrid(Pooling(self.window), grid)

    def mixing_macs(self, width: int, tokens: int) -> int:
        return 0  # a mean is no linear map with weights


class IdentityMixingConfig(FramedConfig):
    """`U = X + norm1(X)`."""

    kind: Literal["identity"] = "identity"

    def mixing(self, width: int, grid: tuple[int, int]) -> nn.Identity:
        return nn.Identity()

    def mixing_macs(self, width: int, tokens: int) -> int:
        return 0


class Pooling(nn.Module):
    """`(B, C, H, W) -> (B, C, H, W)`: the mean of the neighbourhood minus the middle."""

    def __init__(self, window: int):
        super().__init__()
        self.pool = nn.AvgPool2d(window, stride=1, padding=window // 2, count_include_pad=False)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.pool(x_BCHW) - x_BCHW
