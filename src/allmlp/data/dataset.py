"""What a data set is: images with labels and class names, and nothing that transforms them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

SPLITS = ("train", "val", "test")


@runtime_checkable
class ImageDataset(Protocol):
    """Images of any size with their labels, in a fixed order.

    `labels`: int64 `(N,)` class numbers, known without opening an image; or, for several labels per image, uint8
    `(N, K)` with a 1 for each label that holds.
    """

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def labels(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> np.ndarray:
        """uint8 RGB `(H, W, 3)`. Raises `BadData`, naming the file, for an image that cannot be used."""
        ...

    def name(self, index: int) -> str:
        """Where the image comes from: a path, or `digits/17`."""
        ...


@dataclass(frozen=True)
class Data:
    """The splits of one source. `splits` has "train" and whichever of "val" and "test" exist, all of the same classes.

    `notes`: one line each on what a person should know (bad files skipped, how a split was drawn).
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, ImageDataset]
    notes: tuple[str, ...] = ()
    split_files: Mapping[str, Sequence[str]] | None = field(default=None, repr=False)  # a drawn split, written down

    @property
    def multi_label(self) -> bool:
        return next(iter(self.splits.values())).labels.ndim == 2
