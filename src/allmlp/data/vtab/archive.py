"""All tasks as folders of pictures and lists, as many projects pass VTAB-1k on (NOAH's `vtab-1k`).

`vtab-1k/NAME/train800.txt`, `val200.txt` and `test.txt` in the data folder, a line for each image: its path from there
and the number of its class. They hold the benchmark's own images, written out through TensorFlow Datasets; what the
numbers mean they don't say, so the classes are called by them.
"""

from pathlib import Path, PurePosixPath

import numpy as np

from allmlp.data.imagefolder import FolderImages
from allmlp.data.vtab.files import is_number, read_text
from allmlp.errors import BadData, printable

FOLDER = "vtab-1k"
NAMES = {
    "caltech101": "caltech101", "cifar100": "cifar", "dtd": "dtd", "flowers102": "oxford_flowers102",
    "pets": "oxford_iiit_pet", "sun397": "sun397", "svhn": "svhn", "camelyon": "patch_camelyon", "eurosat": "eurosat",
    "resisc45": "resisc45", "retinopathy": "diabetic_retinopathy", "clevr-count": "clevr_count",
    "clevr-distance": "clevr_dist", "dmlab": "dmlab", "kitti-distance": "kitti", "dsprites-location": "dsprites_loc",
    "dsprites-orientation": "dsprites_ori", "smallnorb-azimuth": "smallnorb_azi",
    "smallnorb-elevation": "smallnorb_ele",
}  # fmt: skip
LISTS = {"train": "train800.txt", "val": "val200.txt", "test": "test.txt"}


def archive_of(task: str, root: Path) -> Path | None:
    """The folder of a task, if it is there."""
    folder = root / FOLDER / NAMES[task]
    return folder if (folder / LISTS["train"]).is_file() else None


def open_archive(folder: Path, num_classes: int) -> dict[str, FolderImages]:
    """The three splits. Raises `BadData`, naming list and line."""
    return {split: _listed(folder, folder / name, num_classes) for split, name in LISTS.items()}


def _listed(folder: Path, path: Path, num_classes: int) -> FolderImages:
    files: list[str] = []
    labels: list[int] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        name, _, label = line.strip().rpartition(" ")
        if not line.strip():
            continue
        if not name or not is_number(label, num_classes):
            raise BadData(f"{path}: line {number} is {printable(line, 60)!r}, expected a file and a class from 0 to "
                          f"{num_classes - 1}")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise BadData(f"{path}: line {number}: {printable(name, 60)!r} leads out of the folder")
        files.append(name)
        labels.append(int(label))
    if not files:
        raise BadData(f"{path}: no images in it")
    return FolderImages(folder, tuple(files), np.array(labels, np.int64), tuple(map(str, range(num_classes))))
