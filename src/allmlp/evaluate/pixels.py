"""A class for every pixel of an image of any size, from a predictor that takes one size.

"windows": overlapping windows of the predictor's size, half a window apart, the last ones flush with the image's edges;
where windows overlap, their logits are averaged. An image smaller than a window is filled up with the mean colour to
the right and below, and what is said of that is thrown away. "resize": the whole image is resized to the predictor's
size whatever its shape, and the logits back, bilinearly.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from allmlp.backends import Predictor
from allmlp.errors import BadSetting
from allmlp.preprocess import OtherSizes, fit

BATCH = 32  # images or windows computed at once


class PixelPredictor(Predictor, Protocol):
    """A predictor of logits `(N, K, H, W)`. `other_sizes`: how it is meant to answer for images of another size."""

    task: str
    other_sizes: OtherSizes


def as_pixel_predictor(predictor: Any, where: str) -> PixelPredictor:
    """`predictor`, if it answers for pixels. Raises `BadSetting`."""
    if getattr(predictor, "task", "classification") != "segmentation":
        raise BadSetting(f"{where}: a network for classification, which gives one answer for an image; train one for "
                         "segmentation, or leave out --task segmentation")
    return predictor


def logits_of(predictor: PixelPredictor, image: np.ndarray, how: OtherSizes | None = None) -> np.ndarray:
    """uint8 `(h, w, 3)` of any size to float32 logits `(K, h, w)`; `how` None: as the network was made for."""
    height, width = predictor.preprocess.image_size
    if image.shape[:2] == (height, width):
        return predictor(image[None])[0]
    if (how or predictor.other_sizes) == "resize":
        return _resized_back(predictor(fit(image, predictor.preprocess.with_(resize="squash"))[None])[0],
                             image.shape[:2])
    return _by_windows(predictor, image)


def starts(side: int, window: int) -> list[int]:
    """Where windows begin along a side of at least one window: half a window apart, and the last at the end."""
    step = max(window // 2, 1)
    return [*range(0, side - window, step), side - window]


def _by_windows(predictor: PixelPredictor, image: np.ndarray) -> np.ndarray:
    window = predictor.preprocess.image_size
    sides = [max(side, least) for side, least in zip(image.shape[:2], window, strict=True)]
    whole = np.empty((*sides, 3), np.uint8)
    whole[:] = [round(255 * mean) for mean in predictor.preprocess.mean]
    whole[: image.shape[0], : image.shape[1]] = image
    places = [(top, left) for top in starts(sides[0], window[0]) for left in starts(sides[1], window[1])]
    total, counts = np.zeros((0, *sides), np.float32), np.zeros(sides, np.float32)
    for part in _parts(places):
        logits = predictor(np.stack([whole[top : top + window[0], left : left + window[1]] for top, left in part]))
        if not len(total):
            total = np.zeros((logits.shape[1], *sides), np.float32)
        for (top, left), each in zip(part, logits, strict=True):
            total[:, top : top + window[0], left : left + window[1]] += each
            counts[top : top + window[0], left : left + window[1]] += 1
    return (total / counts)[:, : image.shape[0], : image.shape[1]]


def _parts(places: Sequence[tuple[int, int]]) -> Iterator[Sequence[tuple[int, int]]]:
    for start in range(0, len(places), BATCH):
        yield places[start : start + BATCH]


def _resized_back(logits: np.ndarray, size: Sequence[int]) -> np.ndarray:
    import torch

    moved = torch.nn.functional.interpolate(torch.from_numpy(logits)[None], tuple(size), mode="bilinear",
                                            align_corners=False, antialias=False)
    return moved[0].numpy()
