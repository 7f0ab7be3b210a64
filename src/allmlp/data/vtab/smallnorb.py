"""SmallNORB: from which side (18 azimuths) and from how high (9 elevations) a toy was photographed.

`smallnorb-5x46789x9x18x6x2x96x96-training-{dat,info}.mat` and `smallnorb-5x01235x9x18x6x2x96x96-testing-…`, as they
are or still `.gz`, in `smallnorb/` or beside the other sets. A file is a 32-bit magic number that says the type (bytes
or 32-bit integers), the number of axes, their lengths (at least three numbers), and the values, all little-endian.
`dat` is (N, 2, 96, 96), of which the first camera is used; `info` (N, 4) is instance, elevation 0 to 8, azimuth 0, 2,
… 34, lighting. Half of the test images validate (task_adaptation, data/smallnorb.py).
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from allmlp.data.assemble import Choices
from allmlp.data.vtab.files import found
from allmlp.data.vtab.pool import Pool
from allmlp.data.vtab.stored import GreyImages, Readable, kept_rows
from allmlp.errors import BadData

ORIGIN = "cs.nyu.edu/~ylclab/data/norb-v1.0-small"
NAMES = {"train": "smallnorb-5x46789x9x18x6x2x96x96-training", "test": "smallnorb-5x01235x9x18x6x2x96x96-testing"}
BYTES, INTEGERS = 0x1E3D4C55, 0x1E3D4C54  # magic numbers
MOST_AXES, MOST_IMAGES = 8, 24_300
SIDE = 96
CLASSES = {"elevation": tuple(f"{30 + 5 * number} degrees" for number in range(9)),
           "azimuth": tuple(f"{20 * number} degrees" for number in range(18))}


def pools(choices: Choices, which: str) -> dict[str, Pool]:
    return {split: _pool(choices.data_dir, start, which) for split, start in NAMES.items()}


def _pool(root: Path, start: str, which: str) -> Pool:
    dat, info = (found(root, [f"{folder}{start}-{kind}.mat{end}" for folder in ("smallnorb/", "")
                              for end in ("", ".gz")], ORIGIN) for kind in ("dat", "info"))
    with opened(info, INTEGERS) as (file, shape):
        if len(shape) != 2 or shape[0] > MOST_IMAGES or shape[1] != 4:
            raise BadData(f"{info}: shape {shape}, expected (at most {MOST_IMAGES}, 4)")
        content = file.read(math.prod(shape) * 4)
        if len(content) < math.prod(shape) * 4:
            raise BadData(f"{info}: truncated; get it again from {ORIGIN}")
        values = np.frombuffer(content, "<i4").reshape(shape)
    classes = CLASSES[which]
    labels = (values[:, 1] if which == "elevation" else values[:, 2] // 2).astype(np.int64)
    if not np.isin(labels, range(len(classes))).all():
        raise BadData(f"{info}: an {which} from {labels.min()} to {labels.max()}, expected 0 to {len(classes) - 1}")
    return Pool(labels, classes, [str(index) for index in range(len(labels))],
                lambda parts: _images(dat, labels, classes, parts))


def _images(dat: Path, labels: np.ndarray, classes: tuple[str, ...], parts: Sequence[np.ndarray]) -> list[GreyImages]:
    wanted = np.concatenate([np.empty(0, np.int64), *parts])
    with opened(dat, BYTES) as (file, shape):
        if shape != (len(labels), 2, SIDE, SIDE):
            raise BadData(f"{dat}: shape {shape}, expected ({len(labels)}, 2, {SIDE}, {SIDE})")
        rows = kept_rows(file, 2 * SIDE * SIDE, wanted, str(dat), lambda rows: rows[:, : SIDE * SIDE])
    ends = np.cumsum([len(part) for part in parts])
    names = dat.name.partition(".")[0]
    return [GreyImages(own, labels[part], classes, [f"{names}/{index}" for index in part.tolist()], (SIDE, SIDE))
            for own, part in zip(np.split(rows, ends[:-1]), parts, strict=True)]


@contextmanager
def opened(path: Path, magic: int) -> Iterator[tuple[Readable, tuple[int, ...]]]:
    """The file at the first of its values, and their shape. Raises `BadData`, also for damage found while reading."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            start = file.read(8)
            kind, axes = struct.unpack("<II", start) if len(start) == 8 else (0, 0)
            if kind != magic or not 1 <= axes <= MOST_AXES:
                raise BadData(f"{path}: no SmallNORB file of this kind; get it again from {ORIGIN}")
            lengths = file.read(4 * max(axes, 3))
            if len(lengths) < 4 * max(axes, 3):
                raise BadData(f"{path}: truncated; get it again from {ORIGIN}")
            yield file, struct.unpack(f"<{len(lengths) // 4}I", lengths)[:axes]
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"{path}: cannot be read ({str(error)[:80]}); get it again from {ORIGIN}") from None
