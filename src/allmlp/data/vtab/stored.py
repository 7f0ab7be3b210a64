"""Small grey images out of one large array in a file, of which only those that are wanted are kept in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from allmlp.errors import BadData

BLOCK_BYTES = 1 << 22  # read at a time


class Readable(Protocol):
    """A file, packed or not."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, eq=False)
class GreyImages:
    """`rows` uint8: grey values `(N, H * W)`; or, of images that are black and white, a bit each, `(N, H * W / 8)`."""

    rows: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    names: Sequence[str] = field(repr=False)
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        row, pixels = self.rows[index], self.size[0] * self.size[1]
        grey = row if len(row) == pixels else np.unpackbits(row) * np.uint8(255)
        return np.repeat(grey.reshape(*self.size, 1), 3, axis=2)

    def name(self, index: int) -> str:
        return self.names[index]

    key = name


def kept_rows(file: Readable, row_bytes: int, wanted: np.ndarray, where: str,
              keep: Callable[[np.ndarray], np.ndarray] = lambda rows: rows) -> np.ndarray:
    """Of an array that `file` holds from here on, row by row of `row_bytes` bytes: the rows `wanted` int64 `(N,)`, in
    that order, after `keep` has made uint8 `(n, row_bytes)` narrower. Read once, from the front, to the last wanted.
    Raises `BadData` where the file ends before."""
    order = np.argsort(wanted, kind="stable")
    ascending = wanted[order]
    kept: np.ndarray = np.empty((0, 0), np.uint8)
    block, start = max(BLOCK_BYTES // row_bytes, 1), 0
    while start <= (ascending[-1] if len(ascending) else -1):
        stop = min(start + block, int(ascending[-1]) + 1)
        content = file.read((stop - start) * row_bytes)
        if len(content) < (stop - start) * row_bytes:
            raise BadData(f"{where}: truncated in row {start + len(content) // row_bytes}; get it again")
        low, high = np.searchsorted(ascending, (start, stop))
        rows = np.frombuffer(content, np.uint8).reshape(-1, row_bytes)[ascending[low:high] - start]
        narrow = keep(rows)
        if not kept.size:
            kept = np.empty((len(wanted), narrow.shape[1]), np.uint8)
        kept[order[low:high]] = narrow
        start = stop
    return kept
