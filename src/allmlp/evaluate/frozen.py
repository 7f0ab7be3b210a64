"""What frozen features are worth: a plain classifier is fitted on those of the training images, and measured.

The classifier with its network is a predictor like any other, so evaluation, mistakes and reports are the same code.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from allmlp.backends import Predictor
from allmlp.data.dataset import ImageDataset
from allmlp.errors import BadData
from allmlp.evaluate.predict import predict_dataset
from allmlp.preprocess import Preprocess

Classify = Callable[[np.ndarray], np.ndarray]
"""Features float32 `(N, C)` to logits `(N, K)`."""


class OnFeatures:
    """A predictor: what `classify` says of the features that `features` gives (see `backends.load_features`)."""

    def __init__(self, features: Predictor, classify: Classify, classes: tuple[str, ...]):
        self.features, self.classify = features, classify
        self.preprocess: Preprocess = features.preprocess
        self.classes: tuple[str, ...] | None = classes
        self.output: Literal["softmax", "sigmoid"] = "softmax"
        self.num_classes = len(classes)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 `(N, H, W, 3)` to float32 logits `(N, K)`."""
        features = self.features(images)
        if len(features) == 0:  # scikit-learn refuses to answer nothing
            return np.empty((0, self.num_classes), np.float32)
        return self.classify(features).astype(np.float32)


def training_features(features: Predictor, train: ImageDataset, workers: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 `(N, C)` of the training images, in evaluation geometry, and their classes `(N,)`.

    Raises `BadData` without images, and where they have several labels each, or soft ones.
    """
    if len(train) == 0:
        raise BadData("no training images to fit a classifier on")
    if train.labels.ndim != 1:
        raise BadData("classifiers on frozen features are for one class per image; the training images have several "
                      "labels each, or soft ones")
    return predict_dataset(features, train, workers=workers), train.labels
