"""DeiT's augmentation where it has ways of its own, which ResMLP shares: timm's RandAugment and erasing with noise.

Modules of torchvision's kind, random by torch's generator.
"""

import math
import random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from allmlp.data.crop import draws_from_torch
from allmlp.preprocess import Preprocess
from allmlp.recipe import Augment

if TYPE_CHECKING:
    from PIL import Image

ERASED_AREA = (0.02, 1 / 3)
ERASED_ASPECT = (0.3, 1 / 0.3)
ATTEMPTS = 10


class TimmRandAugment(nn.Module):
    """timm's own, `rand-m9-mstd0.5-inc1` in its words, on PIL images.

    timm draws from Python's and numpy's global generators, which are put back as they were.
    """

    def __init__(self, augment: Augment, preprocess: Preprocess, fill: list[int]):
        super().__init__()
        from PIL.Image import Resampling
        from timm.data.auto_augment import rand_augment_transform

        words = (f"rand-m{augment.rand_augment_magnitude}-n{augment.rand_augment}"
                 f"-mstd{augment.rand_augment_deviation:g}-inc1")
        hints = {"translate_const": int(min(preprocess.image_size) * 0.45), "img_mean": tuple(fill),
                 "interpolation": Resampling[preprocess.interpolation.upper()]}
        self.operations = rand_augment_transform(words, hints)
        for operation in self.operations.ops:
            if operation.name.startswith("Posterize"):
                operation.aug_fn = posterize

    def forward(self, picture: "Image.Image") -> "Image.Image":
        seed = int(torch.randint(2**32, ()))
        before = random.getstate(), np.random.get_state()  # noqa: NPY002  (what timm draws from)
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            return self.operations(picture)
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def posterize(picture: "Image.Image", bits: int, **options: object) -> "Image.Image":
    """timm's, for 0 bits too: that is what level 10 asks for, black, and Pillow 13 refuses it."""
    from timm.data import auto_augment

    return auto_augment.posterize(picture, bits, **options) if bits else picture.point(lambda _: 0)


class NoiseErasing(nn.Module):
    """With `probability`, one box of normal noise around the mean colour, in each channel of its own deviation.

    timm's mode "pixel" puts unit noise into normalised images. Ours are still uint8, so the noise is cut to [0, 255]:
    with ImageNet's mean and deviation that changes one value in forty.
    """

    def __init__(self, probability: float, preprocess: Preprocess):
        super().__init__()
        self.probability = probability
        self.mean, self.deviation = (255 * np.array(values) for values in (preprocess.mean, preprocess.std))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        draws = draws_from_torch()
        if draws.random() >= self.probability:
            return pixels
        height, width = pixels.shape[-2:]
        for _ in range(ATTEMPTS):
            area = draws.uniform(*ERASED_AREA) * height * width
            aspect = math.exp(draws.uniform(math.log(ERASED_ASPECT[0]), math.log(ERASED_ASPECT[1])))
            rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if rows < height and columns < width:
                top, left = int(draws.integers(height - rows + 1)), int(draws.integers(width - columns + 1))
                noise = draws.normal(self.mean, self.deviation, (rows, columns, 3)).round().clip(0, 255)
                pixels = pixels.clone()
                pixels[:, top : top + rows, left : left + columns] = torch.from_numpy(noise).permute(2, 0, 1)
                return pixels
        return pixels
