"""The tasks on sets that have one label an image: those that torchvision knows (`torchvision_sets.py`), and folders.

Their labels are the sets' own. What TFDS calls each image follows from its file or its number. Where TFDS parts a set
by something that cannot be had, the draw is ours, by the same MD5, and the benchmark's own is UNVERIFIED here:

- Caltech-101: 30 images of each class for training, chosen by numpy's generator in the order in which one machine
  listed the files. All 102 folders are classes, that of background clutter too (torchvision leaves it out).
- SUN397: 70 / 10 / 20 % by lists that TFDS keeps; with `sun397_tfds_tr.txt`, `…_va.txt` and `…_te.txt` in the folder
  these are used. TFDS made the images smaller, to 120,000 pixels, and saved them as JPEG (72); here they are whole.
"""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from allmlp.data.assemble import Choices, Keyed
from allmlp.data.dataset import Subset
from allmlp.data.torchvision_sets import SETS, open_torchvision
from allmlp.data.vtab.files import class_folders, found, read_text
from allmlp.data.vtab.pool import Pool, pool_of, published_order
from allmlp.errors import BadData

Open = Callable[[Choices], dict[str, Pool]]
CALTECH_PER_CLASS = 30
SUN_LISTS = {"train": "sun397_tfds_tr.txt", "validation": "sun397_tfds_va.txt", "test": "sun397_tfds_te.txt"}
SUN_PERCENT = {"train": (0, 70), "validation": (70, 80), "test": (80, 100)}


def torchvision_pools(name: str, key: Callable[[str], str]) -> Open:
    """A set of torchvision's, whose images TFDS calls what `key` makes of their names here."""
    def open_pools(choices: Choices) -> dict[str, Pool]:
        splits = _splits(name, choices)
        return {"validation" if split == "val" else split: pool_of(images, _keys(images, key))
                for split, images in splits.items()}

    return open_pools


def last(key: str) -> str:
    """The name of a file, or the number of an image in an array."""
    return PurePosixPath(key).name


def last_two(key: str) -> str:
    return "/".join(key.split("/")[-2:])


def class_and_file(key: str) -> str:
    return "_".join(key.split("/")[-2:])


def camelyon(key: str) -> str:
    """Of "camelyonpatch_level_2_split_valid_x.h5/3", "valid_3"."""
    file, _, number = key.rpartition("/")
    return f"{file.split('_')[-2]}_{number}"


def caltech(choices: Choices) -> dict[str, Pool]:
    folder = Path(SETS["caltech101"].folder)
    if choices.download or not (choices.data_dir / folder).is_dir():
        _splits("caltech101", choices)
    images = class_folders(choices.data_dir, choices.data_dir / folder)
    keys = _keys(images, last_two)
    order = published_order("train", keys)
    training = np.zeros(len(keys), bool)
    for label in range(len(images.classes)):
        training[order[images.labels[order] == label][:CALTECH_PER_CLASS]] = True
    return {"train": _some(images, keys, training), "test": _some(images, keys, ~training)}


def sun397(choices: Choices) -> dict[str, Pool]:
    images = _splits("sun397", choices)["train"]
    keys = _keys(images, lambda key: key.removeprefix("SUN397"))
    folder = choices.data_dir / SETS["sun397"].folder
    pools = {}
    if all((folder / name).is_file() for name in SUN_LISTS.values()):
        for split, name in SUN_LISTS.items():
            listed = set(read_text(folder / name).split())
            pools[split] = _some(images, keys, np.array([key in listed for key in keys], bool))
        return pools
    order = published_order("train", keys)
    for split, (start, stop) in SUN_PERCENT.items():
        own = np.zeros(len(keys), bool)
        own[order[len(order) * start // 100 : len(order) * stop // 100]] = True
        pools[split] = _some(images, keys, own)
    return pools


def resisc45(choices: Choices) -> dict[str, Pool]:
    folder = found(choices.data_dir, ("NWPU-RESISC45", "resisc45/NWPU-RESISC45", "resisc45"),
                   "www.escience.cn/people/JunweiHan/NWPU-RESISC45.html")
    images = class_folders(choices.data_dir, folder)
    return {"train": pool_of(images, _keys(images, class_and_file))}


def _splits(name: str, choices: Choices) -> dict[str, Keyed]:
    """A set of torchvision's as it is, with nothing held out."""
    plain = Choices(val_fraction=0, data_dir=choices.data_dir, download=choices.download)
    return dict(open_torchvision(name, plain).splits)  # pyright: ignore[reportReturnType]  # whole, so with keys


def _keys(images: Keyed, key: Callable[[str], str]) -> list[str]:
    return [key(images.key(index)) for index in range(len(images))]


def _some(images: Keyed, keys: list[str], wanted: np.ndarray) -> Pool:
    if not wanted.any():
        raise BadData("a part of the set is empty; it is incomplete")
    numbers = np.flatnonzero(wanted)
    return pool_of(Subset(images, numbers), [keys[number] for number in numbers.tolist()])
