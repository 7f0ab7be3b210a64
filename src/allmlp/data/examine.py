"""Opening every image of a list once, in threads: which cannot be read, what the others are, which are the same.

Two images are the same if their decoded pixels are (BLAKE2b of size and uint8 RGB values): copies under another name,
format or metadata are found, a second JPEG compression is not.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from allmlp.data.dataset import Encoded, ImageDataset, Subset
from allmlp.data.image import Decoded, examine_bytes, examine_image
from allmlp.errors import BadData

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Examined:
    """One file: `bad`, why it cannot be read; or "" and what the image is (see `image.Decoded`). `size` is (width,
    height) as the image is used, after its orientation was applied."""

    file: str
    bad: str = ""
    digest: bytes = b""
    size: tuple[int, int] = (0, 0)
    format: str = ""
    mode: str = ""
    deep: bool = False
    animated: bool = False
    turned: bool = False


def examine_all(
    root: Path, files: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> list[Examined]:
    """All `files` (relative to `root`) in their order. `progress` is called with (images done, images in all)."""
    found = []
    with ThreadPoolExecutor() as threads:
        for one in threads.map(lambda file: _examine(root, file), files):
            found.append(one)
            if progress is not None:
                progress(len(found), len(files))
    return found


def examine_dataset(images: ImageDataset, progress: Callable[[int, int], None] | None = None) -> list[Examined]:
    """All images of a data set, called by their names there. Of one that is no file, format and mode are "pixels"."""
    found = []
    with ThreadPoolExecutor() as threads:
        for one in threads.map(lambda index: _examine_one(images, index), range(len(images))):
            found.append(one)
            if progress is not None:
                progress(len(found), len(images))
    return found


def grouped(things: Iterable[Thing], key: Callable[[Thing], Hashable]) -> list[list[Thing]]:
    """Those of equal key together, in the order of the first of each."""
    groups: dict[Hashable, list[Thing]] = defaultdict(list)
    for thing in things:
        groups[key(thing)].append(thing)
    return list(groups.values())


def _examine(root: Path, file: str) -> Examined:
    path = root / file
    return _examined(file, str(path), lambda: examine_image(path))


def _examine_one(images: ImageDataset, index: int) -> Examined:
    name = images.name(index)
    if isinstance(images, Subset):
        images, index = images.origin(index)

    def decode() -> Decoded:
        if isinstance(images, Encoded):
            return examine_bytes(images.encoded(index), name)
        return Decoded(images.image(index), "pixels", "pixels", deep=False, animated=False, turned=False)

    return _examined(name, name, decode)


def _examined(file: str, place: str, decode: Callable[[], Decoded]) -> Examined:
    try:
        found = decode()
    except BadData as error:
        return Examined(file, bad=str(error).removeprefix(f"{place}: "))
    height, width = found.pixels.shape[:2]
    digest = hashlib.blake2b(b"%d x %d\n" % (width, height), digest_size=16)
    digest.update(found.pixels.tobytes())
    return Examined(file, "", digest.digest(), (width, height), found.format, found.mode, found.deep, found.animated,
                    found.turned)
