"""From an image to what a network takes: one value, the same in evaluation, prediction, serving and export.

The uint8 side is always RGB `(H, W, 3)`; the float side is `(3, H, W)` (or `(1, H, W)` for networks with one input
channel), scaled to [0, 1], then `(x - mean) / std`.

Geometry follows torchvision's `Resize` and `CenterCrop` on PIL images (antialiased), to the pixel. The published
evaluations differ, so each is a `resize` mode:
- "shorter": shorter side to `size / crop_ratio`, central crop (timm 0.875, ResMLP 0.9, Mixer paper Table 3);
- "squash_crop": both sides to `size / crop_ratio` ignoring the aspect, central crop (Mixer paper Table 2, App. C);
- "squash": straight to the size, no crop (vision_transformer's evaluation; few-shot at small sizes).
"""

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from allmlp.errors import BadData
from allmlp.values import Value

if TYPE_CHECKING:
    import torch
    from PIL import Image

HALF = (0.5, 0.5, 0.5)  # Google's Mixers: values in [-1, 1]
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # ResMLP
IMAGENET_STD = (0.229, 0.224, 0.225)

MOST_PIXELS = 16384  # of a side; the engine's bound too
MOST_RESIZED, MOST_TIMES = 1 << 26, 16  # pixels (0.27 GB in PIL), and times what is kept of them, to resize to at most
LEAST_STD, MOST = 1e-6, 1e6  # of mean and deviation: float32 stays finite, and no image set comes near

OtherSizes = Literal["windows", "resize"]
"""How a network that names every pixel answers for an image of another size than its own: by overlapping windows of its
size, or for the whole image, resized there, with the logits resized back."""

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL's mode "L"


