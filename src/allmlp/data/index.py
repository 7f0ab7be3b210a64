"""An index of the images in a large file, built once and kept: where each lies, its name and its label.

It is kept in the cache folder under the file's path, size and time of change; when one of them differs, or the index
cannot be read, it is built again.
"""

import contextlib
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from allmlp.data.remote import cache_folder
from allmlp.data.texts import Texts
from allmlp.errors import BadData, CannotWrite
from allmlp.files import write_atomically

MAX_INDEX_BYTES = 1 << 28  # of one that is not ours, decompressed; an index of 10,000 images has about 1 MB
VERSION = 1  # of what an index means; another number makes old ones be built anew


@dataclass(frozen=True, eq=False)
class Index:
    """Of N images: `offsets` and `sizes` int64 `(N,)` in bytes, their `names`, and their `labels` as whoever made the
    index writes them. `remarks`: what was passed over. `damage`: why the file ends early, or ""."""

    offsets: np.ndarray
    sizes: np.ndarray
    names: Texts
    labels: Texts
    remarks: tuple[str, ...] = ()
    damage: str = ""

    def __len__(self) -> int:
        return len(self.offsets)


def index_of(rows: Sequence[tuple[int, int, str, str]], remarks: Sequence[str] = (), damage: str = "") -> Index:
    """From rows of (offset, size, name, label)."""
    numbers = np.array([row[:2] for row in rows], np.int64).reshape(-1, 2)
    return Index(numbers[:, 0].copy(), numbers[:, 1].copy(), Texts.of(row[2] for row in rows),
                 Texts.of(row[3] for row in rows), tuple(remarks), damage)


def kept_index(path: Path, kind: str, build: Callable[[], Index], identity: str = "") -> Index:
    """The index of `path` that an earlier call kept, else what `build` gives. `kind`: what sort of index.
    `identity`: what tells versions of the file apart, by default its place, size and time."""
    try:
        status = path.stat()
    except OSError as error:
        raise BadData(f"{path}: cannot be read: {error.strerror or error}") from None
    identity = identity or f"{path.resolve()}\n{status.st_size}\n{status.st_mtime_ns}"
    name = hashlib.sha256(f"{VERSION}\n{kind}\n{identity}".encode(errors="surrogateescape")).hexdigest()[:32]
    kept = cache_folder() / "index" / f"{name}.npz"
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError):
        return _load(kept)
    index = build()
    with contextlib.suppress(CannotWrite):  # a cache that cannot be written costs time at the next call, nothing else
        save_index(index, kept)
    return index


def save_index(index: Index, path: str | os.PathLike) -> None:
    said = np.frombuffer(json.dumps([index.damage, *index.remarks]).encode(), np.uint8)

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, offsets=index.offsets, sizes=index.sizes, said=said,
                                names=index.names.content, name_ends=index.names.ends,
                                labels=index.labels.content, label_ends=index.labels.ends)

    write_atomically(path, write)


def read_index(content: bytes, where: str) -> Index:
    """An index that someone else wrote. Raises `BadData` for anything that is none, however it came to be so."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:  # what it says of its sizes, numpy and zipfile hold it to
            if sum(entry.file_size for entry in archive.infolist()) > MAX_INDEX_BYTES:
                raise BadData("too large")
        index = _load(io.BytesIO(content))
        numbers = (index.offsets, index.sizes, index.names.ends, index.labels.ends)
        shape = (len(index.offsets),)
        if any(one.dtype != np.int64 or one.shape != shape or one.min(initial=0) < 0 for one in numbers):
            raise BadData("numbers that make no sense")
        for texts in (index.names, index.labels):
            if texts.content.dtype != np.uint8 or texts.content.ndim != 1 or not _in_order(texts):
                raise BadData("texts that make no sense")
            for text in texts:
                if not text.isprintable():
                    raise BadData("names that make no sense")
    except Exception as error:  # a file made to break its reader may raise anything at all
        said = str(error)[:80] if isinstance(error, BadData) else type(error).__name__
        raise BadData(f"{where}: not an index of a shard ({said})") from None
    return index


def _in_order(texts: Texts) -> bool:
    ends = np.concatenate([[0], texts.ends])
    return bool((np.diff(ends) >= 0).all()) and int(ends[-1]) == len(texts.content)


def _load(path: Path | BinaryIO) -> Index:
    with np.load(path, allow_pickle=False) as found:
        damage, *remarks = json.loads(found["said"].tobytes())
        return Index(found["offsets"], found["sizes"], Texts(found["names"], found["name_ends"]),
                     Texts(found["labels"], found["label_ends"]), tuple(remarks), damage)
