"""The one seam for inference: whatever runs a network, what its `load` returns is a *predictor*.

Evaluation, prediction, serving and benchmarking see predictors only, so that every backend is measured by the same
code. Two backends: PyTorch, and our own engine for files exported to it.
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

    Also from a file exported for our engine, which runs on the CPU at its own image size. Raises what loading and
    resizing do, and `BadSetting` for a device, and for a network without classes.
    """
    from allmlp.backends import native

    if native.is_model_file(path):
        return native.load_as_asked(path, device, image_size)
    from allmlp.backends.pytorch import load

    return load(path, device, image_size)


def load_features(
    path: str | os.PathLike, device: str = "auto", image_size: tuple[int, int] | None = None
) -> Predictor:
    """The same without its head: what comes out are the pooled features after the last norm, float32 `(N, C)`.

    For networks without classes too; it has no class names itself.
    """
    from allmlp.backends.pytorch import load_without_head

    return load_without_head(path, device, image_size)
