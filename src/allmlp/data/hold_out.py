"""Holding out a validation part of a source that has none, and finding the part of an earlier run again."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from allmlp.data.dataset import ImageDataset, soft
from allmlp.data.faults import listed
from allmlp.data.split import draw_validation
from allmlp.errors import BadData

Images = TypeVar("Images", bound=ImageDataset)
Choose = Callable[[Images, np.ndarray], Images]


def hold_out(
    images: Images, keys: Sequence[str], choose: Choose[Images], fraction: float, seed: int
) -> tuple[dict[str, Images], list[str]]:
    """`images` as "train" and "val", with notes. `keys`: what the draw goes by, a name for each image.
    `choose(images, indices)` gives some of them."""
    labels = images.labels.argmax(1) if soft(images.labels) else images.labels
    held_out = draw_validation(keys, labels, fraction, seed)
    if not held_out.any():
        return {"train": images}, ["nothing is held out for validation: no class has two images"]
    splits = {"train": choose(images, np.flatnonzero(~held_out)), "val": choose(images, np.flatnonzero(held_out))}
    how = "at random" if labels.ndim == 2 else "from each class"
    notes = [f"held out for validation: {len(splits['val'])} of {len(images)} images, {how} "
             f"(fraction {fraction:g}, seed {seed})"]
    if labels.ndim == 1:
        counts = np.bincount(labels, minlength=len(images.classes))
        if single := [images.classes[k] for k in np.flatnonzero(counts == 1).tolist()]:
            notes.append(f"only one image, which stays in training: {listed(single)}")
    return splits, notes


def restore(
    where: str, images: Images, keys: Sequence[str], choose: Choose[Images], split_files: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Images], list[str]]:
    """The splits of an earlier run, and the keys that were in none of them. Raises `BadData` where one is not there."""
    index = {key: number for number, key in enumerate(keys)}
    splits: dict[str, Images] = {}
    used: dict[str, str] = {}
    for split, chosen in split_files.items():
        for key in chosen:
            if key not in index:
                raise BadData(f"{where}: the recorded split names {key!r}, which is not there")
            if key in used:
                raise BadData(f"{where}: the recorded split names {key!r} twice ({used[key]} and {split})")
            used[key] = split
        splits[split] = choose(images, np.array([index[key] for key in chosen], dtype=np.int64))
    return splits, [key for key in keys if key not in used]
