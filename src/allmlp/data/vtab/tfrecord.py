"""TFRecord files with `tf.train.Example`s, read without TensorFlow; bytes are not copied but found: where they lie.

Source: TensorFlow's tfrecord format (a record is its length, uint64, little-endian; the masked CRC-32C of these 8
bytes; the content; its masked CRC-32C) and the wire format of protocol buffers. Both checksums are checked. By field
numbers an Example is `{1: {1: [{1: name, 2: {1: bytes {1: …}, 2: floats, 3: integers {1: …}}}]}}`; floats are passed
over.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from allmlp.data.texts import printable
from allmlp.data.vtab.crc32c import crc32c, masked
from allmlp.errors import BadData

MAX_RECORD_BYTES = 1 << 26  # 67 MB; an image of DMLab has some 10,000
MAX_FEATURES = 1000
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types

Feature = list[tuple[int, int]] | list[int]
"""Of bytes: where each value starts and ends in the record; of integers: the values."""


def records(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """Where each record's content starts in the file, and that content. Raises `BadData` at the first damage."""
    left = os.fstat(file.fileno()).st_size
    number = 0
    while left:
        header = file.read(12)
        length, checksum = struct.unpack("<QI", header) if len(header) == 12 else (0, -1)
        if masked(crc32c(header[:8])) != checksum:
            raise BadData(f"{name}: damaged or truncated at record {number} (the checksum of its length is wrong); "
                          "get it again")
        if length > min(MAX_RECORD_BYTES, left - 16):
            raise BadData(f"{name}: record {number} has {length} bytes, of which {max(left - 16, 0)} are there; "
                          f"accepted are {MAX_RECORD_BYTES}; get it again")
        start = file.tell()
        content = file.read(length)
        if file.read(4) != struct.pack("<I", masked(crc32c(content))):
            raise BadData(f"{name}: record {number} is damaged (its checksum is wrong); get it again")
        yield start, content
        left -= length + 16
        number += 1


def features(record: bytes, name: str) -> dict[str, Feature]:
    """The features of an Example by name. Raises `BadData` for what is none."""
    found: dict[str, Feature] = {}
    try:
        for inside in _submessages(record, (0, len(record)), 1):
            for entry in _submessages(record, inside, 1):
                parts = {number: value for number, value in _fields(record, entry) if isinstance(value, tuple)}
                start, end = parts[1]
                found[record[start:end].decode()] = _values(record, parts.get(2, (end, end)))
                if len(found) > MAX_FEATURES:
                    raise ValueError(f"more than {MAX_FEATURES} features")
    except (ValueError, KeyError, IndexError) as error:
        raise BadData(f"{name}: no tf.train.Example ({printable(str(error))[:80]})") from None
    return found


Span = tuple[int, int]


def _values(record: bytes, feature: Span) -> Feature:
    for kind, value in _fields(record, feature):
        if kind == 1 and isinstance(value, tuple):
            return _submessages(record, value, 1)
        if kind == 3 and isinstance(value, tuple):
            return _integers(record, value)
    return []


def _integers(record: bytes, inside: Span) -> list[int]:
    """One after the other in one field, or each in a field of its own: writers do either."""
    found: list[int] = []
    for number, value in _fields(record, inside):
        if number == 1 and isinstance(value, int):
            found.append(_signed(value))
        elif number == 1 and isinstance(value, tuple):
            at, end = value
            while at < end:
                one, at = _varint(record, at, end)
                found.append(_signed(one))
    return found


def _submessages(record: bytes, inside: Span, wanted: int) -> list[Span]:
    return [value for number, value in _fields(record, inside) if number == wanted and isinstance(value, tuple)]


def _fields(record: bytes, inside: Span) -> Iterator[tuple[int, int | Span]]:
    """Field numbers with their values: an integer, or where bytes start and end."""
    at, end = inside
    while at < end:
        tag, at = _varint(record, at, end)
        wire = tag & 7
        if wire == VARINT:
            value, at = _varint(record, at, end)
            yield tag >> 3, value
            continue
        if wire not in (LENGTH, FIXED32, FIXED64):
            raise ValueError(f"wire type {wire}")
        length, at = _varint(record, at, end) if wire == LENGTH else (4 if wire == FIXED32 else 8, at)
        if length > end - at:
            raise ValueError("a field is longer than what holds it")
        yield tag >> 3, (at, at + length)
        at += length


def _varint(record: bytes, at: int, end: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first, at most 64 bits; and where the next thing starts."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("it ends within a number")
        byte = record[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
    raise ValueError("a number of more than ten bytes")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
