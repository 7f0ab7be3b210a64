"""What a data set is: images with labels and class names, and nothing that transforms them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from allmlp.errors import BadData, BadImage

SPLITS = ("train", "val", "test")
IGNORED = 255  # of a label map: no class, and not measured


def no_labels(count: int) -> np.ndarray:
    """`labels` of images that have a label map instead: -1, which is no class, `(count,)`."""
    return np.full(count, -1, np.int64)


@runtime_checkable
class ImageDataset(Protocol):
    """Images of any size with their labels, in a fixed order.

    `labels` are known without opening an image: int64 `(N,)` class numbers; or, for several labels per image, uint8
    `(N, K)` with a 1 for each label that holds; or, for soft labels, float32 `(N, K)`, the share of each class, rows
    that sum to 1.
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


@runtime_checkable
class Grouped(Protocol):
    """What a data set has beside, whose images are cheap to reach only one after another: see `order.py`."""

    @property
    def groups(self) -> np.ndarray | None:
        """int64 `(N,)`: images of equal number lie together. None: each image is as near as any other."""
        ...

    @property
    def window(self) -> int:
        """How many groups can be held at a time, at least 1."""
        ...


@runtime_checkable
class Encoded(Protocol):
    """What a data set has beside, whose images are files somewhere: the bytes of one, as they are."""

    def encoded(self, index: int) -> bytes: ...


@runtime_checkable
class Mapped(ImageDataset, Protocol):
    """Images with a class for every pixel; `labels` are `no_labels`."""

    def label_map(self, index: int) -> np.ndarray:
        """uint8 `(H, W)`, of the size of the image: class numbers, `IGNORED` where there is none. Raises `BadData`."""
        ...


def is_mapped(dataset: ImageDataset) -> bool:
    """Whether its images have label maps."""
    return is_mapped(dataset.dataset) if isinstance(dataset, Subset) else isinstance(dataset, Mapped)


def with_map(dataset: Any, index: int) -> np.ndarray:
    """An image and, as its fourth channel, its label map: uint8 `(H, W, 4)`. Raises `BadData` where sizes differ."""
    image, labels = dataset.image(index), dataset.label_map(index)
    if image.shape[:2] != labels.shape:
        sizes = [f"{height} x {width}" for height, width in (labels.shape, image.shape[:2])]
        raise BadImage(f"{dataset.name(index)}: its mask has {sizes[0]} pixels and the image {sizes[1]}; both must be "
                       "of one size")
    return np.concatenate([image, labels[:, :, None]], axis=2)


@dataclass(frozen=True, eq=False)
class WithMaps:
    """A data set whose images bring their label maps along, as a fourth channel: what is read in one go."""

    dataset: Any
    labels: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", self.dataset.labels)

    @property
    def classes(self) -> Sequence[str]:
        return self.dataset.classes

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> np.ndarray:
        return with_map(self.dataset, index)

    def name(self, index: int) -> str:
        return self.dataset.name(index)


@dataclass(frozen=True, eq=False)
class Subset:
    """Some images of a data set, in the order of `indices` int64 `(N,)`."""

    dataset: ImageDataset
    indices: np.ndarray = field(repr=False)
    labels: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", self.dataset.labels[self.indices])

    @property
    def classes(self) -> Sequence[str]:
        return self.dataset.classes

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int) -> np.ndarray:
        return self.dataset.image(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.dataset.name(int(self.indices[index]))

    def label_map(self, index: int) -> np.ndarray:
        inner: Any = self.dataset
        return inner.label_map(int(self.indices[index]))

    def origin(self, index: int) -> tuple[ImageDataset, int]:
        """The data set that has the image itself, and its number there."""
        inner, number = self.dataset, int(self.indices[index])
        return inner.origin(number) if isinstance(inner, Subset) else (inner, number)

    @property
    def groups(self) -> np.ndarray | None:
        groups = self.dataset.groups if isinstance(self.dataset, Grouped) else None
        return None if groups is None else groups[self.indices]

    @property
    def window(self) -> int:
        return self.dataset.window if isinstance(self.dataset, Grouped) else 1


class Splits(dict[str, ImageDataset]):
    """Splits of which "train" may be missing, as of what is only tested on: asking for it is the user's mistake."""

    def __missing__(self, split: str) -> ImageDataset:
        raise BadData(f"this data has no {split} split, only {', '.join(self)}; it is not made for that")


@dataclass(frozen=True)
class Data:
    """The splits of one source. `splits` has "train" and whichever of "val" and "test" exist, all of the same classes;
    what is only tested on has no "train" (`Splits`).

    `notes`: one line each on what a person should know (bad files skipped, how a split was drawn). `closed`: a network
    with more classes is to answer among these alone (ImageNet-A, -R).
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, ImageDataset]
    notes: tuple[str, ...] = ()
    split_files: Mapping[str, Sequence[str]] | None = field(default=None, repr=False)  # a drawn split, written down
    closed: bool = False

    @property
    def task(self) -> Literal["classification", "segmentation"]:
        """What can be learnt from it: one answer for an image, or one for every pixel."""
        return "segmentation" if is_mapped(next(iter(self.splits.values()))) else "classification"

    @property
    def multi_label(self) -> bool:
        return several(next(iter(self.splits.values())).labels)


def several(labels: np.ndarray) -> bool:
    """Whether these are several labels per image; neither single nor soft ones."""
    return labels.ndim == 2 and not soft(labels)


def soft(labels: np.ndarray) -> bool:
    """Whether these are shares of classes."""
    return labels.ndim == 2 and np.issubdtype(labels.dtype, np.floating)
