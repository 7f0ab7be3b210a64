"""A data set whose images are read once, brought to the network's size, and kept."""

import math

import numpy as np

from allmlp.data.dataset import ImageDataset
from allmlp.data.loader import CACHE_BYTES, evaluation_batches
from allmlp.preprocess import Preprocess

READ_BATCH = 64


class Kept:
    """The images of `dataset` as `preprocess` fits them, in memory: uint8 `(N, H, W, 3)`."""

    def __init__(self, dataset: ImageDataset, preprocess: Preprocess, workers: int = 0):
        self.dataset, self.classes, self.labels = dataset, dataset.classes, dataset.labels
        self.images = np.empty((len(dataset), *preprocess.image_size, 3), np.uint8)
        start = 0
        for images, _ in evaluation_batches(dataset, preprocess, READ_BATCH, workers):
            self.images[start : start + len(images)] = images
            start += len(images)

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def name(self, index: int) -> str:
        return self.dataset.name(index)


def kept_where_it_fits(dataset: ImageDataset, preprocess: Preprocess, workers: int = 0) -> ImageDataset:
    """`dataset` kept in memory, for what is evaluated again and again; itself where that takes over `CACHE_BYTES`."""
    fits = 3 * math.prod(preprocess.image_size) * len(dataset) <= CACHE_BYTES
    return Kept(dataset, preprocess, workers) if fits else dataset
