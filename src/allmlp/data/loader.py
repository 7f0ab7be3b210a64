"""Batches for training and evaluation.

What an epoch is follows from (seed, epoch) alone: no state, no dependence on the number of workers, and an epoch can be
entered at any step. Every image comes exactly once per epoch (unless it is repeated): nothing is dropped, the last
batch may be short (and is then cut into at most as many parts as it has images where gradients are accumulated).

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
from allmlp.data.dataset import ImageDataset, WithMaps, is_mapped
from allmlp.data.order import epoch_order
from allmlp.data.paired import paired_augmentation
from allmlp.data.place import ALL, Place, Share, place
from allmlp.data.seeds import derived_seed
from allmlp.data.views import views_augmentation
from allmlp.data.workers import Key, Workers
from allmlp.errors import BadData, BadSetting
from allmlp.preprocess import Preprocess, fit
from allmlp.recipe import Augment, Dino

CACHE_BYTES = 512 * 2**20  # of uint8 pixels: 3,500 images of 224 x 224, 170,000 of 32 x 32
CACHE_BATCH = 64  # images read at a time when the cache is filled


class Batch(NamedTuple):
    """Training images with their labels, their numbers in the data set, and where they stand in the whole batch."""

    images: torch.Tensor  # uint8 (B, 3, H, W), or for DINO (B, V, 3, H, W)
    labels: torch.Tensor  # int64 (B,), uint8 (B, K) where an image has several labels, or (B, H, W) of label maps
    indices: torch.Tensor  # int64 (B,)
    place: Place


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Batches in an epoch, the short one included."""
    return math.ceil(num_images / batch_size)


class Loader:
    """Training batches of `dataset`, augmented image by image; `cache="off"` reads the images anew in each epoch.

    `share`: where several processes train, what each gets of a batch (`place.py`); batches themselves are the same for
    any number of them. Raises `BadData` for a data set without images and `BadSetting` for what `augment` or `workers`
    cannot be.
    """

    def __init__(self, dataset: ImageDataset, preprocess: Preprocess, augment: Augment, batch_size: int, seed: int,
                 workers: int = 0, cache: Literal["auto", "off"] = "auto", dino: Dino | None = None,
                 share: Share = ALL):
        if len(dataset) == 0:
            raise BadData("no images to train on")
        if batch_size < 1:
            raise BadSetting(f"batch_size {batch_size}: expected at least 1")
        self.dataset, self.augment, self.batch_size, self.seed, self.share = dataset, augment, batch_size, seed, share
        self.steps_per_epoch = steps_per_epoch(len(dataset), batch_size)
        self._mapped = is_mapped(dataset)
        if self._mapped and dino:
            raise BadSetting("dino learns whole images without labels; data with masks is for segmentation")
        augmentation = (paired_augmentation if self._mapped else image_augmentation)(augment, preprocess)
        if dino:
            augmentation = views_augmentation(augment, dino, preprocess)
        read = functools.partial(_read_augmented, augmentation, seed)
        source = WithMaps(dataset) if self._mapped else dataset
        reader = Workers(source, read, min(workers, self.steps_per_epoch))
        fits = (4 if self._mapped else 3) * math.prod(preprocess.image_size) * len(dataset) <= CACHE_BYTES
        cached = cache == "auto" and fits and not is_random(augment) and dino is None
        self._pictures = _Cache(reader, len(dataset)) if cached else reader
        self._labels = torch.tensor(dataset.labels)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The numbers of the images of each whole batch of an epoch, int64.

        With `augment.repeated` copies, an image stands so many times in its batch, a batch's length divided by that
        apart: side by side it would be mixed with itself.
        """
        order = epoch_order(self.dataset, self.seed, epoch)
        copies, size = self.augment.repeated, self.batch_size
        whole = [order[start : start + size] for start in range(0, len(order), size)]
        if copies == 1:
            return whole
        different = math.ceil(size / copies)
        return [np.tile(np.take(order, range(i * different, (i + 1) * different), mode="wrap"), copies)[: len(batch)]
                for i, batch in enumerate(whole)]

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `start_step` (of `steps_per_epoch`) on.

        Raises `BadData`, naming the image, where the data set does.
        """
        if not 0 <= start_step <= self.steps_per_epoch:
            raise BadSetting(f"start_step {start_step}: an epoch has {self.steps_per_epoch} steps")
        batches = self.batches(epoch)[start_step:]
        places = [place(len(batch), self.augment, self.share) for batch in batches]
        different = math.ceil(self.batch_size / self.augment.repeated)
        keys = [Key(epoch, batch[where.rows], where.rows // different)
                for batch, where in zip(batches, places, strict=True)]
        for key, where, images in zip(keys, places, self._pictures(keys), strict=True):
            chosen = torch.from_numpy(key.indices)
            if self._mapped:
                yield Batch(images[:, :3], images[:, 3], chosen, where)
            else:
                yield Batch(images, self._labels[chosen], chosen, where)


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
        for key in keys:
            yield self._images[torch.from_numpy(key.indices)]


def evaluation_batches(dataset: ImageDataset, preprocess: Preprocess, batch_size: int = 256,
                       workers: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All images in order, as the network is to see them: uint8 `(B, H, W, 3)` with their labels `(B,)` or `(B, K)`.

    The last batch may be short; a data set without images gives no batch. Raises `BadData`, naming the image.
    """
    keys = _keys(0, np.arange(len(dataset)), batch_size)
    read = functools.partial(_read_fitted, preprocess)
    for key, images in zip(keys, Workers(dataset, read, min(workers, len(keys)))(keys), strict=True):
        yield images.numpy(), dataset.labels[key.indices]


def _keys(epoch: int, order: np.ndarray, batch_size: int) -> list[Key]:
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [Key(epoch, part, np.zeros_like(part)) for part in parts]


def _read_augmented(augmentation: ImageAugmentation, seed: int, image: np.ndarray, epoch: int, index: int,
                    copy: int) -> torch.Tensor:
    return augmentation(image, derived_seed(seed, "image", epoch, index, *([copy] if copy else [])))


def _read_fitted(preprocess: Preprocess, image: np.ndarray, epoch: int, index: int, copy: int) -> torch.Tensor:
    return torch.tensor(fit(image, preprocess))
