"""DMLab: frames of a maze, in six classes: an object is close, far or very far, and good or bad to reach.

`dmlab/dmlab-{train,validation,test}.tfrecord*` as distributed; each Example has `image` (JPEG), `filename` and `label`
0 to 5. What each number means the files don't say. They are read in place: an index of what lies where is made once
(some minutes, as every checksum is looked at) and kept in the cache.
"""

from pathlib import Path

from allmlp.data.assemble import Choices
from allmlp.data.index import Index, index_of, kept_index
from allmlp.data.packed import MAX_IMAGE_BYTES
from allmlp.data.vtab.files import found, numbers
from allmlp.data.vtab.pool import Pool, pool_of
from allmlp.data.vtab.tfrecord import features, records
from allmlp.data.webdataset import packed
from allmlp.errors import BadData, printable

ORIGIN = "storage.googleapis.com/dmlab-vtab/dmlab.tar.gz"
CLASSES = tuple(f"class {number}" for number in range(6))


def pools(choices: Choices) -> dict[str, Pool]:
    folder = found(choices.data_dir, ("dmlab",), ORIGIN)
    return {split: _pool(folder, split) for split in ("train", "validation", "test")}


def _pool(folder: Path, split: str) -> Pool:
    files = sorted(folder.glob(f"dmlab-{split}.tfrecord*"))
    if not files:
        raise BadData(f"{folder}: no dmlab-{split}.tfrecord in it; get it again from {ORIGIN}")
    indices = [kept_index(file, "dmlab", lambda file=file: scan(file)) for file in files]
    labels = numbers((label for index in indices for label in index.labels), folder, len(CLASSES))
    images = packed([str(file) for file in files], indices, labels, CLASSES)
    return pool_of(images, [name for index in indices for name in index.names])


def scan(path: Path) -> Index:
    """Where each image lies. Raises `BadData`, naming the record."""
    rows: list[tuple[int, int, str, str]] = []
    with open(path, "rb") as file:
        for start, record in records(file, str(path)):
            where = f"{path}: record {len(rows)}"
            known = features(record, where)
            image, name, label = (known.get(key, []) for key in ("image", "filename", "label"))
            match image, name, label:
                case [(first, last)], [(name_first, name_last)], [int(number)] if last - first <= MAX_IMAGE_BYTES:
                    called = record[name_first:name_last].decode(errors="replace")
                    rows.append((start + first, last - first, printable(called), str(number)))
                case _:
                    raise BadData(f"{where}: expected one image, one filename and one label; it has "
                                  f"{printable(', '.join(sorted(known)), 80) or 'nothing'}")
    return index_of(rows)
