"""TFRecord files written here byte by byte, with a checksum bit by bit; and DMLab, which is made of them."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from allmlp.data import open_data
from allmlp.data.vtab.crc32c import crc32c
from allmlp.data.vtab.dmlab import scan
from allmlp.data.vtab.tfrecord import features, records
from allmlp.errors import BadData

Make = Callable[..., bytes]


def bit_by_bit(content: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def turned(checksum: int) -> bytes:
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) % 2**32)


def record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + turned(bit_by_bit(length)) + content + turned(bit_by_bit(content))


def varint(value: int) -> bytes:
    value %= 1 << 64
    parts = []
    while value > 127:
        parts.append(value % 128 + 128)
        value //= 128
    return bytes([*parts, value])


def message(number: int, content: bytes) -> bytes:
    return varint(number * 8 + 2) + varint(len(content)) + content


def example(packed: bool = True, **given: bytes | int | float) -> bytes:
    entries = b""
    for name, value in given.items():
        match value:
            case bytes():
                feature = message(1, message(1, value))
            case int():
                feature = message(3, message(1, varint(value)) if packed else varint(8) + varint(value))
            case _:
                feature = message(2, message(1, struct.pack("<f", value)))
        entries += message(1, message(1, name.encode()) + message(2, feature))
    return message(1, entries)


@pytest.mark.parametrize("content, checksum", [  # RFC 3720, B.4, and the usual check
    (b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E), (bytes(range(31, -1, -1)), 0x113FDB5C)])
def test_the_checksum_is_the_published_one(content: bytes, checksum: int):
    assert crc32c(content) == checksum


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 255, 256, 257, 1023, 4099])
def test_the_checksum_of_any_length_is_that_of_its_bits(length: int):
    content = np.random.default_rng(length).bytes(length)
    assert crc32c(content) == bit_by_bit(content)


def test_the_features_of_an_example_are_found_where_they_lie(tmp_path: Path):
    content = example(image=b"pixels", label=300, depth=0.5, empty=b"") + b""
    (tmp_path / "a").write_bytes(record(b"") + record(content))
    with open(tmp_path / "a", "rb") as file:
        (_, nothing), (start, again) = records(file, "a")
    assert (nothing, again) == (b"", content)
    found = features(again, "a")
    assert list(found) == ["image", "label", "depth", "empty"]
    [(first, last)] = found["image"]
    assert (tmp_path / "a").read_bytes()[start + first : start + last] == b"pixels"
    assert (found["label"], found["depth"]) == ([300], [])
    assert features(example(packed=False, label=-2), "a") == {"label": [-2]}


@pytest.mark.parametrize("damage, said", [
    (lambda whole: whole[:-1], "record 1 is damaged|bytes, of which"),
    (lambda whole: whole[:9], "record 0 .*length"),
    (lambda whole: whole[:20] + bytes([whole[20] ^ 1]) + whole[21:], "record 0 is damaged"),
    (lambda whole: bytes([whole[0] ^ 1]) + whole[1:], "record 0 .*length"),
    (lambda whole: struct.pack("<Q", 1 << 40) + turned(bit_by_bit(struct.pack("<Q", 1 << 40))) + whole, "of which"),
    (lambda whole: record(b"\x0a\x7f\x01"), "no tf.train.Example"),
    (lambda whole: record(b"\xff" * 12), "no tf.train.Example"),
    (lambda whole: record(example(image=b"x", label=1)), "expected one image, one filename and one label"),
])
def test_damage_is_said_with_its_record(tmp_path: Path, damage: Callable[[bytes], bytes], said: str):
    whole = record(example(image=b"x" * 30, filename=b"a", label=1)) * 2
    (tmp_path / "a").write_bytes(damage(whole))
    with pytest.raises(BadData, match=said):
        scan(tmp_path / "a")


def test_dmlab_is_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, png_of: Make, noise_of: Callable):
    monkeypatch.setenv("ALLMLP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "dmlab").mkdir()
    written: dict[str, dict[str, int]] = {}
    for split, count in (("train", 5), ("validation", 3), ("test", 2)):
        written[split] = {f"{split}_{i}.jpg": (2 * i) % 6 for i in range(count)}
        shards = [io.BytesIO(), io.BytesIO()]
        for i, (name, label) in enumerate(written[split].items()):
            shards[i % 2].write(record(example(filename=name.encode(), label=label, image=png_of(name))))
        for number, shard in enumerate(shards):
            (tmp_path / f"dmlab/dmlab-{split}.tfrecord-0000{number}-of-00002").write_bytes(shard.getvalue())
    data = open_data("vtab:dmlab", data_dir=tmp_path)
    for split, pool in (("train", "train"), ("val", "validation"), ("test", "test")):
        images = data.splits[split]
        names = [images.name(i).rpartition("/")[2] for i in range(len(images))]
        assert sorted(names) == sorted(written[pool])
        assert [written[pool][name] for name in names] == images.labels.tolist()
        for i, name in enumerate(names):
            assert np.array_equal(images.image(i), noise_of(name))
