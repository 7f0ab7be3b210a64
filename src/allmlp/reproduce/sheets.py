"""Sheets of small digits: images in which what matters is local and may be anywhere, as in photographs.

Of 32 x 32 pixels, grey, with noise on every pixel. Four different digits of one class, the sheet's, stand at their own
8 x 8 pixels near four of the 4 x 4 places of a grid, up to `JITTER_PX` off. Training sheets hold scikit-learn's
training digits only, test sheets test digits only; four sheets begin with each digit. In `digit-scenes`, where one
digit fills most of the image, a network loses nothing when all pixels change places: every pixel is about where it
always was.
"""

import numpy as np

from allmlp.data.dataset import Data, ImageDataset
from allmlp.data.digits import ArrayImages, open_digits
from allmlp.data.seeds import generator

SIZE_PX, CELL_PX, DIGITS, COPIES = 32, 8, 4, 4
JITTER_PX = 2
NOISE = 20  # each pixel's background is drawn from 0 to this


def open_sheets() -> Data:
    """The splits "train" (5,748 sheets) and "test" (1,440), always the same ones."""
    digits = open_digits()
    return Data("digit-sheets", digits.classes, {name: _sheets(part, name) for name, part in digits.splits.items()})


def _sheets(digits: ImageDataset, split: str) -> ArrayImages:
    small = np.stack([digits.image(index)[:, :, 0] for index in range(len(digits))])
    alike = {label: np.flatnonzero(digits.labels == label) for label in np.unique(digits.labels)}
    draws, side = generator(0, "sheets", split), SIZE_PX // CELL_PX
    sheets = draws.integers(NOISE + 1, size=(len(digits) * COPIES, SIZE_PX, SIZE_PX), dtype=np.uint8)
    labels = np.repeat(digits.labels, COPIES)
    for number, sheet in enumerate(sheets):
        others = draws.choice(alike[labels[number]], DIGITS - 1, replace=False)
        cells = draws.choice(side * side, DIGITS, replace=False)
        for index, cell in zip([number // COPIES, *others], cells, strict=True):
            off = draws.integers(-JITTER_PX, JITTER_PX + 1, size=2)
            top, left = (np.array(divmod(int(cell), side)) * CELL_PX + off).clip(0, SIZE_PX - CELL_PX)
            place = sheet[top : top + CELL_PX, left : left + CELL_PX]
            np.maximum(place, small[index], out=place)
    images = np.repeat(sheets[..., None], 3, axis=3)
    return ArrayImages(images, labels, tuple(digits.classes), [f"digit-sheets/{split}/{n}" for n in range(len(labels))])
