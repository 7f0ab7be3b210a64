"""A network that may answer with some of its classes only, as ImageNet-A and -R are measured."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from allmlp.backends import Predictor
from allmlp.errors import BadData
from allmlp.evaluate.names import align_labels
from allmlp.preprocess import Preprocess


class Among:
    """A predictor with the outputs of `predictor` for `classes` alone, in their order, matched by name.

    Raises `BadData` where the network has no class names, or lacks one of them.
    """

    def __init__(self, predictor: Predictor, classes: Sequence[str]):
        if predictor.classes is None:
            raise BadData(f"the network has no class names, so the outputs for {len(classes)} classes cannot be told; "
                          "give published weights, or a checkpoint with ImageNet's names")
        self.predictor = predictor
        self.classes: tuple[str, ...] | None = tuple(classes)
        self.columns, _ = align_labels(classes, predictor.classes, np.arange(len(classes)))
        self.preprocess: Preprocess = predictor.preprocess
        self.output: Literal["softmax", "sigmoid"] = predictor.output

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 `(N, H, W, 3)` to float32 `(N, len(classes))`."""
        return self.predictor(images)[:, self.columns]
