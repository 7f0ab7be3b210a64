"""dSprites: where a white shape on black lies from left to right, and how it is turned, each in 16 classes.

`dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz`, 737,280 images of 64 x 64. The file has pickled metadata, which is
never opened; the images would take 3 GB at once and are read in one pass (some ten seconds), a bit each for those
that are wanted. Of 32 places and 40 angles the label is the number times 16 / 32 and 16 / 40, rounded down
(task_adaptation, data/dsprites.py).
"""

import math
import zipfile
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

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
ORIGIN = "github.com/google-deepmind/dsprites-dataset"
SIDE = 64
MOST_IMAGES = 737_280
NUM_LATENTS = 6  # colour, shape, scale, orientation, x, y
NUM_CLASSES = 16
COLUMN = {"orientation": (3, 40), "location": (4, 32)}  # of latents_classes, and how many values it has


def pools(choices: Choices, which: str) -> dict[str, Pool]:
    path = found(choices.data_dir, (FILE, f"dsprites/{FILE}"), ORIGIN)
    column, num_values = COLUMN[which]
    with opened(path, "latents_classes", np.int64) as (file, shape):
        if len(shape) != 2 or not 0 < shape[0] <= MOST_IMAGES or shape[1] != NUM_LATENTS:
            raise BadData(f"{path}: labels {shape}, expected (at most {MOST_IMAGES}, {NUM_LATENTS})")
        content = file.read(8 * math.prod(shape))
        if len(content) < 8 * math.prod(shape):
            raise BadData(f"{path}: its labels are truncated; get it again from {ORIGIN}")
    values = np.frombuffer(content, "<i8").reshape(shape)[:, column]
    if not 0 <= values.min() <= values.max() < num_values:
        raise BadData(f"{path}: an {which} from {values.min()} to {values.max()}, expected 0 to {num_values - 1}")
    labels = values.astype(np.int64) * NUM_CLASSES // num_values
    classes = tuple(f"{which} {number + 1} of {NUM_CLASSES}" for number in range(NUM_CLASSES))
    keys = [str(index) for index in range(len(labels))]
    return {"train": Pool(labels, classes, keys, lambda parts: _images(path, labels, classes, parts))}


def _images(path: Path, labels: np.ndarray, classes: tuple[str, ...], parts: Sequence[np.ndarray]
            ) -> list[GreyImages]:
    wanted = np.concatenate([np.empty(0, np.int64), *parts])
    with opened(path, "imgs", np.uint8) as (file, shape):
        if shape != (len(labels), SIDE, SIDE):
            raise BadData(f"{path}: images {shape}, expected ({len(labels)}, {SIDE}, {SIDE})")
        rows = kept_rows(file, SIDE * SIDE, wanted, str(path), lambda rows: np.packbits(rows, axis=1))
    ends = np.cumsum([len(part) for part in parts])
    return [GreyImages(own, labels[part], classes, [f"dsprites/{index}" for index in part.tolist()], (SIDE, SIDE))
            for own, part in zip(np.split(rows, ends[:-1]), parts, strict=True)]


@contextmanager
def opened(path: Path, array: str, dtype: type) -> Iterator[tuple[Readable, tuple[int, ...]]]:
    """An array of the file at the first of its values, and its shape; nothing is allocated by what the file says.
    Raises `BadData`, also for damage found while reading."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{array}.npy") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, columns_first, found_dtype = header(file)
            if found_dtype != dtype or columns_first:
                raise BadData(f"{path}: {array} of {found_dtype}, expected {np.dtype(dtype)}")
            yield file, shape
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadData(f"{path}: not dSprites ({type(error).__name__}: {str(error)[:80]}); get it again from "
                      f"{ORIGIN}") from None
