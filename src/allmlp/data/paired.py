"""What happens to one training image and its label map: the same geometry for both.

The image is resampled as ever, the map by its nearest pixel, so that no class appears that is not there; what comes in
where there is no image is the mean colour, and ignored in the map, as is what erasing hides. In the order of
`data.augment`: crop, flip, erasing.
"""

import functools

import numpy as np
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transform

from allmlp.data.augment import INTERPOLATION, ImageAugmentation
from allmlp.data.dataset import IGNORED
from allmlp.errors import BadSetting
from allmlp.preprocess import Preprocess
from allmlp.recipe import Augment

NEAREST = v2.InterpolationMode.NEAREST_EXACT
UNPAIRED = ("auto_augment", "rand_augment", "mixup", "cutmix")


def paired_augmentation(augment: Augment, preprocess: Preprocess) -> ImageAugmentation:
    """A function (uint8 `(h, w, 4)`, an image with its label map; seed) -> the same as uint8 `(4, H, W)`.

    `random_resized_crop`: a share of the area, to the network's size. `random_crop`: a box of the network's size as it
    is, without resizing, filled up where the image is smaller. Neither: the whole image, resized to the network's size
    whatever its shape. Equal seeds give equal results. Raises `BadSetting` for what has no meaning for a label map.
    """
    for name in UNPAIRED:
        if getattr(augment, name):
            raise BadSetting(f"augment.{name} has no counterpart for masks; set it to 0 for segmentation")
    if augment.random_erasing and augment.random_erasing_kind == "noise":
        raise BadSetting("augment.random_erasing_kind 'noise' is not there for masks; take 'mean'")
    area = augment.random_resized_crop
    if area is not None and not 0 < area[0] <= area[1] <= 1:
        raise BadSetting(f"augment.random_resized_crop {area}: expected the smallest and the largest share of the "
                         "image's area, 0 < smallest <= largest <= 1, for example [0.25, 1.0]")
    return functools.partial(_augment, augment, preprocess)


def _augment(augment: Augment, preprocess: Preprocess, image: np.ndarray, seed: int) -> torch.Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        size = preprocess.image_size
        if augment.random_resized_crop is not None:
            pixels = _resized(transform.crop(pixels, *_box(pixels, augment.random_resized_crop)), preprocess)
        elif augment.random_crop:
            pixels = filled(pixels, size, preprocess)
            top, left = (int(torch.randint(spare + 1, ())) for spare in
                         (pixels.shape[1] - size[0], pixels.shape[2] - size[1]))
            pixels = pixels[:, top : top + size[0], left : left + size[1]]
        else:
            pixels = _resized(pixels, preprocess)
        if augment.horizontal_flip and float(torch.rand(())) < augment.horizontal_flip:
            pixels = pixels.flip(2)
        if augment.random_erasing:
            pixels = _erased(pixels, augment, preprocess)
    return pixels.contiguous()


def _box(pixels: torch.Tensor, area: tuple[float, float]) -> tuple[int, int, int, int]:
    crop = v2.RandomResizedCrop(1, area)
    found = crop.make_params([pixels])
    return found["top"], found["left"], found["height"], found["width"]


def _resized(pixels: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    size = list(preprocess.image_size)
    if list(pixels.shape[-2:]) == size:
        return pixels
    image = transform.resize(pixels[:3], size, INTERPOLATION[preprocess.interpolation], antialias=True)
    return torch.cat([image, transform.resize(pixels[3:], size, NEAREST)])


def filled(pixels: torch.Tensor, size: tuple[int, int], preprocess: Preprocess) -> torch.Tensor:
    """`pixels` uint8 `(4, h, w)`, at least as large as `size`: mean colour, ignored, to the right and below."""
    height, width = (max(side, least) for side, least in zip(pixels.shape[1:], size, strict=True))
    if (height, width) == tuple(pixels.shape[1:]):
        return pixels
    whole = torch.tensor([*_mean(preprocess), IGNORED], dtype=torch.uint8).view(4, 1, 1).repeat(1, height, width)
    whole[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return whole


def _mean(preprocess: Preprocess) -> list[int]:
    return [round(255 * mean) for mean in preprocess.mean]


def _erased(pixels: torch.Tensor, augment: Augment, preprocess: Preprocess) -> torch.Tensor:
    """`data.augment`'s erasing; what is hidden is ignored."""
    fill: list[float] = [*_mean(preprocess), IGNORED]
    erase = v2.RandomErasing(augment.random_erasing, value=fill)  # pyright: ignore[reportArgumentType]
    return erase(pixels)
