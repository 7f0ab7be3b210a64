"""Several blocks in one layer, side by side: each sees the layer's input, and what they change is added up.

    Y = X + Σ w_i (block_i(X) - X)

With two blocks of weight 1/2 this is their mean; of weight 1, the sum of their residual branches. The weights are
numbers of the config or start there and are learned.
"""

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from allmlp.models.layers import Axis, DropPath, Macs
from allmlp.values import Value

if TYPE_CHECKING:
    from allmlp.models.blocks import BlockConfig


class SumConfig(Value):
    """`weights`: one for each block; none: equal ones that add up to 1."""

    kind: Literal["sum"] = "sum"
    blocks: tuple["BlockConfig", ...] = Field(min_length=2, max_length=8)
    weights: tuple[float, ...] = ()
    learned: bool = False

    folded: ClassVar[bool] = False
    activation: ClassVar[None] = None  # none of its own

    @model_validator(mode="after")
    def _one_weight_each(self) -> Self:
        if self.weights and len(self.weights) != len(self.blocks):
            raise ValueError(f"{len(self.weights)} weights for {len(self.blocks)} blocks; give one each, or none")
        return self

    @property
    def branches(self) -> int:
        return sum(block.branches for block in self.blocks)

    @property
    def start(self) -> tuple[float, ...]:
        return self.weights or (1 / len(self.blocks),) * len(self.blocks)

    @property
    def token_axes(self) -> dict[str, tuple[Axis, ...]]:
        return {f"blocks.{number}.{name}": axes for number, block in enumerate(self.blocks)
                for name, axes in block.token_axes.items()}

    def macs(self, width: int, tokens: int) -> Macs:
        each = [block.macs(width, tokens) for block in self.blocks]
        return Macs(sum(macs.token_mixing for macs in each), sum(macs.channel_mixing for macs in each))

    def beside(self, copies: int) -> "SumConfig":
        return self.with_(blocks=tuple(block.beside(copies) for block in self.blocks))

    def build(self, width: int, grid: tuple[int, int], drop_paths: list[DropPath]) -> "SumBlock":
        return SumBlock(self, width, grid, drop_paths)


class SumBlock(nn.Module):
    """`(B, S, C) -> (B, S, C)`."""

    def __init__(self, config: SumConfig, width: int, grid: tuple[int, int], drop_paths: list[DropPath]):
        super().__init__()
        ends = [sum(block.branches for block in config.blocks[:number]) for number in range(len(config.blocks) + 1)]
        self.blocks = nn.ModuleList(
            block.build(width, grid, drop_paths[first:last])
            for block, first, last in zip(config.blocks, ends[:-1], ends[1:], strict=True)
        )
        self.start = list(config.start)
        self.weights = nn.Parameter(torch.empty(len(self.start))) if config.learned else None

    def init_own(self, generator: torch.Generator | None = None) -> None:
        if self.weights is not None:
            self.weights.copy_(torch.tensor(self.start))

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        y_BSC = x_BSC
        for number, block in enumerate(self.blocks):
            change_BSC = block(x_BSC) - x_BSC
            y_BSC = y_BSC + change_BSC * (self.start[number] if self.weights is None else self.weights[number])
        return y_BSC
