"""scikit-learn's 1,797 real handwritten digits, 8 x 8 pixels: the data set that is there without any download.

Source: `sklearn.datasets.load_digits` (the test part of UCI's Optical Recognition of Handwritten Digits). Grey values
0..16 become 0..255 (`round(value * 255 / 16)`), repeated for red, green and blue.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from allmlp.data.dataset import Data

TEST_FRACTION = 0.2  # 360 images
SPLIT_SEED = 0  # fixed: figures are comparable only on the same test images


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images of one size that lie in memory: `images` uint8 `(N, H, W, 3)`, `names` one per image."""

    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    names: Sequence[str] = field(repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def name(self, index: int) -> str:
        return self.names[index]

    key = name


def open_digits() -> Data:
    """The digits as splits "train" (1,437) and "test" (360), stratified, always the same ones.

    The name `digits/17` counts in scikit-learn's own order of all 1,797.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    values, labels = map(np.asarray, load_digits(return_X_y=True))
    grey = np.rint(values.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey, 3, axis=3)
    classes = tuple("0123456789")
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_FRACTION, stratify=labels, random_state=SPLIT_SEED
    )
    splits = {
        split: ArrayImages(images[chosen], labels[chosen].astype(np.int64), classes, [f"digits/{i}" for i in chosen])
        for split, chosen in (("train", train), ("test", test))
    }
    return Data("digits", classes, splits)
