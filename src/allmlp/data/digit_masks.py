"""`digit-masks`: scikit-learn's real digits on textured backgrounds of 40 x 40 pixels, with the class of every pixel.

The data set for segmentation that is there without any download. A scene holds one to three digits of 14 to 22 pixels,
whose frames do not overlap, on the uneven backgrounds of `digit-scenes` with stripes over them; ink is light or dark. A
pixel belongs to the digit that covers three eighths of it or more, else to the background. So what is asked for is
which digit it is, and where exactly it ends.

Splits hold scenes of disjoint digits: those of `digits`, the training part of which is divided again, a fifth of each
class for validation. 2,000, 300 and 500 scenes, always the same ones: what is drawn follows from the scene's number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from allmlp.data.dataset import Data, ImageDataset, no_labels
from allmlp.data.digits import open_digits
from allmlp.data.scenes import background, resized
from allmlp.data.seeds import generator
from allmlp.data.split import draw_validation

SIZE_PX = 40
SCENES = {"train": 2_000, "val": 300, "test": 500}
CLASSES = ("background", *"0123456789")
VAL_FRACTION = 0.2

# What is drawn, from the first number up to below the second.
DIGITS = (1, 4)  # of a scene, as far as they find room
HEIGHT_PX = (14, 23)
WIDTH_PERCENT = (80, 115)  # of the height
MIN_OPACITY = 96  # of 255: at half, thin strokes would come apart
TRIES = 20  # to find room
STRIPE_PX = (4, 10)  # of two stripes together
STRIPES = (-30, 31)  # how much lighter or darker every other stripe is, by channel
CONTRAST = (70, 141)  # between ink and the mean background, each channel


@dataclass(frozen=True, eq=False)
class DigitMasks:
    """`images` uint8 `(N, 40, 40, 3)`; `maps` uint8 `(N, 40, 40)`, 0 for the background, 1 + digit."""

    images: np.ndarray = field(repr=False)
    maps: np.ndarray = field(repr=False)
    names: Sequence[str] = field(repr=False)
    classes: tuple[str, ...] = CLASSES
    labels: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", no_labels(len(self.images)))

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def label_map(self, index: int) -> np.ndarray:
        return self.maps[index]

    def name(self, index: int) -> str:
        return self.names[index]

    key = name


def open_digit_masks() -> Data:
    """The splits "train", "val" and "test"; `digit-masks/val/17` is scene 17 of a split."""
    splits = {name: _scenes(digits, name) for name, digits in parts().items()}
    return Data("digit-masks", CLASSES, splits)


def parts() -> dict[str, tuple[ImageDataset, np.ndarray]]:
    """The digits of each split: the data set that has them, and their numbers there, int64."""
    digits = open_digits().splits
    train = digits["train"]
    held = draw_validation([train.name(i) for i in range(len(train))], train.labels, VAL_FRACTION, 0)
    return {"train": (train, np.flatnonzero(~held)), "val": (train, np.flatnonzero(held)),
            "test": (digits["test"], np.arange(len(digits["test"])))}


def _scenes(digits: tuple[ImageDataset, np.ndarray], split: str) -> DigitMasks:
    images, maps = zip(*(scene(*digits, split, number) for number in range(SCENES[split])), strict=True)
    return DigitMasks(np.stack(images), np.stack(maps), [f"digit-masks/{split}/{n}" for n in range(SCENES[split])])


def scene(digits: ImageDataset, chosen: np.ndarray, split: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """One scene of some of the digits `chosen`: uint8 `(40, 40, 3)`, and the class of each pixel, uint8 `(40, 40)`."""
    draws = generator(0, "digit masks", split, number)
    ground = background(draws, SIZE_PX)
    rows, columns = np.ogrid[:SIZE_PX, :SIZE_PX]
    down, across = draws.integers(-3, 4, size=2)
    period = int(draws.integers(*STRIPE_PX)) * max(abs(int(down)), abs(int(across)), 1)
    ground += (((rows * down + columns * across) % period) * 2 < period)[:, :, None] * draws.integers(*STRIPES, size=3)
    labels = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    taken = np.zeros_like(labels, dtype=bool)
    image = ground
    for _ in range(int(draws.integers(*DIGITS))):
        index = int(draws.choice(chosen))
        height = int(draws.integers(*HEIGHT_PX))
        width = height * int(draws.integers(*WIDTH_PERCENT)) // 100
        for _ in range(TRIES):
            top, left = (int(draws.integers(SIZE_PX - side + 1)) for side in (height, width))
            place = np.s_[top : top + height, left : left + width]
            if not taken[place].any():
                break
        else:
            continue
        taken[place] = True
        opacity = resized(digits.image(index)[:, :, 0], height, width).astype(np.int32)
        sign = 1 if draws.random() < 0.7 else -1
        ink = (ground[place].mean((0, 1)).astype(np.int32) + sign * draws.integers(*CONTRAST, size=3)).clip(0, 255)
        image[place] = (image[place] * (255 - opacity[:, :, None]) + ink * opacity[:, :, None] + 127) // 255
        labels[place][opacity >= MIN_OPACITY] = 1 + int(digits.labels[index])
    return image.clip(0, 255).astype(np.uint8), labels
