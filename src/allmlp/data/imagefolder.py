"""A folder of images as a data set. `tree.py` says what lies in it, `faults.py` what is wrong with it.

With split folders (`train/`, `val/`, `test/`) these are the splits. Of one tree, or of a folder with `train/` alone, a
validation part is drawn; what was drawn stands in `Data.split_files` and can be given back to get exactly that again.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from allmlp.data.dataset import Data
from allmlp.data.examine import examine_all
from allmlp.data.faults import counted, faults, listed, remarks
from allmlp.data.hold_out import hold_out, restore
from allmlp.data.image import open_image
from allmlp.data.tree import Part, Tree, scan
from allmlp.errors import BadData, BadImage, BadSetting


@dataclass(frozen=True, eq=False)
class FolderImages:
    """The images of one split. `files` are relative to `root`, with "/". `bad` are files that were left out, with the
    reason. Images are opened when they are asked for."""

    root: Path
    files: tuple[str, ...] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    bad: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> np.ndarray:
        return open_image(self.root / self.files[index])

    def name(self, index: int) -> str:
        return str(self.root / self.files[index])

    def key(self, index: int) -> str:
        return self.files[index]

    def encoded(self, index: int) -> bytes:
        try:
            return (self.root / self.files[index]).read_bytes()
        except OSError as error:
            raise BadImage(f"{self.name(index)}: cannot be read: {error.strerror or error}") from None


def open_folder(
    folder: str | os.PathLike,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    skip_bad: bool = False,
    split_files: Mapping[str, Sequence[str]] | None = None,
) -> Data:
    """The data set in a folder; labels are known without opening an image.

    `val_fraction` (0: none) and `seed` say what is held out where no split folders say it: see `draw_validation`.
    `split_files`, as in `Data.split_files`, restores an earlier split instead. `skip_bad` opens every image once and
    leaves out what cannot be read, with a note; otherwise a bad file raises when it is asked for. What is held out
    does not depend on `skip_bad`.

    Raises `BadData`, one line, for a folder that cannot be used, and `BadSetting` for a fraction outside [0, 1).
    """
    if not 0 <= val_fraction < 1:
        raise BadSetting(f"val_fraction {val_fraction}: accepted are 0 (nothing held out) up to, not including, 1")
    tree = scan(folder)
    if wrong := faults(tree):
        more = f" ({len(wrong) - 1} more: `allmlp data check` lists them)" if len(wrong) > 1 else ""
        raise BadData(wrong[0] + more)
    classes = class_names(tree)
    notes = remarks(tree)
    splits = {part.split or "train": _images(tree.root, part, classes) for part in tree.parts}
    drawn = set(splits) == {"train"}
    if split_files is not None:
        if not drawn:
            raise BadData(f"{tree.root}: it has split folders, so no other split can be restored in it")
        train = splits["train"]
        splits, left_over = restore(str(tree.root), train, train.files, _chosen, split_files)
        if left_over:
            many = counted(len(left_over), "image")
            notes.append(f"{many} not in the recorded split and not used: {listed(left_over)}")
    elif drawn and val_fraction > 0:
        train = splits["train"]
        splits, note = hold_out(train, train.files, _chosen, val_fraction, seed)
        notes += note
    notes += _unlearnable(splits, tree.multi_label)
    chosen = {split: images.files for split, images in splits.items()} if drawn else None
    if skip_bad:
        splits, note = _without_bad(splits)
        notes += note
    return Data(str(folder), classes, splits, tuple(notes), chosen)


def class_names(tree: Tree) -> tuple[str, ...]:
    """The classes in the order of their numbers: of all splits, sorted as strings."""
    if tree.multi_label:
        files = [part.label_file for part in tree.parts if part.label_file is not None]
        return tuple(sorted({label for file in files for labels in file.labels.values() for label in labels}))
    return tuple(sorted({name for part in tree.parts for name in part.classes}))


def _images(root: Path, part: Part, classes: tuple[str, ...]) -> FolderImages:
    number = {name: index for index, name in enumerate(classes)}
    files = tuple(part.images())
    if part.label_file is None:
        labels = np.array([number[name] for name, own in part.classes.items() for _ in own], dtype=np.int64)
    else:
        shares = part.label_file.shares
        labels = np.zeros((len(files), len(classes)), dtype=np.uint8 if shares is None else np.float32)
        for row, (file, names) in zip(labels, part.label_file.labels.items(), strict=True):
            row[[number[name] for name in names]] = 1 if shares is None else shares[file]
    return FolderImages(root, files, labels, classes)


def _chosen(images: FolderImages, indices: np.ndarray, bad: Mapping[str, str] | None = None) -> FolderImages:
    files = tuple(images.files[index] for index in indices)
    return FolderImages(images.root, files, images.labels[indices], images.classes, bad or {})


def _unlearnable(splits: Mapping[str, FolderImages], multi_label: bool) -> list[str]:
    """Labels that no training image has; the folders of single-label classes have been checked before."""
    if not multi_label or "train" not in splits:
        return []
    train = splits["train"]
    absent = [train.classes[k] for k in np.flatnonzero(train.labels.sum(0) == 0)]
    return [f"no training image has the label {listed(absent)}"] if absent else []


def _without_bad(splits: Mapping[str, FolderImages]) -> tuple[dict[str, FolderImages], list[str]]:
    """The splits without the files that cannot be read. Raises `BadData` where no training image of a class is left."""
    kept: dict[str, FolderImages] = {}
    notes: list[str] = []
    for split, images in splits.items():
        bad = {image.file: image.bad for image in examine_all(images.root, images.files) if image.bad}
        good = np.array([index for index, file in enumerate(images.files) if file not in bad], dtype=np.int64)
        kept[split] = _chosen(images, good, bad)
        if bad:
            named = listed(f"{file} ({why})" for file, why in bad.items())
            notes.append(f"{split}: left out {len(bad)} of {len(images)} images that cannot be read: {named}")
        if split == "train" and images.labels.ndim == 1:
            lost = [images.classes[k] for k in np.setdiff1d(images.labels, kept[split].labels)]
            if lost:
                raise BadData(f"{images.root}: no readable training image is left of {listed(lost)}")
        if not len(kept[split]) and len(images):
            raise BadData(f"{images.root}: none of the {len(images)} images of {split} can be read")
    return kept, notes
