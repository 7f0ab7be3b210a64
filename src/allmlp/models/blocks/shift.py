"""Token mixing by moving channels one token aside (ShiftViT, arXiv 2201.10801): no weights, no multiplications.

A share of the channels moves left, as many right, up and down; the rest stay. Beyond the edge there are zeros.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from allmlp.errors import BadSetting
from allmlp.models.blocks.frame import FramedConfig, OnGrid


class ShiftConfig(FramedConfig):
    """One channel in `parts` moves in each of the four directions (ShiftViT: 12, so a third of all channels move)."""

    kind: Literal["shift"] = "shift"
    parts: int = Field(default=12, ge=4)

    def mixing(self, width: int, grid: tuple[int, int]) -> OnGrid:
        if width < self.parts:
            raise BadSetting(f"shift: a width of {width} has not one channel in {self.parts}; take parts from 4 to "
                             f"{width}")
        return OnGrid(Shift(width // self.parts), grid)

    def mixing_macs(self, width: int, tokens: int) -> int:
        return 0


class Shift(nn.Module):
    """`(B, C, H, W) -> (B, C, H, W)`: the first `moved` channels come from the right, the next from the left, then from
    below and from above."""

    def __init__(self, moved: int):
        super().__init__()
        self.moved = moved

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        height, width = x_BCHW.shape[2:]
        padded = F.pad(x_BCHW, (1, 1, 1, 1))
        moved = [padded[:, number * self.moved : (number + 1) * self.moved, top : top + height, left : left + width]
                 for number, (top, left) in enumerate([(1, 2), (1, 0), (2, 1), (0, 1)])]
        return torch.cat([*moved, x_BCHW[:, 4 * self.moved :]], dim=1)
