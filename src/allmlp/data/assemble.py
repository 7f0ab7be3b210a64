"""From what a source has to the `Data` that was asked for: what all sources but the plain folder do alike."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from allmlp.data.dataset import Data, ImageDataset, Subset
from allmlp.data.faults import counted, listed
from allmlp.data.hold_out import hold_out, restore
from allmlp.errors import BadData, BadSetting

AT_ONCE = 256  # images that are opened between two looks at what was found


@dataclass(frozen=True)
class Choices:
    """How to open a source. `val_fraction`, `seed`: the validation part of a source without one; `split_files`: that
    of an earlier run. `skip_bad`: leave out what cannot be read. `data_dir`: where named data sets lie. `download`:
    whether what is missing may be fetched."""

    val_fraction: float = 0.2
    seed: int = 0
    skip_bad: bool = False
    split_files: Mapping[str, Sequence[str]] | None = None
    data_dir: Path = Path("data")
    download: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.val_fraction < 1:
            raise BadSetting(f"val_fraction {self.val_fraction}: accepted are 0 (nothing held out) up to, not "
                             "including, 1")


class Keyed(ImageDataset, Protocol):
    """A data set whose images have names that do not depend on where it lies, as a draw needs them."""

    def key(self, index: int) -> str: ...


def assemble(name: str, splits: Mapping[str, Keyed], notes: Iterable[str], choices: Choices) -> Data:
    """The splits of a source, with a validation part drawn if there is "train" alone, and without unreadable images if
    that is asked for. Raises `BadData` for a source without training images."""
    if not len(splits.get("train", ())):
        has = f"only a {' and a '.join(splits)} split" if splits else "no images"
        raise BadData(f"{name}: no images to train on ({has}); one part of the data must be training data")
    train, found, notes = splits["train"], dict[str, ImageDataset](splits), list(notes)
    drawn = set(splits) == {"train"}
    if drawn and (choices.split_files is not None or choices.val_fraction > 0):
        keys = [train.key(index) for index in range(len(train))]
        if choices.split_files is not None:
            parts, left_over = restore(name, train, keys, _subset, choices.split_files)
            if left_over:
                notes.append(f"{counted(len(left_over), 'image')} not in the recorded split and not used: "
                             f"{listed(left_over)}")
        else:
            parts, more = hold_out(train, keys, _subset, choices.val_fraction, choices.seed)
            notes += more
        found = dict(parts)
    elif choices.split_files is not None:
        raise BadData(f"{name}: it has its own splits, so no other split can be restored in it")
    chosen = {split: _keys(images) for split, images in found.items()} if drawn else None
    if choices.skip_bad:
        found = {split: readable(split, images, notes) for split, images in found.items()}
    return Data(name, tuple(train.classes), found, tuple(notes), chosen)


def unreadable(images: ImageDataset) -> dict[int, str]:
    """The images that cannot be read, with the reason. Opens every one, in threads."""
    def opened(index: int) -> str:
        try:
            images.image(index)
        except BadData as error:
            return str(error)
        return ""

    bad: dict[int, str] = {}
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(images), AT_ONCE):
            part = range(start, min(start + AT_ONCE, len(images)))
            bad |= {index: why for index, why in zip(part, threads.map(opened, part), strict=True) if why}
    return bad


def _subset(images: ImageDataset, indices: np.ndarray) -> Subset:
    return Subset(images, indices)


def _keys(images: ImageDataset) -> list[str]:
    if isinstance(images, Subset):
        source = images.dataset
        return [source.key(index) for index in images.indices.tolist()]  # pyright: ignore[reportAttributeAccessIssue]
    return [images.key(index) for index in range(len(images))]  # pyright: ignore[reportAttributeAccessIssue]


def readable(split: str, images: ImageDataset, notes: list[str]) -> ImageDataset:
    bad = unreadable(images)
    if not bad:
        return images
    if len(bad) == len(images):
        raise BadData(f"none of the {len(images)} images of {split} can be read: {bad[0]}")
    notes.append(f"{split}: left out {len(bad)} of {len(images)} images that cannot be read: {listed(bad.values())}")
    return Subset(images, np.setdiff1d(np.arange(len(images)), list(bad)))
