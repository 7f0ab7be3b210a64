"""What a network misses when a part of the image is covered (occlusion maps; Zeiler and Fergus, arXiv 1311.2901).

Only a predictor is needed, so that every backend and every network can be asked. A cover has the mean colour of the
network's preprocessing, which it sees as about zero.
"""

import numpy as np

from allmlp.backends import Predictor
from allmlp.errors import BadSetting
from allmlp.preprocess import Preprocess

BATCH = 64


def occlusion_map(predictor: Predictor, image: np.ndarray, class_: int, cover: tuple[int, int]) -> np.ndarray:
    """How much the logit of `class_` falls when each part of `image` is covered, float32 `(rows, columns)`.

    `image` uint8 `(H, W, 3)` of the predictor's size; `cover` (height, width) in pixels. Parts lie edge to edge from
    the top left; the last may be cut. Positive: the part spoke for the class. Raises `BadSetting` for a cover that is
    not inside the image.
    """
    height, width = image.shape[:2]
    if not (1 <= cover[0] <= height and 1 <= cover[1] <= width):
        raise BadSetting(f"a cover of {cover[0]} x {cover[1]} pixels: give 1 x 1 to {height} x {width}")
    tops, lefts = range(0, height, cover[0]), range(0, width, cover[1])
    places = [(top, left) for top in tops for left in lefts]
    covered = [float(predictor(image[None])[0, class_])]
    for start in range(0, len(places), BATCH):
        batch = np.repeat(image[None], len(places[start : start + BATCH]), axis=0)
        for each, (top, left) in zip(batch, places[start : start + BATCH], strict=True):
            each[top : top + cover[0], left : left + cover[1]] = cover_colour(predictor.preprocess)
        covered += predictor(batch)[:, class_].tolist()
    return (covered[0] - np.array(covered[1:], np.float32)).reshape(len(tops), len(lefts))


def cover_colour(preprocess: Preprocess) -> np.ndarray:
    """The mean colour, uint8 `(3,)`."""
    return np.clip(np.round(255 * np.array(preprocess.mean)), 0, 255).astype(np.uint8)
