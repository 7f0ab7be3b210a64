"""Images that lie one after another in large files, tars mostly: each is so many bytes at a place that is known."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from allmlp.data.image import decode_image
from allmlp.data.remote import WINDOW_SHARE, cache_bytes, fetched
from allmlp.data.texts import Texts, below_common_folder
from allmlp.errors import BadData, BadImage

MAX_IMAGE_BYTES = 1 << 28  # of one encoded image, 268 MB; what is larger is no photograph


@dataclass(frozen=True, eq=False)
class PackedImages:
    """`files`: paths, or addresses that `remote.fetched` makes paths of. `places` int64 `(N, 3)`: number of the file,
    offset and size in bytes. `names`: what each image is called inside its file."""

    files: tuple[str, ...]
    places: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: Sequence[str]
    names: Texts = field(repr=False)

    def __len__(self) -> int:
        return len(self.places)

    def image(self, index: int) -> np.ndarray:
        return decode_image(self.encoded(index), self.name(index))

    def encoded(self, index: int) -> bytes:
        file, offset, size = self.places[index].tolist()
        path = fetched(self.files[file]) if self.remote else Path(self.files[file])
        return read_bytes(path, offset, size, self.name(index))

    def name(self, index: int) -> str:
        return f"{self.files[self.places[index, 0]]}/{self.names[index]}"

    def key(self, index: int) -> str:
        """The same wherever the files lie."""
        return f"{self._short_files[self.places[index, 0]]}/{self.names[index]}"

    @cached_property
    def _short_files(self) -> tuple[str, ...]:
        return below_common_folder(self.files)

    @property
    def remote(self) -> bool:
        return self.files[0].startswith(("http://", "https://")) if self.files else False

    @property
    def groups(self) -> np.ndarray | None:
        """Of images far away, the number of the file of each: see `order.py`."""
        return self.places[:, 0] if self.remote else None

    @property
    def window(self) -> int:
        """How many files are drawn from together: as many as surely lie in the cache at once."""
        largest = max(int((self.places[:, 1] + self.places[:, 2]).max(initial=1)), 1)
        return max(int(WINDOW_SHARE * cache_bytes() / largest), 1)


def read_bytes(path: Path, offset: int, size: int, name: str) -> bytes:
    """`size` bytes of a file. Raises `BadImage` where there are fewer, or more than an image can have."""
    if not 0 <= size <= MAX_IMAGE_BYTES:
        raise BadImage(f"{name}: {size} bytes, more than the limit of {MAX_IMAGE_BYTES} for an image")
    try:
        # Opened anew for each image: some 20 microseconds, against the milliseconds of decoding one, and no process
        # then holds a file that another one wants to remove.
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            content = file.read(size) or b""
    except OSError as error:
        raise BadData(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) != size:
        raise BadImage(f"{name}: truncated, {len(content)} of {size} bytes; copy {path} again")
    return content
