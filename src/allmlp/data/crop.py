"""Random crops that torchvision does not have. Modules on uint8 `(3, h, w)`, random by torch's generator.

Source of `InceptionCrop`: TensorFlow's sample_distorted_bounding_box with its defaults, as vision_transformer and
big_vision call it, and bilinear resizing without antialiasing. torchvision draws the area and the logarithm of the
aspect uniformly; TensorFlow draws the aspect and then the height, so that small areas come up more often.
"""

import math

import numpy as np
import torch
from torch import nn
from torchvision.transforms import v2

from allmlp.preprocess import Preprocess, resized_size

ASPECTS = (0.75, 1.33)  # width / height
ATTEMPTS = 100  # then the whole image


def draws_from_torch() -> np.random.Generator:
    """A numpy generator that follows from the state of torch's."""
    return np.random.default_rng(int(torch.randint(2**62, ())))


class InceptionCrop(nn.Module):
    """A box of a share of the image's area within `area`, resized to `size` (height, width)."""

    def __init__(self, size: tuple[int, int], area: tuple[float, float]):
        super().__init__()
        self.size, self.area = size, area

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        top, left, height, width = inception_box(pixels.shape[-2], pixels.shape[-1], self.area, draws_from_torch())
        return v2.functional.resized_crop(pixels, top, left, height, width, list(self.size),
                                          v2.InterpolationMode.BILINEAR, antialias=False)


def inception_box(height: int, width: int, area: tuple[float, float],
                  draws: np.random.Generator) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random box in an image of `height` x `width` pixels.

    The aspect is uniform in `ASPECTS`, the height uniform among those that keep the area's range; the box is as wide as
    the aspect says, and one pixel higher or lower where rounding took it out of the range. As in TensorFlow, a box
    never touches the lower or right edge unless it fills that side.
    """
    least, most = (share * height * width for share in area)
    for _ in range(ATTEMPTS):
        aspect = draws.uniform(*ASPECTS)
        highest = min(round(math.sqrt(most / aspect)), height)
        while round(highest * aspect) > width:
            highest -= 1
        lowest = min(round(math.sqrt(least / aspect)), highest)
        box_height = int(draws.integers(lowest, highest + 1))
        if box_height * round(box_height * aspect) < least:
            box_height += 1
        if box_height * round(box_height * aspect) > most:
            box_height -= 1
        box_width = round(box_height * aspect)
        if least <= box_height * box_width <= most and 0 < box_height <= height and 0 < box_width <= width:
            return (int(draws.integers(max(height - box_height, 1))), int(draws.integers(max(width - box_width, 1))),
                    box_height, box_width)
    return 0, 0, height, width


class RandomCrop(nn.Module):
    """The evaluation's resize, then a box of the network's size at a random place (BiT, ViT: fine-tuning)."""

    def __init__(self, preprocess: Preprocess, interpolation: v2.InterpolationMode):
        super().__init__()
        self.preprocess, self.interpolation = preprocess, interpolation

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        width, height = resized_size((pixels.shape[-1], pixels.shape[-2]), self.preprocess)
        pixels = v2.functional.resize(pixels, [height, width], self.interpolation, antialias=True)
        rows, columns = self.preprocess.image_size
        top, left = (int(torch.randint(spare + 1, ())) for spare in (height - rows, width - columns))
        return pixels[:, top : top + rows, left : left + columns]
