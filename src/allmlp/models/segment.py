"""Heads that answer for every pixel: the network's tokens to logits `(B, K, H, W)`.

The papers have none; that a Mixer could segment is an idea their authors were asked about. Two of ours:
- "tokens", the idea as stated: one linear map takes each of the S last tokens to the K logits of its own P x P pixels.
  What crosses the border of a patch has to be in the tokens already;
- "decoder": the tokens of `levels` blocks, evenly over the depth, are projected to `width` channels and summed (as in
  SegFormer's all-MLP decoder, arXiv 2105.15203, which concatenates them), taken to pixels by one linear map per token,
  and smoothed by one 3 x 3 convolution, which sees across patches.

Axes: B batch, S tokens, C channels, D width of the decoder, E channels per pixel, K classes, P patch, H W image.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from allmlp.preprocess import OtherSizes
from allmlp.values import Value

if TYPE_CHECKING:
    from allmlp.models.config import ModelConfig

class TokenHeadConfig(Value):
    """Each token to the logits of its own pixels."""

    kind: Literal["tokens"] = "tokens"
    other_sizes: OtherSizes = "windows"

    def build(self, config: "ModelConfig") -> nn.Module:
        return TokenHead(config)

    def macs(self, config: "ModelConfig") -> int:
        (rows, columns), (height, width) = config.out_grid, pixels_per_token(config)
        return rows * columns * config.out_width * height * width * config.num_classes


class DecoderConfig(Value):
    """A light decoder on the outputs of `levels` blocks (of all, where there are fewer)."""

    kind: Literal["decoder"] = "decoder"
    other_sizes: OtherSizes = "windows"
    width: int = Field(default=64, ge=1, le=65_536)
    pixel_width: int = Field(default=16, ge=1, le=4_096)  # channels of a pixel before the classes
    levels: int = Field(default=4, ge=1, le=64)

    def build(self, config: "ModelConfig") -> nn.Module:
        return Decoder(self, config)

    def blocks(self, depth: int) -> list[int]:
        """The numbers of the blocks it reads, evenly over the depth; the last one is always among them."""
        levels = min(self.levels, depth)
        return [depth * (level + 1) // levels - 1 for level in range(levels)]

    def macs(self, config: "ModelConfig") -> int:
        ends = _ends(config)
        pixels = config.image_size[0] * config.image_size[1]
        read = sum(ends[block][0] * ends[block][1][0] * ends[block][1][1] for block in self.blocks(config.depth))
        return (read * self.width + pixels * self.pixel_width * self.width
                + pixels * self.pixel_width * (9 * self.pixel_width + config.num_classes))


SegmentConfig = Annotated[TokenHeadConfig | DecoderConfig, Field(discriminator="kind")]


def _ends(config: "ModelConfig") -> list[tuple[int, tuple[int, int]]]:
    """Width and grid of each block's output."""
    return [*((place.width, place.grid) for place in config.places[1:]), (config.out_width, config.out_grid)]


def pixels_per_token(config: "ModelConfig", grid: tuple[int, int] | None = None) -> tuple[int, int]:
    """(height, width) of the pixels that one token of `grid` (None: the last) stands for. Raises `ValueError` where
    tokens do not divide the image."""
    (height, width), (rows, columns) = config.image_size, grid or config.out_grid
    if height % rows or width % columns:
        raise ValueError(f"a head for pixels needs tokens that divide the image; {height} x {width} pixels and "
                         f"{rows} x {columns} tokens do not")
    return height // rows, width // columns


def check(config: "ModelConfig") -> None:
    """Raises `ValueError` for a network that cannot have the head its config asks for."""
    head = config.segment
    if head is None:
        return
    if config.global_pool:
        raise ValueError(f"a head for pixels takes every token, so global_pool must be '', not {config.global_pool!r}")
    if config.num_classes < 2 or config.num_classes > 255:
        raise ValueError(f"a head for pixels has 2 to 255 classes (255 in a mask means ignored), not "
                         f"{config.num_classes}")
    pixels_per_token(config)
    if isinstance(head, DecoderConfig):
        pixels_per_token(config, _largest(config, head))


def _largest(config: "ModelConfig", head: DecoderConfig) -> tuple[int, int]:
    return max((_ends(config)[block][1] for block in head.blocks(config.depth)), key=lambda grid: grid[0] * grid[1])


def to_pixels(x_BSC: torch.Tensor, grid: tuple[int, int], patch: tuple[int, int]) -> torch.Tensor:
    """Tokens `(B, S, E·P·P)`, channels ordered (E, row, column) of each patch, as an image `(B, E, H, W)`."""
    (rows, columns), (height, width) = grid, patch
    x = x_BSC.reshape(x_BSC.shape[0], rows, columns, -1, height, width)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(x_BSC.shape[0], -1, rows * height, columns * width)


class TokenHead(nn.Module):
    """Last tokens `(B, S, C)` to logits `(B, K, H, W)`."""

    def __init__(self, config: "ModelConfig"):
        super().__init__()
        self.grid, self.patch = config.out_grid, pixels_per_token(config)
        self.proj = nn.Linear(config.out_width, config.num_classes * self.patch[0] * self.patch[1])

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        return to_pixels(self.proj(x_BSC), self.grid, self.patch)


class Decoder(nn.Module):
    """Outputs of some blocks `(B, C, rows, columns)`, the last one normalised, to logits `(B, K, H, W)`."""

    def __init__(self, head: DecoderConfig, config: "ModelConfig"):
        super().__init__()
        ends = _ends(config)
        self.grid = _largest(config, head)
        self.patch = pixels_per_token(config, self.grid)
        self.levels = nn.ModuleList([nn.Linear(ends[block][0], head.width) for block in head.blocks(config.depth)])
        self.norm = nn.LayerNorm(head.width)
        self.proj = nn.Linear(head.width, head.pixel_width * self.patch[0] * self.patch[1])
        self.smooth = nn.Conv2d(head.pixel_width, head.pixel_width, 3, padding=1)
        self.classes = nn.Conv2d(head.pixel_width, config.num_classes, 1)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        total = None
        for linear, x_BCRQ in zip(self.levels, levels, strict=True):
            x = linear(x_BCRQ.permute(0, 2, 3, 1))
            if tuple(x_BCRQ.shape[-2:]) != self.grid:
                x = F.interpolate(x.permute(0, 3, 1, 2), self.grid, mode="bilinear").permute(0, 2, 3, 1)
            total = x if total is None else total + x
        assert total is not None
        x = F.gelu(self.norm(total)).flatten(1, 2)
        x = to_pixels(self.proj(x), self.grid, self.patch)
        return self.classes(F.gelu(x + self.smooth(F.gelu(x))))
