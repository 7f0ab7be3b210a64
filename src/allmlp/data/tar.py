"""What lies where in a tar file, which is then read in place; nothing is ever unpacked.

The format is POSIX's (pax, `pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html`) with GNU tar's long names and
large sizes. Python's tarfile would read it too, at a hundred microseconds a member, minutes for ImageNet; it also reads
a long name in one piece, as long as the file says, and stops without a word at a damaged header. Here
- names are names, never paths to write to; links and devices are passed over and said;
- a header that says more than `MAX_HEADER_BYTES` is refused, and so is a sparse file;
- damage is an error, which comes after all members before it; so is an end without the zeros that mark it, as a
  download that broke off between two members leaves it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from allmlp.data.texts import printable
from allmlp.errors import BadData

BLOCK = 512
MAX_HEADER_BYTES = 1 << 20
MAX_NAME = 4096
COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7z": "unxz", b"(\xb5/": "unzstd"}
REGULAR, LINKS, FOLDER, SPARSE = (b"0", b"\0", b"7"), (b"1", b"2"), b"5", b"S"
WITHOUT_CONTENT = (*LINKS, b"3", b"4", FOLDER, b"6")
LONG_NAME, LONG_LINK, PAX, PAX_FOR_ALL = b"L", b"K", b"x", b"g"


@dataclass(frozen=True)
class Member:
    """A file inside: `offset` and `size` in bytes, from the start of the file that the tar lies in. `unusable`: why
    there is nothing to read, or ""."""

    name: str
    offset: int
    size: int
    unusable: str = ""


def members(file: BinaryIO, where: str, start: int = 0, size: int | None = None) -> Iterator[Member]:
    """What a tar holds, in its order, folders left out. The tar may lie inside another file: `size` bytes from `start`.

    Raises `BadData`, one line that begins with `where`, for a file that is compressed, truncated, damaged or no tar;
    everything before the damage has been given by then.
    """
    end = os.fstat(file.fileno()).st_size
    end = end if size is None else min(end, start + size)
    if end <= start:
        raise BadData(f"{where}: an empty file")
    magic = _read(file, start, 3, end) if end - start >= 3 else b""
    for signature, tool in COMPRESSED.items():
        if magic.startswith(signature):
            raise BadData(f"{where}: compressed, so that it cannot be read in place; decompress it once with `{tool}`")
    count = 0
    try:
        for member in _members(file, start, end):
            count += 1
            if member.name and not member.name.endswith("/"):
                yield member
    except (BadData, ValueError) as error:
        what = f"damaged or truncated after {count} members" if count else "not a tar file"
        raise BadData(f"{where}: {what} ({error}); copy it again") from None
    if not count:
        raise BadData(f"{where}: an empty tar")


def _members(file: BinaryIO, at: int, end: int) -> Iterator[Member]:
    name, size = "", None  # of the next member, where a header before its own says so
    sparse = False
    while at < end:
        block = _read(file, at, BLOCK, end)
        if not block.strip(b"\0"):
            return
        if sum(block) - sum(block[148:156]) + 8 * ord(" ") != _number(block[148:156]):
            raise BadData("a damaged header")
        kind, own_size, at = block[156:157], _number(block[124:136]), at + BLOCK
        if kind in (LONG_NAME, LONG_LINK, PAX, PAX_FOR_ALL):
            if own_size > MAX_HEADER_BYTES:
                raise BadData(f"a header of {own_size} bytes")
            content = _read(file, at, own_size, end)
            if kind == LONG_NAME:
                name = _text(content)
            elif kind == PAX:
                said = _pax(content)
                name, sparse = said.get("path", name), any(key.startswith("GNU.sparse.") for key in said)
                size = int(said["size"]) if "size" in said else None
        else:
            own_size = own_size if size is None else size
            if own_size < 0 or len(name) > MAX_NAME or kind == SPARSE:
                raise BadData("a size, a name or a kind of file that no data set has")
            if kind in WITHOUT_CONTENT:
                own_size = 0
            if at + own_size > end:
                raise BadData("truncated")
            unusable = "" if kind in REGULAR and not sparse else "a link" if kind in LINKS else "no regular file"
            yield Member("" if kind == FOLDER else printable(name or _name(block)), at, own_size, unusable)
            name, size, sparse = "", None, False
        at += -(-own_size // BLOCK) * BLOCK
    raise BadData("its end is missing")


def _read(file: BinaryIO, at: int, size: int, end: int) -> bytes:
    if size < 0 or at + size > end:
        raise BadData("truncated")
    file.seek(at)
    return file.read(size)


def _number(digits: bytes) -> int:
    """Octal; or, where that is too short, base 256 behind a byte 0x80."""
    if digits[0] == 0x80:
        return int.from_bytes(digits[1:], "big")
    return int(digits.partition(b"\0")[0].strip() or b"0", 8)


def _name(block: bytes) -> str:
    folder = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{folder}/{_text(block[:100])}" if folder else _text(block[:100])


def _text(content: bytes) -> str:
    return content.partition(b"\0")[0].decode(errors="replace")


def _pax(content: bytes) -> dict[str, str]:
    """Records "LENGTH KEY=VALUE\\n", of which the length counts all of it."""
    found = {}
    while content:
        length, _, _ = content[:20].partition(b" ")
        if not 5 <= int(length) <= len(content):
            raise BadData("a damaged pax header")
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        found[key.decode(errors="replace")] = value.decode(errors="replace")
        content = content[int(length) :]
    return found
