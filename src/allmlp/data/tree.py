"""What lies in a folder of images: splits, classes, files. It looks at names only, opens no image and judges nothing
(`faults.py` does).

Two layouts. Split folders: `train/` and `val/` (or `valid/`, `validation/`) and `test/`, each with a folder per class.
One tree: the class folders directly. A class folder may have folders of its own. The name of a class is the name of
its folder; the order is that of Python strings, as in torchvision. A split folder (or the one tree) that holds a
`labels.csv` has several labels per image instead, or soft ones (`labelcsv.py`).

Hidden things (`.git`, `.ipynb_checkpoints`) and what systems leave behind (`__MACOSX`, `Thumbs.db`) are no classes and
no images. Links are followed, except to a folder that contains the link.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from allmlp.data.image import IMAGE_EXTENSIONS
from allmlp.data.labelcsv import NAME, LabelFile, read_labels
from allmlp.errors import BadData

SPLIT_FOLDERS = {  # in any case
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
EXTENSIONS = tuple(IMAGE_EXTENSIONS)
LITTER = frozenset({"__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information"})


@dataclass(frozen=True)
class Part:
    """One split folder, or the whole of one tree (`split` and `folder` are then ""). Paths are relative to the root
    of the tree, with "/", sorted."""

    split: str
    folder: str
    classes: Mapping[str, tuple[str, ...]]  # the images of each class folder; of none where there is a `label_file`
    stray: tuple[str, ...]  # images in no class folder; or not in the `label_file`
    others: tuple[str, ...]  # files that are no images by their name
    label_file: LabelFile | None = None  # file names relative to the folder of the part

    def images(self) -> list[str]:
        """All usable images, in the order of the data set."""
        if self.label_file is not None:
            return [_join(self.folder, name) for name in self.label_file.labels]
        return [file for files in self.classes.values() for file in files]


@dataclass(frozen=True)
class Tree:
    """A folder as it was found. `parts` in the order train, val, test; one of split "" for one tree."""

    root: Path
    parts: tuple[Part, ...]
    unused: tuple[str, ...]  # what lies beside the split folders: `annotations/`, an image, a `labels.csv`
    hidden: tuple[str, ...]  # hidden things, litter and links that lead upwards
    folders: frozenset[str]  # all folders below the root

    @property
    def one_tree(self) -> bool:
        return self.parts[0].split == ""

    @property
    def multi_label(self) -> bool:
        return any(part.label_file is not None for part in self.parts)


def scan(root: str | os.PathLike) -> Tree:
    """Look through a folder. Raises `BadData` if it is missing, no folder, or may not be read."""
    root = Path(root)
    if not root.exists():
        raise BadData(f"{root}: no such folder")
    if not root.is_dir():
        raise BadData(f"{root}: a file, not a folder; give the folder that holds the images")
    files: list[str] = []
    folders: list[str] = []
    hidden: list[str] = []
    try:
        _walk(root, "", frozenset({_identity(root)}), files, folders, hidden)
    except OSError as error:
        raise BadData(f"{error.filename or root}: cannot be read: {error.strerror or error}") from None
    files.sort()
    top = sorted(folder for folder in folders if "/" not in folder)
    splits = [name for name in top if name.lower() in SPLIT_FOLDERS and _has_classes(name, files, folders)]
    if splits:
        order = list(dict.fromkeys(SPLIT_FOLDERS.values()))
        splits.sort(key=lambda name: (order.index(SPLIT_FOLDERS[name.lower()]), name))
        parts = tuple(_part(root, SPLIT_FOLDERS[name.lower()], name, files, folders) for name in splits)
    else:
        parts = (_part(root, "", "", files, folders),)
    unused = [f"{name}/" for name in top if name not in splits]
    unused += [file for file in files if "/" not in file and (file == NAME or is_image(file))]
    return Tree(root, parts, tuple(unused) if splits else (), tuple(sorted(hidden)), frozenset(folders))


def is_image(name: str) -> bool:
    """Whether a file is taken for an image by its name (`.JPG` as well as `.jpg`)."""
    return name.lower().endswith(EXTENSIONS)


def _walk(
    folder: Path, prefix: str, above: frozenset, files: list[str], folders: list[str], hidden: list[str]
) -> None:
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        path = prefix + entry.name
        if entry.name.startswith(".") or entry.name.lower() in LITTER:
            hidden.append(path)
        elif not _is_folder(entry):
            files.append(path)
        elif (identity := _identity(entry.path)) in above:
            hidden.append(path)
        else:
            folders.append(path)
            _walk(Path(entry.path), f"{path}/", above | {identity}, files, folders, hidden)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself; opening it as an image will say so
        return False


def _identity(folder: str | os.PathLike) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _has_classes(name: str, files: list[str], folders: list[str]) -> bool:
    """A folder called `train` is a split if it has folders or a `labels.csv`; else it may be a class (of vehicles)."""
    return f"{name}/{NAME}" in files or any(folder.startswith(f"{name}/") for folder in folders)


def _part(root: Path, split: str, folder: str, files: list[str], folders: list[str]) -> Part:
    start = f"{folder}/" if folder else ""
    inside = [file for file in files if file.startswith(start)]
    if f"{start}{NAME}" in inside:
        names = [file.removeprefix(start) for file in inside if file != f"{start}{NAME}"]
        label_file = read_labels(root / folder / NAME, set(names))
        left = [start + name for name in names if name not in label_file.labels]
        stray, others = _divide(left)
        return Part(split, folder, {}, stray, others, label_file)
    classes: dict[str, list[str]] = {
        name: [] for name in sorted(path.removeprefix(start) for path in folders if path.startswith(start))
        if "/" not in name
    }  # fmt: skip
    images, others = _divide(inside)
    direct: list[str] = []
    for file in images:
        name, _, rest = file.removeprefix(start).partition("/")
        (classes[name] if rest else direct).append(file)
    return Part(split, folder, {name: tuple(found) for name, found in classes.items()}, tuple(direct), others)


def _divide(files: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Images and others."""
    images: list[str] = []
    others: list[str] = []
    for file in files:
        (images if is_image(file) else others).append(file)
    return tuple(images), tuple(others)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
