import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from allmlp.data.tar import MAX_HEADER_BYTES, Member, members
from allmlp.errors import BadData

FORMS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = f"{'folder/' * 30}photo.jpg"  # 219 characters: in two fields for ustar, in headers of their own for the others

TarOf = Callable[..., bytes]


def read(path: Path, content: bytes, start: int = 0, size: int | None = None) -> list[Member]:
    path.write_bytes(content)
    with open(path, "rb") as file:
        return list(members(file, "here", start, size))


def by_python(content: bytes) -> list[tuple[str, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [(one.name, one.offset_data, one.size) for one in tar if one.isreg()]


@pytest.mark.parametrize("form", FORMS)
def test_members_are_where_pythons_tarfile_finds_them(tmp_path: Path, tar_of: TarOf, form: str):
    draw = np.random.default_rng(0)
    contents = {f"{i}.jpg": draw.bytes(int(size)) for i, size in enumerate([0, 1, 511, 512, 513, 5000, 70_000])}
    contents |= {LONG: b"long", "päth/ünï.jpg": b"utf-8", "x" * 100: b"a full field"}
    content = tar_of(contents, FORMS[form])
    found = read(tmp_path / "a.tar", content)
    assert [(one.name, one.offset, one.size) for one in found] == by_python(content)
    assert [content[one.offset : one.offset + one.size] for one in found] == list(contents.values())


def test_a_tar_inside_a_tar_is_read_by_its_place(tmp_path: Path, tar_of: TarOf):
    inner = tar_of({"1.jpg": b"one", "2.jpg": b"two"})
    outer = tar_of({"a": b"before", "b.tar": inner, "c": b"behind"})
    place = read(tmp_path / "a.tar", outer)[1]
    found = read(tmp_path / "a.tar", outer, place.offset, place.size)
    assert [outer[one.offset : one.offset + one.size] for one in found] == [b"one", b"two"]


def test_sizes_beyond_octal_are_read(tmp_path: Path):
    info = tarfile.TarInfo("huge")
    info.size = 9 << 33  # more than eleven octal digits hold
    path = tmp_path / "a.tar"
    with open(path, "wb") as file:  # a file with a hole, which takes no space
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(512 + info.size + 1024)
    with open(path, "rb") as file:
        assert list(members(file, "here")) == [Member("huge", 512, info.size)]


def test_links_devices_and_folders_have_nothing_to_read(tmp_path: Path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("s.jpg", tarfile.SYMTYPE), ("h.jpg", tarfile.LNKTYPE),
                           ("p.jpg", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    found = read(tmp_path / "a.tar", content.getvalue())
    assert [(one.name, one.size, one.unusable) for one in found] == [
        ("s.jpg", 0, "a link"), ("h.jpg", 0, "a link"), ("p.jpg", 0, "no regular file")]


def test_names_cannot_move_the_cursor(tmp_path: Path, tar_of: TarOf):
    assert [one.name for one in read(tmp_path / "a.tar", tar_of({"a\x1b[2J\nb.jpg": b""}))] == ["a�[2J�b.jpg"]


@pytest.mark.parametrize("form", FORMS)
def test_a_tar_cut_anywhere_gives_what_is_whole_and_then_an_error(tmp_path: Path, tar_of: TarOf, form: str):
    content = tar_of({"1.jpg": b"a" * 700, LONG: b"b" * 10, "3.jpg": b"c" * 600}, FORMS[form])
    places = by_python(content)
    end = places[-1][1] + 1024  # behind the last member, before the zeros
    for cut in range(1, end, 97):
        (tmp_path / "a.tar").write_bytes(content[:cut])
        found: list[Member] = []
        with open(tmp_path / "a.tar", "rb") as file, pytest.raises(BadData, match=r"^here: .*copy it again$"):
            found.extend(members(file, "here"))  # keeps what came before the error
        assert [(one.name, one.offset, one.size) for one in found] == [
            place for place in places if place[1] + place[2] <= cut]


def test_a_damaged_header_in_the_middle_is_said_and_not_taken_for_the_end(tmp_path: Path, tar_of: TarOf):
    content = bytearray(tar_of({"1.jpg": b"a", "2.jpg": b"b"}))
    content[1024] ^= 1
    with pytest.raises(BadData, match="damaged or truncated after 1 members"):
        read(tmp_path / "a.tar", bytes(content))


def hostile(size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("content, said", [
    (b"", "empty"), (b"\0" * 1024, "empty"), (b"no tar at all" * 100, "not a tar file"), (b"x", "not a tar file"),
    (gzip.compress(b"x" * 5000, mtime=0), "gunzip"), (hostile(MAX_HEADER_BYTES + 1, b"x"), "header of"),
    (hostile(1 << 60, b"L"), "header of"), (hostile(1 << 60, b"0"), "truncated"), (hostile(-5, b"0"), "here"),
    (hostile(0, b"S"), "that no data set has"), (hostile(4, b"x") + b"zzzz" + b"\0" * 508, "here"),
    (hostile(9, b"x") + b"99 a=b\n\0\0" + b"\0" * 503, "here"),
])  # fmt: skip
def test_what_is_no_tar_or_means_harm_is_refused_in_one_line(tmp_path: Path, content: bytes, said: str):
    with pytest.raises(BadData, match=said) as caught:
        read(tmp_path / "a.tar", content)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("here: ")


def test_random_damage_never_gives_another_error_nor_a_place_outside_the_file(tmp_path: Path, tar_of: TarOf):
    content = tar_of({"1.jpg": b"a" * 700, LONG: b"b" * 10, "3.jpg": b"c" * 600}, tarfile.PAX_FORMAT)
    draw = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for at in draw.integers(0, len(content), 3):
            damaged[at] = draw.integers(256)
        header = damaged[:512]  # with a right sum, or nothing else would ever be looked at
        damaged[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 256)
        try:
            for one in read(tmp_path / "a.tar", bytes(damaged)):
                assert 0 <= one.offset <= one.offset + one.size <= os.stat(tmp_path / "a.tar").st_size
        except BadData:
            pass
