"""Batches for training and evaluation.

What an epoch is follows from (seed, epoch) alone: no state, no dependence on the number of workers, and an epoch can be
entered at any step. Every image comes exactly once per epoch: nothing is dropped, the last batch may be short (and is
then cut into at most as many parts as it has images where gradients are accumulated).

Where images come out the same every time and all of them fit into `CACHE_BYTES`, they are read once and an epoch is
pure indexing.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from allmlp.data.augment import ImageAugmentation, image_augmentation, is_random
from allmlp.data.dataset import ImageDataset
from allmlp.data.seeds import derived_seed, generator
from allmlp.data.workers import Key, Workers
from allmlp.errors import BadData, BadSetting
from allmlp.preprocess import Preprocess, fit
from allmlp.recipe import Augment

CACHE_BYTES = 512 * 2**20  # of uint8 pixels: 3,500 images of 224 x 224, 170,000 of 32 x 32
CACHE_BATCH = 64  # images read at a time when the cache is filled


class Batch(NamedTuple):
    """Training images with their labels and their numbers in the data set."""

    images: torch.Tensor  # uint8 (B, 3, H, W)
    labels: torch.Tensor  # int64 (B,), or uint8 (B, K) where an image has several labels
    indices: torch.Tensor  # int64 (B,)


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `n` images in an epoch: a permutation, int64 `(n,)`, that follows from its arguments."""
    return generator(seed, "order", epoch).permutation(n).astype(np.int64, copy=False)  # numpy 1 on Windows: int32


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Batches in an epoch, the short one included."""
    return math.ceil(num_images / batch_size)


class Loader:
    """Training batches of `dataset`, augmented image by image; `cache="off"` reads the images anew in each epoch.

    Raises `BadData` for a data set without images and `BadSetting` for what `augment` or `workers` cannot be.
    """

    def __init__(self, dataset: ImageDataset, preprocess: Preprocess, augment: Augment, batch_size: int, seed: int,
                 workers: int = 0, cache: Literal["auto", "off"] = "auto"):
        if len(dataset) == 0:
            raise BadData("no images to train on")
        if batch_size < 1:
            raise BadSetting(f"batch_size {batch_size}: expected at least 1")
        self.batch_size, self.seed = batch_size, seed
        self.steps_per_epoch = steps_per_epoch(len(dataset), batch_size)
        read = functools.partial(_read_augmented, image_augmentation(augment, preprocess), seed)
        reader = Workers(dataset, read, min(workers, self.steps_per_epoch))
        fits = 3 * math.prod(preprocess.image_size) * len(dataset) <= CACHE_BYTES
        cached = cache == "auto" and fits and not is_random(augment)
        self._pictures = _Cache(reader, len(dataset)) if cached else reader
        self._labels = torch.tensor(dataset.labels)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `start_step` (of `steps_per_epoch`) on.

        Raises `BadData`, naming the image, where the data set does.
        """
        if not 0 <= start_step <= self.steps_per_epoch:
            raise BadSetting(f"start_step {start_step}: an epoch has {self.steps_per_epoch} steps")
        order = epoch_order(len(self._labels), self.seed, epoch)[start_step * self.batch_size :]
        keys = _keys(epoch, order, self.batch_size)
        for (_, indices), images in zip(keys, self._pictures(keys), strict=True):
            chosen = torch.from_numpy(indices)
            yield Batch(images, self._labels[chosen], chosen)


class _Cache:
    """All pictures that `workers` read, in memory from the first call on. For pictures that do not depend on epochs."""

    def __init__(self, workers: Workers, num_images: int):
        self._workers: Workers | None = workers
        self._images = torch.empty(num_images, 0)

    def __call__(self, keys: Sequence[Key]) -> Iterator[torch.Tensor]:
        if self._workers is not None:
            start = 0
            for part in self._workers(_keys(0, np.arange(len(self._images)), CACHE_BATCH)):
                if start == 0:  # allocated whole, as joining the parts would need the memory twice
                    self._images = part.new_empty(len(self._images), *part.shape[1:])
                self._images[start : start + len(part)] = part
                start += len(part)
            self._workers = None  # which ends the processes
        for _, indices in keys:
            yield self._images[torch.from_numpy(indices)]


def evaluation_batches(dataset: ImageDataset, preprocess: Preprocess, batch_size: int = 256,
                       workers: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All images in order, as the network is to see them: uint8 `(B, H, W, 3)` with their labels `(B,)` or `(B, K)`.

    The last batch may be short; a data set without images gives no batch. Raises `BadData`, naming the image.
    """
    keys = _keys(0, np.arange(len(dataset)), batch_size)
    read = functools.partial(_read_fitted, preprocess)
    for (_, indices), images in zip(keys, Workers(dataset, read, min(workers, len(keys)))(keys), strict=True):
        yield images.numpy(), dataset.labels[indices]


def _keys(epoch: int, order: np.ndarray, batch_size: int) -> list[Key]:
    return [(epoch, order[start : start + batch_size]) for start in range(0, len(order), batch_size)]


def _read_augmented(augmentation: ImageAugmentation, seed: int, image: np.ndarray, epoch: int,
                    index: int) -> torch.Tensor:
    return augmentation(image, derived_seed(seed, "image", epoch, index))


def _read_fitted(preprocess: Preprocess, image: np.ndarray, epoch: int, index: int) -> torch.Tensor:
    return torch.tensor(fit(image, preprocess))
