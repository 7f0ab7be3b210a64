"""Diabetic retinopathy in photographs of eyes, in five degrees.

`diabetic_retinopathy/train/10_left.jpeg`, `test/…`, `trainLabels.csv` (image,level) and `retinopathy_solution.csv`
(image,level,Usage) of Kaggle's competition. Validation is what its public score was of, test what its private one was.

The benchmark sees the images as the winner of the competition made them (TFDS, "btgraham-300"), so they are made here,
whenever one is asked for: scaled, so that the radius of the eye is 300 pixels; four times their difference to their
local mean (a Gaussian of 10 pixels), around grey 128; grey outside 0.9 of the radius, cropped to that; JPEG of quality
72. TFDS does it with OpenCV, whose sums are rounded otherwise: on made-up eyes the two differ by 0.7 grey levels on
average and by 8 at most before the JPEG (OpenCV 5.0). UNVERIFIED on real ones. It takes some tenths of a second an
image: `allmlp shard vtab:retinopathy OUT` does it once.
"""

import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from allmlp.data.assemble import Choices
from allmlp.data.image import decode_image, open_image
from allmlp.data.vtab.files import found, numbers, read_csv
from allmlp.data.vtab.pool import Pool, pool_of
from allmlp.errors import BadData, printable

ORIGIN = "www.kaggle.com/c/diabetic-retinopathy-detection"
CLASSES = ("no retinopathy", "mild", "moderate", "severe", "proliferative")
EYE = re.compile(r"[0-9]{1,8}_(left|right)")
RADIUS = 300
SHOWN = int(0.9 * RADIUS)
BLUR = RADIUS / 30  # standard deviation in pixels
BLUR_REACH = 3.0  # of it: OpenCV's choice for bytes
GREY = 128
QUALITY = 72
MOST_SCALE = 20.0  # an eye of 15 pixels; what seems smaller is no eye


@dataclass(frozen=True, eq=False)
class EyeImages:
    """Photographs below `root`, each shown as the benchmark does."""

    root: Path
    files: tuple[str, ...] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> np.ndarray:
        return compressed(shown(open_image(self.root / self.files[index])))

    def name(self, index: int) -> str:
        return str(self.root / self.files[index])

    def key(self, index: int) -> str:
        return self.files[index]


def pools(choices: Choices) -> dict[str, Pool]:
    root = found(choices.data_dir, ("diabetic_retinopathy", "diabetic-retinopathy-detection"), ORIGIN)
    train, solution = found(root, ("trainLabels.csv",), ORIGIN), found(root, ("retinopathy_solution.csv",), ORIGIN)
    later = read_csv(solution, ("image", "level", "Usage"))
    return {"train": _pool(root, "train", train, read_csv(train, ("image", "level"))),
            "validation": _pool(root, "test", solution, [row for row in later if row[2] == "Public"]),
            "test": _pool(root, "test", solution, [row for row in later if row[2] == "Private"])}


def _pool(root: Path, folder: str, path: Path, rows: list[tuple[str, ...]]) -> Pool:
    keys = [row[0] for row in rows]
    if strange := [key for key in keys if not EYE.fullmatch(key)]:
        raise BadData(f"{path}: {printable(strange[0], 40)!r} is no name of an image, such as 10_left")
    labels = numbers((row[1] for row in rows), path, len(CLASSES))
    return pool_of(EyeImages(root, tuple(f"{folder}/{key}.jpeg" for key in keys), labels), keys)


def shown(image: np.ndarray) -> np.ndarray:
    """uint8 RGB of any size to what the benchmark shows of it, uint8, at most 540 x 540."""
    from scipy.ndimage import gaussian_filter

    scaled = np.clip(np.rint(_scaled(image)), 0, 255)
    mean = np.rint(gaussian_filter(scaled, (BLUR, BLUR, 0), mode="mirror", truncate=BLUR_REACH))
    contrast = np.clip(4 * scaled - 4 * mean + GREY, 0, 255)
    height, width = contrast.shape[:2]
    y, x = np.ogrid[:height, :width]
    inside = (y - height // 2) ** 2 + (x - width // 2) ** 2 <= SHOWN**2
    masked = np.where(inside[:, :, None], contrast, GREY)
    rows, columns = (slice(max(side // 2 - SHOWN, 0), side // 2 + SHOWN) for side in (height, width))
    return masked[rows, columns].astype(np.uint8)


def compressed(image: np.ndarray) -> np.ndarray:
    """What a JPEG of it looks like."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=QUALITY)
    return decode_image(content.getvalue())


def _scaled(image: np.ndarray) -> np.ndarray:
    """With the eye's radius at 300 pixels, bilinear without antialiasing, float32 `(H, W, 3)`. The radius is half of
    what is not dark in the middle row."""
    row = image[len(image) // 2].astype(np.float64).sum(axis=1)
    radius = float((row > row.mean() / 10).sum()) / 2
    if radius < 1:  # a black image
        radius = len(image) / 2
    scale = min(RADIUS / radius, MOST_SCALE)
    (top, bottom, down), (left, right, across) = (_between(side, scale) for side in image.shape[:2])
    high, low = image[top].astype(np.float32), image[bottom].astype(np.float32)
    rows = high + (low - high) * down[:, None, None]
    return rows[:, left] + (rows[:, right] - rows[:, left]) * across[:, None]


def _between(side: int, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Along one axis: the pixel before, the one after, and how far on the way each new pixel lies (centres at 1/2)."""
    place = np.clip((np.arange(max(round(side * scale), 1)) + 0.5) / scale - 0.5, 0, side - 1)
    before = np.floor(place).astype(np.int64)
    return before, np.minimum(before + 1, side - 1), (place - before).astype(np.float32)