class Preprocess(Value):
    """How an image becomes a network input. `image_size` is (height, width) in pixels."""

    image_size: tuple[int, int]
    resize: Literal["shorter", "squash_crop", "squash"] = "shorter"
    crop_ratio: float = pydantic.Field(default=0.875, ge=0.1, le=1)  # images are enlarged to size / ratio
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = HALF
    channels: Literal[1, 3] = 3

    @pydantic.field_validator("image_size")
    @classmethod
    def _positive(cls, size: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= min(size) <= max(size) <= MOST_PIXELS:
            raise ValueError(f"{size[0]}x{size[1]}: both sides must be at least 1 pixel, at most {MOST_PIXELS}")
        return size

    @pydantic.field_validator("std")
    @classmethod
    def _nonzero(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if not LEAST_STD <= min(std) <= max(std) <= MOST:
            raise ValueError(f"must be positive, from {LEAST_STD:g} to {MOST:g} (of values in [0, 1])")
        return std

    @pydantic.field_validator("mean")
    @classmethod
    def _moderate(cls, mean: tuple[float, float, float]) -> tuple[float, float, float]:
        if max(map(abs, mean)) > MOST:
            raise ValueError(f"must be at most {MOST:g} (of values in [0, 1])")
        return mean


def fit(image: "Image.Image | np.ndarray", preprocess: Preprocess) -> np.ndarray:
    """Resize and crop an RGB image of any size to uint8 `(H, W, 3)`.

    `image`: PIL in mode RGB, or uint8 `(h, w, 3)`. An image that has the size already is returned unchanged.
    Raises `BadData` for an array of another shape or dtype.
    """
    from PIL import Image

    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise BadData(f"an image array must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
        picture = Image.fromarray(image)
    else:
        picture = image
    height, width = preprocess.image_size
    if picture.size == (width, height):
        return np.asarray(picture)
    resample = Image.Resampling[preprocess.interpolation.upper()]
    target_width, target_height = resized_size(picture.size, preprocess)
    left, top = round((target_width - width) / 2), round((target_height - height) / 2)
    if target_width * target_height > max(MOST_RESIZED, MOST_TIMES * width * height):
        return np.asarray(_middle(picture, (target_width, target_height), (left, top), (width, height), resample))
    picture = picture.resize((target_width, target_height), resample)
    return np.asarray(picture.crop((left, top, left + width, top + height)))


def _middle(picture: "Image.Image", target: tuple[int, int], start: tuple[int, int], size: tuple[int, int],
            resample: "Image.Resampling") -> "Image.Image":
    """The crop of `size` that begins at `start` in `picture` resized to `target`, from the pixels that it comes from
    alone: of an image so long that the whole would take gigabytes. All (width, height).

    The same sums, begun elsewhere: rounding may differ by 1 ("nearest": of two pixels as near, the other may be it)."""
    scales = [before / after for before, after in zip(picture.size, target, strict=True)]
    # Where it lies in the picture; around it, what the filters reach (2 pixels, or as many times more as it shrinks).
    begin = [scale * first for scale, first in zip(scales, start, strict=True)]
    end = [scale * (first + side) for scale, first, side in zip(scales, start, size, strict=True)]
    margins = [math.ceil(3 * max(scale, 1)) for scale in scales]
    low = [max(math.floor(first) - margin, 0) for first, margin in zip(begin, margins, strict=True)]
    high = [min(math.ceil(last) + margin, side) for last, margin, side in zip(end, margins, picture.size, strict=True)]
    box = (begin[0] - low[0], begin[1] - low[1], min(end[0], high[0]) - low[0], min(end[1], high[1]) - low[1])
    return picture.crop((low[0], low[1], high[0], high[1])).resize(size, resample, box=box)


def resized_size(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """(width, height) an image of `size` (width, height) is resized to before the central crop."""
    height, width = preprocess.image_size
    if preprocess.resize == "squash":
        return width, height
    # A margin of up to 1e-6 pixel: 224 / 0.875 must be 256 and 224 / 0.9 must be 248, whatever the rounding.
    box_width, box_height = (math.floor(side / preprocess.crop_ratio + 1e-6) for side in (width, height))
    if preprocess.resize == "squash_crop":
        return box_width, box_height
    # The image covers the box: for a square box, the shorter side becomes the box's side and the longer one is cut
    # to an integer, as torchvision does.
    if box_width * size[1] >= box_height * size[0]:
        return box_width, int(box_width * size[1] / size[0])
    return int(box_height * size[0] / size[1]), box_height


def normalise(images: "torch.Tensor", preprocess: Preprocess) -> "torch.Tensor":
    """uint8 (or float in [0, 255]) `(N, 3, H, W)` to the network's float32 `(N, channels, H, W)`, on any device."""
    import torch

    # In place on a copy of its own: memory for each step's result would cost more than the arithmetic.
    x = images.to(torch.float32, copy=True).div_(255)
    if preprocess.channels == 1:
        luma = torch.tensor(LUMA, device=x.device).view(1, 3, 1, 1)
        x = (x * luma).sum(1, keepdim=True)
    mean, std = (torch.tensor(values, device=x.device) for values in channel_statistics(preprocess))
    return x.sub_(mean.view(1, -1, 1, 1)).div_(std.view(1, -1, 1, 1))


def channel_statistics(preprocess: Preprocess) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel that the network sees; of a grey one, those of the colours, weighted."""
    if preprocess.channels == 3:
        return preprocess.mean, preprocess.std
    mean, std = (sum(w * v for w, v in zip(LUMA, values, strict=True)) for values in (preprocess.mean, preprocess.std))
    return (mean,), (std,)


def to_network_input(images: Any, preprocess: Preprocess, device: str = "cpu") -> "torch.Tensor":
    """A batch uint8 `(N, H, W, 3)` (numpy or torch) of the right size to normalised floats on `device`."""
    import torch

    if isinstance(images, np.ndarray):  # torch warns of arrays that cannot be written, as `fit` makes them
        images = np.require(images, requirements="W")
    images = torch.as_tensor(images).to(device)
    if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != (*preprocess.image_size, 3):
        raise BadData(f"expected uint8 (N, {preprocess.image_size[0]}, {preprocess.image_size[1]}, 3), "
                      f"got {images.dtype} {tuple(images.shape)}")
    return normalise(images.permute(0, 3, 1, 2), preprocess)
