"""What the benchmark draws from, and how: pools of images in the order of TensorFlow Datasets (TFDS).

VTAB takes "the first 800" of a TFDS split, and TFDS orders a split by the MD5 of its name and of each image's key, by
itself and for ever: nothing random is in it. So the benchmark's own images can be named wherever the keys are known,
without TensorFlow: `published_order` gives CIFAR-10's first 5,000 images the order that TFDS was seen to give them. The
keys of the other sets stand in TFDS's code; what order they give was not seen here.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from allmlp.data.dataset import ImageDataset, Subset

Choose = Callable[[Sequence[np.ndarray]], Sequence[ImageDataset]]
"""The images of several lists of numbers, each as a data set; together, for what is read from the front."""


@dataclass(frozen=True)
class Pool:
    """The images of a TFDS split in any order. `keys`: what TFDS calls each; `labels` int64 `(N,)`."""

    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    keys: Sequence[str] = field(repr=False)
    choose: Choose = field(repr=False)


@dataclass(frozen=True)
class Part:
    """A stretch of a pool's order, in percent."""

    pool: Literal["train", "validation", "test"]
    start: int = 0
    stop: int = 100

    def of(self, order: np.ndarray) -> np.ndarray:
        """Rounded down at both ends, as the benchmark does."""
        return order[len(order) * self.start // 100 : len(order) * self.stop // 100]


def pool_of(images: ImageDataset, keys: Sequence[str]) -> Pool:
    """The pool of images that can be reached one by one."""
    return Pool(images.labels, tuple(images.classes), keys,
                lambda parts: [Subset(images, part) for part in parts])


def published_order(split: str, keys: Sequence[str]) -> np.ndarray:
    """The numbers of `keys` in the order of TFDS's `split`, int64 `(N,)`: ascending MD5 of split and key together."""
    salt = hashlib.md5(split.encode(), usedforsecurity=False)

    def digest(index: int) -> bytes:
        known = salt.copy()
        known.update(keys[index].encode())
        return known.digest()

    return np.array(sorted(range(len(keys)), key=digest), np.int64)


def drawn(pools: Mapping[str, Pool], parts: Mapping[str, Part], most: Mapping[str, int]
          ) -> dict[str, ImageDataset]:
    """For each of `parts` its images, at most so many as `most` says, in their order."""
    orders = {name: published_order(name, pool.keys) for name, pool in pools.items()}
    chosen = {split: part.of(orders[part.pool])[: most.get(split)] for split, part in parts.items()}
    found: dict[str, ImageDataset] = {}
    for name, pool in pools.items():
        splits = [split for split, part in parts.items() if part.pool == name]
        found |= dict(zip(splits, pool.choose([chosen[split] for split in splits]), strict=True))
    return {split: found[split] for split in parts}
