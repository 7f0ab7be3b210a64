"""Damaged at random, a file of any format is refused in one line or read, and nothing else happens."""

import io
import pickletools
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import allmlp
from allmlp.checkpoint import load
from allmlp.errors import BadCheckpoint
from allmlp.models.model import Model
from allmlp.weights.pickles import read_pickle

FORMATS = ["google", "google legacy", "compressed npz", "facebook", "legacy pth", "safetensors", "ours"]
ENDS = 600  # bytes at both ends, where the headers and directories are

few = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def files(golden, writers, tmp_path_factory) -> dict[str, bytes]:
    """One small file of each format; 1 to 90 kB."""
    folder = tmp_path_factory.mktemp("files")
    facebook = torch.load(golden / "facebook-resmlp-tiny.pth", weights_only=True)
    writers["compressed npz"](dict(np.load(golden / "google-mixer-tiny.npz")), folder / "compressed npz")
    writers["legacy pth"](facebook, folder / "legacy pth")
    writers["safetensors"](facebook, folder / "safetensors")
    allmlp.save(load(golden / "google-mixer-tiny.npz"), folder / "ours")
    read = {name: (folder / name).read_bytes() for name in ("compressed npz", "legacy pth", "safetensors", "ours")}
    names = {"google": "google-mixer-tiny.npz", "google legacy": "google-mixer-tiny-legacy.npz",
             "facebook": "facebook-resmlp-tiny.pth"}  # fmt: skip
    return read | {name: (golden / file).read_bytes() for name, file in names.items()}


def refused(path: Path) -> bool:
    """Whether the file is refused; it is read otherwise, into a network whose every number is finite."""
    try:
        model = load(path)
    except BadCheckpoint as error:
        message = str(error)
        assert str(path) in message
        assert "\n" not in message
        assert len(message) < 2000
        return True
    assert isinstance(model, Model)
    return False


@pytest.mark.parametrize("kind", FORMATS)
def test_every_file_is_read_when_it_is_whole(kind, files, tmp_path):
    (tmp_path / "x").write_bytes(files[kind])
    assert not refused(tmp_path / "x")


@pytest.mark.parametrize("kind", FORMATS)
@few
@given(st.data())
def test_a_truncated_file_is_refused_wherever_it_ends(kind, files, tmp_path, data):
    content = files[kind]
    last = len(content) - 1
    end = data.draw(st.integers(0, ENDS) | st.integers(0, last) | st.integers(last - ENDS, last), label="end")
    (tmp_path / "x").write_bytes(content[:end])
    assert refused(tmp_path / "x")


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> bytes:
    """Some bits flipped, bytes replaced, inserted, removed or repeated, most often near an end."""
    out = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        last = max(len(out) - 1, 0)
        at = min(draw(st.integers(0, ENDS) | st.integers(0, last) | st.integers(max(last - ENDS, 0), last)), last)
        what = draw(st.sampled_from(["flip", "replace", "insert", "remove", "repeat"]))
        if what == "flip" and out:
            out[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "replace":
            new = draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 4, bytes(4), b"\xff" * 8]))
            out[at : at + len(new)] = new
        elif what == "insert":
            out[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif what == "remove":
            del out[at : at + draw(st.integers(1, 64))]
        else:
            out[at:at] = out[at : at + draw(st.integers(1, 64))]
    return bytes(out)


@pytest.mark.parametrize("kind", FORMATS)
@few
@given(st.data())
def test_a_damaged_file_is_refused_or_read(kind, files, tmp_path, data):
    (tmp_path / "x").write_bytes(data.draw(damage(files[kind])))
    refused(tmp_path / "x")


@pytest.mark.parametrize("kind", ["google", "compressed npz", "facebook"])
@few
@given(st.data())
def test_one_flipped_bit_among_the_numbers_of_a_zip_is_found_by_its_checksum(kind, files, tmp_path, data):
    content = bytearray(files[kind])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith("kernel.npy")
                   or "/data/" in member.filename]  # fmt: skip
    member = data.draw(st.sampled_from(members))
    name_length, extra_length = struct.unpack_from("<HH", content, member.header_offset + 26)
    start = member.header_offset + 30 + name_length + extra_length
    content[start + data.draw(st.integers(0, member.compress_size - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "x").write_bytes(content)
    if not refused(tmp_path / "x"):  # a compressed member ends with up to 7 bits without a meaning
        (tmp_path / "whole").write_bytes(files[kind])
        expected, state = load(tmp_path / "whole").state_dict(), load(tmp_path / "x").state_dict()
        assert kind == "compressed npz"
        assert all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize("start", [b"", b"PK\x03\x04", b"\x80\x02", b"\x08\0\0\0\0\0\0\0{", b"\x93NUMPY"])
@few
@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused(start, tmp_path, content):
    (tmp_path / "x").write_bytes(start + content)
    assert refused(tmp_path / "x")


OPCODES = sorted(opcode.code.encode("latin-1") for opcode in pickletools.opcodes)
WORDS = [b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n",
         b"cargparse\nNamespace\n", b"ctorch._utils\n_rebuild_parameter\n", b"X\x07\0\0\0storage", b"X\x01\0\0\x000",
         b"K\x05", b"K\x00", b"(K\x05K\x05tQ", b"q\x01", b"h\x01"]  # fmt: skip


@settings(max_examples=500)
@given(st.lists(st.sampled_from(WORDS) | st.sampled_from(OPCODES), max_size=40))
def test_random_opcodes_are_interpreted_or_refused(words):
    try:
        read_pickle(io.BytesIO(b"\x80\x02" + b"".join(words) + b"."))
    except BadCheckpoint as error:
        assert len(str(error)) < 500


HEADER = st.text(alphabet="{}'descr: fortran_order, shape()<>f48|VO0123456789TrueFalse", max_size=120)


@few
@given(HEADER, st.binary(max_size=64))
def test_random_array_headers_are_refused(tmp_path, header, content):
    text = header.encode()
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content
        archive.writestr("stem/bias.npy", member)
    assert refused(tmp_path / "x")
