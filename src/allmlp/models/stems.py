"""Stems: from an image to the tokens that go into the first block.

- `patches`: one linear map of each patch's pixels, as a convolution with bias (MLP-Mixer section 2). With `overlap`,
  each patch also sees so many pixels beyond its own on every side, zeros beyond the image's edge.
- `convolutions`: 3 x 3 convolutions, each halving a side until a patch is one place, while the channels double up to
  the width; then a linear map per place ("Early convolutions help transformers see better", arXiv 2106.14881, section
  4). There each convolution is followed by batch norm and ReLU; here by a norm over channels, so that the images of a
  batch don't mix, and GELU. Sides of a patch are powers of two.

**Images of any size.** Convolutions take any image; token mixing takes a fixed number of tokens. With `tokens` (rows,
columns) the map that the convolutions end in is averaged onto that grid (adaptive average pooling: each token is the
mean of the places that its part of the image covers). Where the map has that size already, nothing changes.

Axes: B batch, S tokens, C channels, H W image.
"""

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from allmlp.errors import BadData
from allmlp.models.layers import AnyNorm, Gelu, IdentityConfig, LayerNormConfig, NormConfig, build_norm, gelu
from allmlp.values import Value

if TYPE_CHECKING:
    from allmlp.models.config import ModelConfig

Size = tuple[int, int]


class PatchStem(Value):
    """`overlap`: pixels on every side of a patch. `norm`: after the linear map; SPACH has one, the others none."""

    kind: Literal["patches"] = "patches"
    overlap: int = Field(default=0, ge=0, le=1_024)
    norm: NormConfig = IdentityConfig()

    def check(self, image_size: Size, patch_size: Size) -> None:
        """Raises `ValueError` for sizes that make no grid of tokens."""
        for side, image, patch in zip(("height", "width"), image_size, patch_size, strict=True):
            if image % patch:
                low, high = image // patch * patch, (image // patch + 1) * patch
                near = f"{low} or {high}" if low else f"{high}"
                raise ValueError(f"image {side} {image} is not divisible by the patch {side} {patch}; take {near}")

    def grid(self, image_size: Size, patch_size: Size) -> Size:
        return image_size[0] // patch_size[0], image_size[1] // patch_size[1]

    def macs(self, config: "ModelConfig") -> int:
        height, width = (side + 2 * self.overlap for side in config.patch_size)
        return config.grid[0] * config.grid[1] * config.in_channels * height * width * config.width

    def build(self, config: "ModelConfig") -> "PatchEmbedding":
        return PatchEmbedding(config, self)


