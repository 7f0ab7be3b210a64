"""A convolution on the token grid, in the pre-norm frame or bare, so that it can stand after any layer.

Depthwise (each channel for itself, as Mixer's token mixing but local) or full (all channels from all). Beyond the edge
of the grid there are zeros, so the number of tokens stays. The weights do not depend on the grid.
"""

from typing import Literal

from pydantic import Field, field_validator
from torch import nn

from allmlp.models.blocks.frame import FramedConfig, OnGrid


class ConvolutionConfig(FramedConfig):
    """`kernel`: tokens on a side, odd."""

    kind: Literal["convolution"] = "convolution"
    kernel: int = Field(default=3, ge=1, le=255)
    channels: Literal["depthwise", "full"] = "depthwise"

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"must be odd, to have a token in its middle; take {kernel - 1} or {kernel + 1}")
        return kernel

    def mixing(self, width: int, grid: tuple[int, int]) -> OnGrid:
        groups = width if self.channels == "depthwise" else 1
        return OnGrid(nn.Conv2d(width, width, self.kernel, padding=self.kernel // 2, groups=groups), grid)

    def mixing_macs(self, width: int, tokens: int) -> int:
        return tokens * width * self.kernel**2 * (1 if self.channels == "depthwise" else width)
