"""Colours of classes, and a label map laid over its image.

The colours are those of PASCAL VOC's masks (VOCdevkit's `VOClabelcolormap.m`): bit j of the class number, taken three
at a time, sets bit 7 - j of red, green and blue. So masks we write look as others expect, and 255 is light grey.
"""

import numpy as np

from allmlp.data.dataset import IGNORED


def palette() -> np.ndarray:
    """The colour of each class, uint8 `(256, 3)`."""
    numbers = np.arange(256)[:, None]
    shifts = 3 * np.arange(8) + np.arange(3)[:, None, None]  # (channel, 1, bit)
    bits = (numbers >> shifts.transpose(1, 0, 2).reshape(3, 1, 8)) & 1
    return (bits << (7 - np.arange(8))).sum(2).T.astype(np.uint8)


def overlay(image: np.ndarray, labels: np.ndarray, share: float = 0.55) -> np.ndarray:
    """uint8 `(H, W, 3)` with each class but number 0 in its colour, of which so large a share is mixed in.

    `labels`: uint8 `(H, W)`. What is ignored stays as it is.
    """
    colours = palette()[labels].astype(np.float32)
    mixed = (1 - share) * image + share * colours
    covered = ((labels != 0) & (labels != IGNORED))[:, :, None]
    return np.where(covered, mixed, image).round().astype(np.uint8)
