"""The one seam for inference: whatever runs a network, what its `load` returns is a *predictor*.

Evaluation, prediction, serving and benchmarking see predictors only, so that every backend is measured by the same
code. So far there is one backend, PyTorch.
"""

import os
from typing import Literal, Protocol

import numpy as np

from allmlp.preprocess import Preprocess


class Predictor(Protocol):
    """uint8 images of the right size in, float logits out."""

    preprocess: Preprocess  # use `preprocess.fit` to bring an image to the right size
    classes: tuple[str, ...] | None
    output: Literal["softmax", "sigmoid"]  # how logits become probabilities

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 `(N, H, W, 3)` to float32 logits `(N, K)`. N may be anything, 0 too. Raises `BadData`."""
        ...


def load_predictor(
    path: str | os.PathLike, device: str = "auto", image_size: tuple[int, int] | None = None
) -> Predictor:
    """A predictor from whatever `checkpoint.load` takes, brought to `image_size` (height, width) if given.

    Raises what loading and resizing do, and `BadSetting` for a device.
    """
    from allmlp.backends.pytorch import load

    return load(path, device, image_size)
