"""`digit-scenes`: scikit-learn's real digits, enlarged and placed at random on coloured backgrounds of 32 x 32 pixels.

A larger set without a download, on which networks for images of some size can be told apart: where the digit is, its
size and its colours have to be learnt away. From each of the 1,437 training digits four training scenes are made, from
each of the 360 test digits four test scenes (`data.digits` has the split), so no handwriting is in both: 5,748 and
1,440 scenes. Always the same ones, to the byte: what is drawn follows from the digit's number and the scene's
(`data.seeds`), and all arithmetic is in whole numbers, PIL's resizing too.

A scene: a dark background that changes smoothly between 4 x 4 colours, with a blot half seen through and noise on every
pixel; the digit, 22 to 28 pixels high, somewhat narrower or wider, at a random place inside, in a random light colour.
Its grey values are its opacity. The ranges were chosen so that a small Mixer reaches 80 to 95 % in minutes on one core
(by test accuracy; every figure made on this set comes later).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from allmlp.data.dataset import Data, ImageDataset
from allmlp.data.digits import open_digits
from allmlp.data.seeds import generator

SIZE_PX = 32
COPIES = 4  # scenes of each digit

# What is drawn, from the first number up to below the second.
HEIGHT_PX = (22, 29)  # of the digit's frame of 8 x 8, which the strokes nearly fill
WIDTH_PERCENT = (80, 115)  # of the height
GROUND = (20, 110)  # each channel of the background's mean colour
VARIATION = (-25, 26)  # of the background around that, smooth
BLOT_PX = (2, 6)  # half the axes of the blot
NOISE = (-10, 11)  # of each pixel and channel
INK = (160, 256)  # each channel of the digit's colour


@dataclass(frozen=True, eq=False)
class Scenes:
    """`images` uint8 `(N, 32, 32, 3)`; `opacity` uint8 `(N, 32, 32)`, how much of a pixel is the digit's."""

    images: np.ndarray = field(repr=False)
    opacity: np.ndarray = field(repr=False)
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

    def mask(self, index: int) -> np.ndarray:
        """Which pixels are the digit's rather than the background's, bool `(32, 32)`."""
        return self.opacity[index] >= 128


def open_scenes() -> Data:
    """The splits "train" and "test"; the name `digit-scenes/17/3` is the third scene of scikit-learn's digit 17."""
    digits = open_digits()
    return Data("digit-scenes", digits.classes, {name: scenes_of(part) for name, part in digits.splits.items()})


def scenes_of(digits: ImageDataset, copies: int = COPIES) -> Scenes:
    """`copies` scenes of each of scikit-learn's digits, the first four of them those of `digit-scenes`."""
    images = np.empty((len(digits) * copies, SIZE_PX, SIZE_PX, 3), np.uint8)
    opacity, names = np.empty(images.shape[:3], np.uint8), []
    for number in range(len(images)):
        index, copy = divmod(number, copies)
        which = digits.name(index).removeprefix("digits/")
        images[number], opacity[number] = scene(digits.image(index)[:, :, 0], int(which), copy)
        names.append(f"digit-scenes/{which}/{copy}")
    return Scenes(images, opacity, np.repeat(digits.labels, copies), tuple(digits.classes), names)


def scene(digit: np.ndarray, number: int, copy: int) -> tuple[np.ndarray, np.ndarray]:
    """One scene of a digit, grey uint8 `(8, 8)`: uint8 `(32, 32, 3)`, and how opaque the digit is, uint8 `(32, 32)`."""
    draws = generator(0, "scene", number, copy)
    height = int(draws.integers(*HEIGHT_PX))
    width = height * int(draws.integers(*WIDTH_PERCENT)) // 100
    top, left = (int(draws.integers(SIZE_PX - side + 1)) for side in (height, width))
    opacity = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    opacity[top : top + height, left : left + width] = resized(digit, height, width)
    ground = background(draws, SIZE_PX)
    share, colour = opacity[:, :, None].astype(np.int32), draws.integers(*INK, size=3, dtype=np.int32)
    mixed = (ground * (255 - share) + colour * share + 127) // 255
    return mixed.clip(0, 255).astype(np.uint8), opacity


def background(draws: np.random.Generator, side: int) -> np.ndarray:
    """Colours that change smoothly, a blot and noise, int32 `(side, side, 3)`, a little beyond [0, 255] at most."""
    rows, columns = np.ogrid[:side, :side]
    corners = draws.integers(*GROUND, size=3) + draws.integers(*VARIATION, size=(4, 4, 3))
    ground = resized(corners.clip(0, 255).astype(np.uint8), side, side).astype(np.int32)
    y, x = draws.integers(side, size=2)
    radius_y, radius_x = draws.integers(*BLOT_PX, size=2)
    blot = (rows - y) ** 2 * radius_x**2 + (columns - x) ** 2 * radius_y**2 <= (radius_y * radius_x) ** 2
    ground[blot] = (ground[blot] + draws.integers(256, size=3)) // 2
    ground += draws.integers(*NOISE, size=ground.shape, dtype=np.int8)
    return ground


def resized(values: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC))
