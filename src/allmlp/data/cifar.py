"""CIFAR-10 and CIFAR-100, which are distributed as Python pickles: read without running anything.

A pickle may name any function to be called. Here it may name what makes an array, and nothing else; and each file must
have the MD5 that torchvision knows, which finds damage (it is no defence: that is the list of names).
"""

import hashlib
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from allmlp.data.digits import ArrayImages
from allmlp.errors import BadData

ALLOWED = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray"),
           ("numpy", "dtype"), ("_codecs", "encode")}
MAX_BYTES = 1 << 28  # the largest, CIFAR-100's training part, has 155 MB
SIDE = 32


def open_cifar(kind: Any, root: Path) -> dict[str, ArrayImages]:
    """Train and test of `kind`, torchvision's class, which knows the names and sums of the files. Raises `BadData`."""
    folder = root / kind.base_folder
    meta = _read(folder / kind.meta["filename"], kind.meta["md5"])
    classes = tuple(meta.get(kind.meta["key"], ()))
    splits = {}
    for split, files in (("train", kind.train_list), ("test", kind.test_list)):
        parts = [_read(folder / name, md5) for name, md5 in files]
        rows = np.concatenate([np.asarray(part["data"]) for part in parts])
        told = [label for part in parts for label in part.get("labels") or part.get("fine_labels") or ()]
        labels = np.array(told, np.int64)
        sound = rows.dtype == np.uint8 and rows.shape == (len(labels), 3 * SIDE * SIDE)
        if not sound or not np.isin(labels, range(len(classes))).all():
            raise BadData(f"{folder}: its {split} part has {rows.shape} of {rows.dtype} for {len(labels)} labels")
        images = rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        names = [f"{folder.name}/{split}/{index}" for index in range(len(images))]
        splits[split] = ArrayImages(np.ascontiguousarray(images), labels, classes, names)
    return splits


def _read(path: Path, md5: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES)
    except OSError as error:
        raise BadData(f"{path}: cannot be read: {error.strerror or error}") from None
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise BadData(f"{path}: damaged, its MD5 is not {md5}; remove {path.parent} and get it again (--download)")
    return read_arrays(content, str(path))


def read_arrays(content: bytes, name: str) -> dict[str, Any]:
    """A pickled dict of arrays, lists and texts (of Python 2 too, as Latin-1). Raises `BadData` for anything that names
    something else."""
    try:
        with warnings.catch_warnings():  # numpy dislikes how its own old pickles spell a dtype
            warnings.simplefilter("ignore")
            found = _Reader(io.BytesIO(content), encoding="latin1").load()
    except BadData as error:
        raise BadData(f"{name}: {error}") from None
    except Exception as error:  # a damaged pickle may raise anything at all
        raise BadData(f"{name}: not the pickle it should be ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise BadData(f"{name}: a pickle of {type(found).__name__}, expected a dict")
    return found


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise BadData(f"its pickle asks for {module}.{name}, which could run code (nothing was run)")
        return super().find_class(module, name)
