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

from allmlp.data.image import examine_image
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


def grouped(things: Iterable[Thing], key: Callable[[Thing], Hashable]) -> list[list[Thing]]:
    """Those of equal key together, in the order of the first of each."""
    groups: dict[Hashable, list[Thing]] = defaultdict(list)
    for thing in things:
        groups[key(thing)].append(thing)
    return list(groups.values())


def _examine(root: Path, file: str) -> Examined:
    path = root / file
    try:
        found = examine_image(path)
    except BadData as error:
        return Examined(file, bad=str(error).removeprefix(f"{path}: "))
    height, width = found.pixels.shape[:2]
    digest = hashlib.blake2b(b"%d x %d\n" % (width, height), digest_size=16)
    digest.update(found.pixels.tobytes())
    return Examined(file, "", digest.digest(), (width, height), found.format, found.mode, found.deep, found.animated,
                    found.turned)
