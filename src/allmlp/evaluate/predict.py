"""The logits of a whole data set, in its order."""

from collections.abc import Callable

import numpy as np

from allmlp.backends import Predictor
from allmlp.data.dataset import ImageDataset


def predict_dataset(
    predictor: Predictor,
    dataset: ImageDataset,
    workers: int = 0,
    batch_size: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """float32 logits `(N, K)` of all N images, `(0, K)` for an empty data set.

    `progress` is called with (images done, N) after each batch. Raises `BadData` for an image that cannot be used.
    """
    from allmlp.data.loader import evaluation_batches

    height, width = predictor.preprocess.image_size
    parts = [predictor(np.empty((0, height, width, 3), np.uint8))]  # gives an empty data set its K
    done = 0
    for images, _ in evaluation_batches(dataset, predictor.preprocess, batch_size, workers):
        parts.append(predictor(images))
        done += len(images)
        if progress is not None:
            progress(done, len(dataset))
    return np.concatenate(parts).astype(np.float32, copy=False)
