"""ImageNet as it is distributed, with its classes in words.

`imagenet:FOLDER`, the 1,000 classes of ILSVRC 2012. Its training part is one of
- `ILSVRC2012_img_train.tar`, a tar of 1,000 tars, which is read in place: nothing needs unpacking;
- a folder `train/` (or Kaggle's `Data/CLS-LOC/train/`) with the tars or with folders, called `n01440764`;
and its validation part, if it is there, one of
- `ILSVRC2012_img_val.tar`, or a folder `val/` with the images directly in it; which of them is what then says
  `ILSVRC2012_devkit_t12.tar.gz`, that folder unpacked, or Kaggle's `LOC_val_solution.csv`;
- a folder `val/` with the images in folders `n01440764`.

`imagenet21k:PATH`, the larger sets (winter 2021, fall 2011): a tar of tars, or a folder of tars or of folders, all
called by synset; with `train/` and `val/` in it or not. Its classes are the synsets that have images, sorted.

Words: `weights.labels`, which are those of the published weights.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from allmlp.data.assemble import Choices, Keyed, assemble
from allmlp.data.dataset import Data
from allmlp.data.faults import counted, listed
from allmlp.data.imagefolder import FolderImages
from allmlp.data.imagenet_truth import VAL_IMAGE, validation_truth
from allmlp.data.index import Index, index_of, kept_index
from allmlp.data.packed import PackedImages
from allmlp.data.tar import members
from allmlp.data.tree import LITTER, is_image
from allmlp.data.webdataset import packed
from allmlp.errors import BadData
from allmlp.weights.labels import SYNSET, synsets, words

TRAIN_TARS = ("ILSVRC2012_img_train.tar",)
VAL_TAR = "ILSVRC2012_img_val.tar"
KAGGLE_IMAGES = "Data/CLS-LOC"
NUM_CLASSES = 1000


@dataclass(frozen=True)
class Found:
    """The images of one split before their classes are numbered for all splits: `images.labels` count in `known`, the
    synsets that this split has."""

    images: FolderImages | PackedImages
    known: tuple[str, ...]

    def with_labels(self, numbers: Mapping[str, int], classes: tuple[str, ...], where: Path) -> Keyed:
        if strange := [synset for synset in self.known if synset not in numbers]:
            raise BadData(f"{where}: {listed(strange)} {'is none' if len(strange) == 1 else 'are none'} of the "
                          f"{len(numbers):,} classes; for other classes give the folder itself, without 'imagenet:'")
        moved = np.array([numbers[synset] for synset in self.known], np.int64)
        images, labels = self.images, moved[self.images.labels]
        if isinstance(images, FolderImages):
            return FolderImages(images.root, images.files, labels, classes)
        return PackedImages(images.files, images.places, labels, classes, images.names)


def open_imagenet(where: str, choices: Choices) -> Data:
    """ILSVRC 2012 in a folder. Raises `BadData`, one line, for what is not there or not as it is distributed."""
    root = _folder(where)
    notes: list[str] = []
    train = _first(root, (*TRAIN_TARS, "train", f"{KAGGLE_IMAGES}/train"))
    val = _first(root, (VAL_TAR, "val", "validation", f"{KAGGLE_IMAGES}/val"))
    if train is None:
        raise BadData(f"{root}: neither {TRAIN_TARS[0]} nor train/ is in it; image-net.org has them, for those who "
                      "register")
    numbers = {synset: number for number, synset in enumerate(synsets("imagenet-1k"))}
    found = {"train": _by_synset(train, notes, choices)}
    if val is not None:
        in_folders = val.is_dir() and any(SYNSET.match(path.name) for path in val.iterdir())
        found["val"] = _by_synset(val, notes, choices) if in_folders else _validation(root, val, notes, choices)
    classes = words("imagenet-1k")
    splits = {split: one.with_labels(numbers, classes, root) for split, one in found.items()}
    if missing := NUM_CLASSES - len(found["train"].known):
        notes.append(f"{counted(missing, 'class', 'classes')} of {NUM_CLASSES:,} without training images")
    return assemble(f"imagenet:{where}", splits, notes, choices)


def open_imagenet21k(where: str, choices: Choices) -> Data:
    """A larger ImageNet. Raises `BadData`."""
    root = Path(where).expanduser()
    if not root.exists():
        raise BadData(f"{root}: no such file or folder")
    notes: list[str] = []
    parts = {"train": root}
    if root.is_dir() and (root / "train").is_dir():
        parts = {split: root / split for split in ("train", "val") if (root / split).is_dir()}
    found = {split: _by_synset(path, notes, choices) for split, path in parts.items()}
    known = sorted({synset for one in found.values() for synset in one.known})
    numbers = {synset: number for number, synset in enumerate(known)}
    called = dict(zip(synsets("imagenet-21k"), words("imagenet-21k"), strict=True))
    classes = tuple(called.get(synset, synset) for synset in known)
    splits = {split: one.with_labels(numbers, classes, root) for split, one in found.items()}
    return assemble(f"imagenet21k:{where}", splits, notes, choices)


def _folder(where: str) -> Path:
    root = Path(where).expanduser()
    if not root.is_dir():
        raise BadData(f"{root}: no such folder; give the one that holds {TRAIN_TARS[0]} or train/")
    return root


def _first(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).exists()), None)


# --- images by synset ------------------------------------------------------------------------------------------------


def _by_synset(path: Path, notes: list[str], choices: Choices) -> Found:
    """A tar of tars, a folder of tars, or a folder of folders, called by synset."""
    if path.is_file():
        files = {str(path): kept_index(path, "tar of tars", lambda: _scan_nested(path))}
    else:
        tars = sorted(one for one in path.glob("n*.tar") if SYNSET.fullmatch(one.stem))
        if not tars:
            return synset_folders(path)
        files = {str(tar): kept_index(tar, "tar", lambda tar=tar: _scan_one(tar)) for tar in tars}
    _check(files, notes, choices)
    known = tuple(sorted({label for index in files.values() for label in index.labels}))
    number = {synset: k for k, synset in enumerate(known)}
    labels = np.array([number[label] for index in files.values() for label in index.labels], np.int64)
    return Found(packed(list(files), list(files.values()), labels, known), known)


def _check(files: Mapping[str, Index], notes: list[str], choices: Choices) -> None:
    for file, index in files.items():
        wrong = [*([index.damage] if index.damage else []), *index.remarks]
        if index.damage and not choices.skip_bad:
            raise BadData(f"{index.damage}; --skip-bad goes on without")
        if wrong:
            notes.append(f"{file}: left out: {listed(wrong)}")
        if not len(index):
            raise BadData(f"{file}: no images in it; expected a tar of tars called n01440764.tar, or such a tar")


def _scan_nested(path: Path) -> Index:
    rows: list[tuple[int, int, str, str]] = []
    remarks: list[str] = []
    damage = ""
    with open(path, "rb") as file:
        try:
            for outer in members(file, str(path)):
                synset = outer.name.rpartition("/")[2].removesuffix(".tar")
                if outer.unusable or not outer.name.endswith(".tar") or not SYNSET.fullmatch(synset):
                    remarks.append(f"{outer.name} ({outer.unusable or 'no tar of a synset'})")
                    continue
                where = f"{path}/{synset}.tar"
                try:
                    rows += _images(members(file, where, outer.offset, outer.size), synset, remarks)
                except BadData as error:  # of this class; the others may be whole
                    damage = damage or str(error)
        except BadData as error:
            damage = damage or str(error)
    return index_of(rows, remarks, damage)


def _scan_one(path: Path) -> Index:
    rows: list[tuple[int, int, str, str]] = []
    remarks: list[str] = []
    damage = ""
    with open(path, "rb") as file:
        try:
            for row in _images(members(file, str(path)), path.stem, remarks):
                rows.append(row)
        except BadData as error:
            damage = str(error)
    return index_of(rows, remarks, damage)


def _images(found: Iterable, label: str, remarks: list[str]) -> Iterable[tuple[int, int, str, str]]:
    for member in found:
        if member.unusable or not member.size or not is_image(member.name):
            remarks.append(f"{member.name} ({member.unusable or 'no image'})")
        else:
            yield member.offset, member.size, member.name, label


def synset_folders(root: Path) -> Found:
    """Folders called by synset; whatever else lies there is left alone, as are the boxes of the detection task."""
    files: list[str] = []
    labels: list[int] = []
    known: list[str] = []
    for folder in sorted(path for path in root.iterdir() if SYNSET.fullmatch(path.name) and path.is_dir()):
        own = sorted(path.name for path in folder.iterdir() if is_image(path.name) and path.name[0] != ".")
        if own:
            files += [f"{folder.name}/{name}" for name in own]
            labels += [len(known)] * len(own)
            known.append(folder.name)
    if not files:
        raise BadData(f"{root}: no folders with images in it that are called like n01440764")
    return Found(FolderImages(root, tuple(files), np.array(labels, np.int64), tuple(known)), tuple(known))


# --- the validation images, whose classes stand elsewhere ------------------------------------------------------------


def _validation(root: Path, val: Path, notes: list[str], choices: Choices) -> Found:
    truth = validation_truth(root)
    if val.is_file():
        index = kept_index(val, "tar", lambda: _scan_one(val))
        _check({str(val): index}, notes, choices)
        images = packed([str(val)], [index], np.zeros(len(index), np.int64), ())
        names = list(index.names)
    else:
        names = sorted(path.name for path in val.iterdir() if is_image(path.name) and path.name.lower() not in LITTER)
        images = FolderImages(val, tuple(names), np.zeros(len(names), np.int64), ())
    said = [truth.get(int(found[1])) if (found := VAL_IMAGE.search(name)) else None for name in names]
    if None in said or not said:
        what = names[said.index(None)] if said else "no image"
        raise BadData(f"{val}: {what}: expected ILSVRC2012_val_00000001.JPEG and so on, up to the {len(truth):,} whose "
                      "classes are given")
    known = tuple(sorted({synset for synset in said if synset is not None}))
    labels = np.array([known.index(synset) for synset in said if synset is not None], np.int64)
    if isinstance(images, FolderImages):
        return Found(FolderImages(val, tuple(names), labels, known), known)
    return Found(PackedImages(images.files, images.places, labels, known, images.names), known)
