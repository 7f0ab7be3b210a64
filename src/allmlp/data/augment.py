"""What happens to one training image: torchvision's transforms v2 on uint8, driven by a seed.

The order is that of timm, DeiT and big_vision: random crop (or the evaluation's geometry), flip, RandAugment or
AutoAugment, erasing. Areas without a picture (their borders, the erased box) get the mean colour, which normalises to
0, as in timm; for Google's Mixers that is their grey 128. Crops are resampled by torch and torchvision's and timm's
RandAugment work on PIL images, which on one thread is the faster way for each. torchvision's turns and shears
bilinearly, Google's takes the nearest pixel, timm's is resampled as the network's images are.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torchvision.transforms import v2

from allmlp.data.crop import InceptionCrop, RandomCrop, draws_from_torch
from allmlp.data.deit import NoiseErasing, TimmRandAugment
from allmlp.data.randaugment import rand_augment
from allmlp.errors import BadSetting
from allmlp.preprocess import Preprocess, fit
from allmlp.recipe import Augment

INTERPOLATION = {
    "bicubic": v2.InterpolationMode.BICUBIC,
    "bilinear": v2.InterpolationMode.BILINEAR,
    "nearest": v2.InterpolationMode.NEAREST_EXACT,  # PIL's nearest; torchvision's NEAREST is off by half a pixel
}

ImageAugmentation = Callable[[np.ndarray, int], torch.Tensor]


def is_random(augment: Augment) -> bool:
    """Whether an image comes out differently each time (what is done per batch does not count)."""
    return augment.random_resized_crop is not None or any(
        (augment.random_crop, augment.horizontal_flip, augment.auto_augment, augment.rand_augment,
         augment.random_erasing)
    )


def image_augmentation(augment: Augment, preprocess: Preprocess) -> ImageAugmentation:
    """A function (uint8 RGB `(h, w, 3)` of any size, seed) -> uint8 `(3, H, W)` of `preprocess.image_size`.

    Equal seeds give equal results; the process's own random state is neither used nor changed. The function can be
    pickled. Raises `BadSetting` for a crop range that is no range of areas.
    """
    transforms: list[torch.nn.Module] = []
    fill = [round(255 * mean) for mean in preprocess.mean]
    if augment.random_resized_crop is not None:
        transforms.append(_resized_crop(augment, augment.random_resized_crop, preprocess))
    if augment.random_crop:
        transforms.append(RandomCrop(preprocess, INTERPOLATION[preprocess.interpolation]))
    if augment.horizontal_flip:
        transforms.append(v2.RandomHorizontalFlip(augment.horizontal_flip))
    transforms += _policy(augment, preprocess, fill)
    if augment.random_erasing and augment.random_erasing_kind == "noise":
        transforms.append(NoiseErasing(augment.random_erasing, preprocess))
    elif augment.random_erasing:
        # The annotation says float; documented and accepted is one value per channel too.
        transforms.append(v2.RandomErasing(augment.random_erasing, value=fill))  # pyright: ignore[reportArgumentType]
    crops = augment.random_crop or augment.random_resized_crop is not None
    return functools.partial(_augment, torch.nn.Sequential(*transforms), None if crops else preprocess)


class GoogleRandAugment(torch.nn.Module):
    """`randaugment.rand_augment` on uint8 `(3, H, W)`, random by torch's generator."""

    def __init__(self, count: int, magnitude: float):
        super().__init__()
        self.count, self.magnitude = count, magnitude

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        image = rand_augment(pixels.permute(1, 2, 0).numpy(), self.count, self.magnitude, draws_from_torch())
        return torch.from_numpy(image).permute(2, 0, 1)


def _policy(augment: Augment, preprocess: Preprocess, fill: list[int]) -> list[torch.nn.Module]:
    """The transforms of RandAugment or AutoAugment, as the recipe wants them; none where it wants neither."""
    bilinear = v2.InterpolationMode.BILINEAR
    if augment.rand_augment and augment.rand_augment_kind == "google":
        return [GoogleRandAugment(augment.rand_augment, augment.rand_augment_magnitude)]
    if augment.auto_augment:
        policy: torch.nn.Module = v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET, bilinear, fill)
    elif augment.rand_augment and augment.rand_augment_kind == "timm":
        policy = TimmRandAugment(augment, preprocess, fill)
    elif augment.rand_augment:
        policy = v2.RandAugment(augment.rand_augment, augment.rand_augment_magnitude, fill=fill, interpolation=bilinear)
    else:
        return []
    return [v2.ToPILImage(), policy, v2.PILToTensor()]


def _resized_crop(augment: Augment, area: tuple[float, float], preprocess: Preprocess) -> torch.nn.Module:
    if not 0 < area[0] <= area[1] <= 1:
        raise BadSetting(f"augment.random_resized_crop {area}: expected the smallest and the largest share of the "
                         "image's area, 0 < smallest <= largest <= 1, for example [0.05, 1.0]")
    if augment.random_crop_kind == "inception":
        return InceptionCrop(preprocess.image_size, area)
    return v2.RandomResizedCrop(preprocess.image_size, area, interpolation=INTERPOLATION[preprocess.interpolation],
                                antialias=True)


def _augment(transforms: torch.nn.Sequential, fitted: Preprocess | None, image: np.ndarray, seed: int) -> torch.Tensor:
    """`fitted`: the geometry to bring the image to first, or None where a random crop does that."""
    if fitted is not None:
        image = fit(image, fitted)
    if not image.flags.writeable:  # as PIL hands them out; torch would warn
        image = image.copy()
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    if len(transforms):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which would seed CUDA as well
            pixels = transforms(pixels)
    return pixels.contiguous()
