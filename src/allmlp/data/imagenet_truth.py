"""Which class each validation image of ImageNet-1k has: the tars do not say it, the devkit or Kaggle's list does."""

import csv
import gzip
import io
import re
import tarfile
from pathlib import Path

import numpy as np

from allmlp.errors import BadData

DEVKIT, KAGGLE_TRUTH = "ILSVRC2012_devkit_t12", "LOC_val_solution.csv"
VAL_IMAGE = re.compile(r"ILSVRC2012_val_0*(\d{1,8})\.JPEG", re.IGNORECASE)
MAX_TRUTH_BYTES = 1 << 22  # of a file that says the truth; also what a compressed .mat in it may become: a gigabyte
MAX_KIT_BYTES = 1 << 26  # of the whole devkit, unpacked: 6 MB


def validation_truth(root: Path) -> dict[int, str]:
    """The synset of each validation image by its number, from 1. Raises `BadData` if nothing says it."""
    for place in (root, root.parent):
        if (place / KAGGLE_TRUTH).is_file():
            return _kaggle_truth(place / KAGGLE_TRUTH)
    packed_kit, unpacked_kit = root / f"{DEVKIT}.tar.gz", root / DEVKIT
    if packed_kit.is_file() or unpacked_kit.is_dir():
        kit = packed_kit if packed_kit.is_file() else unpacked_kit
        return _devkit_truth(kit)
    raise BadData(f"{root}: nothing says the classes of the validation images; put {DEVKIT}.tar.gz or {KAGGLE_TRUTH} "
                  "there, or the images into folders called like n01440764")


def _kaggle_truth(path: Path) -> dict[int, str]:
    """Lines "ILSVRC2012_val_00000001,n02119789 1 2 3 4" under a header."""
    found = {}
    with open(path, encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file)):
            name = VAL_IMAGE.fullmatch(f"{row[0]}.JPEG") if row else None
            synset = row[1].split()[:1] if len(row) > 1 else []
            if number and (name is None or not synset):
                raise BadData(f"{path}: line {number + 1} is {','.join(row)[:60]!r}, expected an image and its class")
            if name is not None:
                found[int(name[1])] = synset[0]
    return found


def _devkit_truth(kit: Path) -> dict[int, str]:
    """The numbers in the devkit's text file mean classes by a table of their own, `meta.mat`."""
    from scipy.io import loadmat

    text = _from_kit(kit, "data/ILSVRC2012_validation_ground_truth.txt").decode(errors="replace")
    try:
        table = loadmat(io.BytesIO(_from_kit(kit, "data/meta.mat")), squeeze_me=True)["synsets"]
        called = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in np.atleast_1d(table)}
        return {number: called[int(line)] for number, line in enumerate(text.split(), 1)}
    except Exception as error:  # a damaged .mat may raise anything at all
        raise BadData(f"{kit}: cannot be read as the devkit ({type(error).__name__}: {str(error)[:80]})") from None


def _from_kit(kit: Path, name: str) -> bytes:
    """A file of the devkit, unpacked or not; of no more than a bound, packed or not."""
    try:
        if kit.is_dir():
            with open(kit / name, "rb") as file:
                return file.read(MAX_TRUTH_BYTES)
        with gzip.open(kit) as file:
            content = file.read(MAX_KIT_BYTES)
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            member = tar.getmember(f"{DEVKIT}/{name}")
            file = tar.extractfile(member) if member.isreg() and member.size <= MAX_TRUTH_BYTES else None
            if file is not None:
                return file.read()
    except KeyError:
        pass
    except Exception as error:  # a damaged archive may raise anything at all
        raise BadData(f"{kit}: cannot be read ({str(error)[:100] or type(error).__name__})") from None
    raise BadData(f"{kit}: no {DEVKIT}/{name} in it")
