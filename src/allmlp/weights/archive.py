"""Zip archives from outside, which `.npz` and most `.pth` files are: opened within bounds, read with their checksum.

Nothing is extracted to disk, so names and link attributes of members have no power. Archives in archives are not
opened. Nobody but zipfile reads them: PyTorch's reader may see other members in the same file. What a member says about
its size is compared with the whole file before any member is read.
"""

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from allmlp.errors import BadCheckpoint
from allmlp.weights.stored import check_expansion

MAX_DIRECTORY_BYTES = 4 << 20  # some 40,000 members; Python takes about 600 bytes for each


class _BoundedFile(io.FileIO):
    """A file of which no more than `limit` bytes are read at once: zipfile reads a directory of any claimed size."""

    limit: int | None = MAX_DIRECTORY_BYTES

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        if self.limit is not None and size > self.limit:
            raise BadCheckpoint(f"its zip directory of {size} bytes is longer than {self.limit}")
        return super().read(size) or b""


@contextmanager
def open_archive(descriptor: int) -> Iterator[zipfile.ZipFile]:
    """The archive in an open file, which is not closed. Raises `BadCheckpoint` for a bomb, a member that comes twice,
    encryption, or another compression than deflate."""
    with _BoundedFile(descriptor, closefd=False) as file, zipfile.ZipFile(file) as archive:
        file.limit = None
        members, seen = archive.infolist(), set()
        for member in members:
            if member.filename in seen:
                raise BadCheckpoint(f"member {member.filename[:100]!r} comes twice")
            seen.add(member.filename)
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BadCheckpoint(f"member {member.filename[:100]!r} is encrypted or compressed in an unusual way")
        size = os.fstat(descriptor).st_size
        if sum(member.compress_size for member in members) > size:
            raise BadCheckpoint("its members overlap or lie outside the file: a bomb, or a damaged file")
        check_expansion(sum(member.file_size for member in members), size, "its members")
        yield archive


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, at_most: int | None = None) -> bytes:
    """A member's bytes, all of them or the first `at_most`. The checksum is compared when all are read."""
    wanted = member.file_size if at_most is None else min(at_most, member.file_size)
    with archive.open(member) as file:
        data = file.read(wanted)
    if len(data) != wanted:
        raise BadCheckpoint(f"member {member.filename[:100]!r} is truncated")
    return data
