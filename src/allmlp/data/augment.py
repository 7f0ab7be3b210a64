"""What happens to one training image: torchvision's transforms v2 on uint8, driven by a seed.

The order is that of timm and DeiT: random resized crop (or the evaluation's geometry), flip, RandAugment, erasing.
Areas without a picture (RandAugment's borders, the erased box) get the mean colour, which normalises to 0, as in timm;
for Google's Mixers that is their grey 128. Crops are resampled by torch and RandAugment works on PIL images, which on
one thread is the faster way for each. RandAugment turns and shears bilinearly.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torchvision.transforms import v2

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
        (augment.horizontal_flip, augment.rand_augment, augment.random_erasing)
    )


def image_augmentation(augment: Augment, preprocess: Preprocess) -> ImageAugmentation:
    """A function (uint8 RGB `(h, w, 3)` of any size, seed) -> uint8 `(3, H, W)` of `preprocess.image_size`.

    Equal seeds give equal results; the process's own random state is neither used nor changed. The function can be
    pickled. Raises `BadSetting` for a crop range that is no range of areas.
    """
    transforms: list[torch.nn.Module] = []
    fill = [round(255 * mean) for mean in preprocess.mean]
    if augment.random_resized_crop is not None:
        transforms.append(_crop(augment.random_resized_crop, preprocess))
    if augment.horizontal_flip:
        transforms.append(v2.RandomHorizontalFlip(augment.horizontal_flip))
    if augment.rand_augment:
        rand_augment = v2.RandAugment(augment.rand_augment, augment.rand_augment_magnitude, fill=fill,
                                      interpolation=v2.InterpolationMode.BILINEAR)
        transforms += [v2.ToPILImage(), rand_augment, v2.PILToTensor()]
    if augment.random_erasing:
        # The annotation says float; documented and accepted is one value per channel too.
        transforms.append(v2.RandomErasing(augment.random_erasing, value=fill))  # pyright: ignore[reportArgumentType]
    crops = augment.random_resized_crop is not None
    return functools.partial(_augment, torch.nn.Sequential(*transforms), None if crops else preprocess)


def _crop(area: tuple[float, float], preprocess: Preprocess) -> v2.RandomResizedCrop:
    if not 0 < area[0] <= area[1] <= 1:
        raise BadSetting(f"augment.random_resized_crop {area}: expected the smallest and the largest share of the "
                         "image's area, 0 < smallest <= largest <= 1, for example [0.05, 1.0]")
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
