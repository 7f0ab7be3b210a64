"""Drawing a validation part from one set of images."""

import hashlib
from collections.abc import Sequence

import numpy as np


def draw_validation(files: Sequence[str], labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which images are held out: bool `(N,)`.

    Stratified for labels `(N,)`: of a class with n images, `fraction * n` rounded, at least 1 and at most n - 1; a
    single image stays in training. For several labels per image, `(N, K)`, all images are treated as one class.

    Within a class the images are taken in the order of SHA-256 of seed and path, not of a random generator: the same
    on every machine and in every version of numpy, and an image more or less leaves nearly all others where they are.
    """
    held_out = np.zeros(len(files), dtype=bool)
    groups = [np.arange(len(files))] if labels.ndim == 2 else [np.flatnonzero(labels == k) for k in np.unique(labels)]
    for members in groups:
        if fraction > 0 and len(members) > 1:
            count = min(max(round(fraction * len(members)), 1), len(members) - 1)
            held_out[sorted(members, key=lambda index: _draw(seed, files[int(index)]))[:count]] = True
    return held_out


def _draw(seed: int, file: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{file}".encode(errors="surrogateescape")).digest()