class ConvolutionStem(Value):
    """`tokens`: the grid (rows, columns) onto which the map of an image of any size is averaged; None: images of one
    size, a token for each patch."""

    kind: Literal["convolutions"] = "convolutions"
    tokens: tuple[int, int] | None = None
    norm: NormConfig = LayerNormConfig()
    activation: Gelu = "erf"

    def check(self, image_size: Size, patch_size: Size) -> None:
        """Raises `ValueError` as a patch stem does, where the grid follows from the image; and for other patches."""
        for patch in patch_size:
            if patch & (patch - 1):
                raise ValueError(f"a stem of convolutions halves an image's sides, and a patch of {patch} pixels is no "
                                 f"power of two; take {1 << patch.bit_length() - 1} or {1 << patch.bit_length()}")
        if self.tokens is None:
            PatchStem().check(image_size, patch_size)
        elif min(self.tokens) < 1:
            raise ValueError(f"stem.tokens {self.tokens}: give at least one row and one column")

    def grid(self, image_size: Size, patch_size: Size) -> Size:
        return self.tokens or PatchStem().grid(image_size, patch_size)

    def steps(self, patch_size: Size, width: int) -> list[tuple[Size, int]]:
        """Strides (down, across) and channels of each convolution."""
        halvings = [side.bit_length() - 1 for side in patch_size]
        count = max(halvings)
        return [((1 + (i < halvings[0]), 1 + (i < halvings[1])), -(-width // 2 ** (count - 1 - i)))
                for i in range(count)]

    def macs(self, config: "ModelConfig") -> int:
        (rows, columns), channels, total = config.image_size, config.in_channels, 0
        for (down, across), width in self.steps(config.patch_size, config.width):
            rows, columns = -(-rows // down), -(-columns // across)
            total += rows * columns * 9 * channels * width
            channels = width
        return total + rows * columns * channels * config.width

    def build(self, config: "ModelConfig") -> "ConvolutionEmbedding":
        return ConvolutionEmbedding(config, self)


StemConfig = Annotated[PatchStem | ConvolutionStem, Field(discriminator="kind")]


@torch.fx.wrap  # a symbolic trace keeps it as a call
def check_images(images_BCHW: torch.Tensor, channels: int, height: int, width: int) -> None:
    """Raises `BadData` for images of another shape, which a convolution would take and cut."""
    if list(images_BCHW.shape[1:]) != [channels, height, width]:
        raise BadData(f"this network takes images (B, {channels}, {height}, {width}), not "
                      f"{list(images_BCHW.shape)}")


@torch.fx.wrap
def check_channels(images_BCHW: torch.Tensor, channels: int) -> None:
    """Raises `BadData` for what is no batch of images of any size with so many channels."""
    if len(images_BCHW.shape) != 4 or images_BCHW.shape[1] != channels:
        raise BadData(f"this network takes images (B, {channels}, height, width), not {list(images_BCHW.shape)}")


class PatchEmbedding(nn.Module):
    """`(B, in_channels, H, W) -> (B, S, C)`. Raises `BadData` for images of another size than the network's."""

    def __init__(self, config: "ModelConfig", stem: PatchStem):
        super().__init__()
        self.channels, (self.height, self.width) = config.in_channels, config.image_size
        kernel = (config.patch_size[0] + 2 * stem.overlap, config.patch_size[1] + 2 * stem.overlap)
        self.proj = nn.Conv2d(config.in_channels, config.width, kernel, config.patch_size, padding=stem.overlap)
        self.norm = build_norm(stem.norm, config.width)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        check_images(images_BCHW, self.channels, self.height, self.width)
        return self.norm(tokens(self.proj(images_BCHW)))


class ConvolutionEmbedding(nn.Module):
    """`(B, in_channels, H, W) -> (B, S, C)`; with `tokens`, H and W are any number of pixels."""

    def __init__(self, config: "ModelConfig", stem: ConvolutionStem):
        super().__init__()
        self.channels, (self.height, self.width) = config.in_channels, config.image_size
        self.tokens = stem.tokens
        layers: list[nn.Module] = []
        channels = config.in_channels
        for stride, width in stem.steps(config.patch_size, config.width):
            layers += [nn.Conv2d(channels, width, 3, stride, padding=1), OverChannels(stem.norm, width),
                       gelu(stem.activation)]  # fmt: skip
            channels = width
        self.layers = nn.Sequential(*layers)
        self.proj = nn.Conv2d(channels, config.width, 1)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        if self.tokens is None:
            check_images(images_BCHW, self.channels, self.height, self.width)
        else:
            check_channels(images_BCHW, self.channels)
        x_BCHW = self.proj(self.layers(images_BCHW))
        if self.tokens is not None:
            x_BCHW = F.adaptive_avg_pool2d(x_BCHW, self.tokens)
        return tokens(x_BCHW)


def tokens(x_BCHW: torch.Tensor) -> torch.Tensor:
    """The places of a map as tokens `(B, S, C)`, each in one piece: all that is added to them later lies as they do."""
    return x_BCHW.flatten(2).transpose(1, 2).contiguous()


class OverChannels(nn.Module):
    """A norm of tokens, over the channels of each place of a map `(B, C, H, W)`."""

    def __init__(self, norm: AnyNorm, width: int):
        super().__init__()
        self.norm = build_norm(norm, width)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.norm(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
