"""Several views of one image, for DINO: two large ("global") crops first, then small ("local") ones.

Source: DataAugmentationDINO in dino's main_dino.py: crops by area, flips, colour jitter (80 %), grey (20 %), Gaussian
blur (always in the first view, 10 % in the second, 50 % in local ones), solarisation (20 %, second view only).

Where we differ: an all-MLP network takes images of one size, so local crops are enlarged to it; `local_image_size` is
the size they are seen at before, which limits what detail they have. Flips, and whatever else the recipe's `augment`
says, are done to each view. PIL's blur is three box blurs, torchvision's is a Gaussian kernel.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.transforms import v2

from allmlp.data.augment import INTERPOLATION, ImageAugmentation, image_augmentation
from allmlp.data.seeds import derived_seed
from allmlp.preprocess import Preprocess
from allmlp.recipe import Augment, Dino

BLUR_SIGMA_PX = (0.1, 2.0)
BLUR_KERNEL_PX = 13  # reaches 3 standard deviations of the strongest blur to each side


@dataclass(frozen=True)
class _View:
    """Colours, a blur and the last size after the crop of one kind of view."""

    crop: ImageAugmentation
    colours: torch.nn.Sequential
    size: tuple[int, int]
    interpolation: v2.InterpolationMode

    def __call__(self, image: np.ndarray, seed: int) -> torch.Tensor:
        pixels = self.crop(image, derived_seed(seed, "crop"))
        if len(self.colours):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(derived_seed(seed, "colour"))
                pixels = self.colours(pixels)
        return v2.functional.resize(pixels, list(self.size), self.interpolation, antialias=True)


def views_augmentation(augment: Augment, dino: Dino, preprocess: Preprocess) -> ImageAugmentation:
    """A function (uint8 RGB `(h, w, 3)`, seed) -> uint8 `(2 + local_crops, 3, H, W)` of `preprocess.image_size`.

    As `image_augmentation` otherwise: the seed decides everything, the process's own random state does not change.
    """
    def kind(scale: tuple[float, float], size: tuple[int, int], blur: float, solarise: float) -> _View:
        crop = image_augmentation(augment.with_(random_resized_crop=scale, random_crop=False),
                                  preprocess.with_(image_size=size))
        colours = _colours(blur, solarise, size) if dino.colour else []
        return _View(crop, torch.nn.Sequential(*colours), preprocess.image_size,
                     INTERPOLATION[preprocess.interpolation])

    size = preprocess.image_size
    views = [kind(dino.global_crops, size, 1.0, 0.0), kind(dino.global_crops, size, 0.1, 0.2)]
    views += [kind(dino.local_scale, dino.local_image_size or size, 0.5, 0.0)] * dino.local_crops
    return functools.partial(_all_views, views)


def _all_views(views: Sequence[_View], image: np.ndarray, seed: int) -> torch.Tensor:
    return torch.stack([view(image, derived_seed(seed, "view", number)) for number, view in enumerate(views)])


def _colours(blur: float, solarise: float, size: tuple[int, int]) -> list[torch.nn.Module]:
    widest = 2 * min(*size, BLUR_KERNEL_PX) - 1  # a kernel's half must be smaller than the image, as that is mirrored
    kernel = v2.GaussianBlur(min(BLUR_KERNEL_PX, widest), BLUR_SIGMA_PX)
    return [
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([kernel], blur),
        v2.RandomSolarize(128, solarise),
    ]
