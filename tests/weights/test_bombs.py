"""Files that claim or unpack to far more than they hold are refused before their memory is taken.

Each is read in one process of its own whose memory is limited to a little more than it has after its imports.
"""

import io
import json
import pickle
import platform
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from allmlp.weights.google import CURRENT

ROOM = 120 << 20  # bytes; the bombs would take between 200 MB and far more than any machine has

READ = """
import resource, sys
import torch, safetensors.torch
from allmlp.checkpoint import load
from allmlp.errors import BadCheckpoint

load(sys.argv[2])  # whatever is imported or allocated at first use
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[3:]:
    try:
        load(path)
        print(path, "was read")
    except BadCheckpoint as error:
        print("refused", error)
    except BaseException as error:
        print(path, "ended in", repr(error)[:200])
try:
    bytearray(2 * int(sys.argv[1]))
    print("memory is not limited")
except MemoryError:
    print("limited")
"""


def npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return file.getvalue()


def zeros(megabytes: int) -> bytes:
    """An .npz of a Mixer whose every tensor is plausible and whose head is zeros, which deflate to a thousandth."""
    width, classes = 1024, megabytes << 8
    shapes = {"stem/kernel": (1, 1, 3, width), "stem/bias": (width,), "head/kernel": (width, classes),
              "head/bias": (classes,)}  # fmt: skip
    members = {f"{name}.npy": npy_header("<f4", shape) + bytes(4 * int(np.prod(shape)))
               for name, shape in shapes.items()}
    return archive(members, zipfile.ZIP_DEFLATED)


def directory_with(data: bytes, offset: int, number: int) -> bytes:
    """A zip whose directory has another number at an offset of every entry: 20 packed size, 24 size, 42 place."""
    out, at = bytearray(data), 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        out[at + offset : at + offset + 4] = struct.pack("<I", number)
        at += 4
    return bytes(out)


def expanded(facebook: dict[str, torch.Tensor], legacy: bool) -> bytes:
    """A whole network with ten million classes whose weights are all one number, stored once."""
    one, file = torch.zeros(1), io.BytesIO()
    head = {"head.weight": one.expand(10**7, 24), "head.bias": one.expand(10**7)}
    torch.save({**facebook, **head}, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def pth(numel: int, shape: tuple[int, ...], strides: tuple[int, ...], stored: int, legacy: bool = False) -> bytes:
    """A .pth of one network's stem with made-up numbers."""
    class Stem:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(), 0, shape, strides, False, {})

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if isinstance(obj, Storage) else None

    file = io.BytesIO()
    Pickler(file, 2).dump({f"patch_embed.proj.{name}": Stem() for name in ("weight", "bias")})
    if not legacy:
        return archive({"x/data.pkl": file.getvalue(), "x/data/0": bytes(4 * stored)})
    head = [torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {"little_endian": True}]
    return (b"".join(pickle.dumps(value, 2) for value in head) + file.getvalue() + pickle.dumps(["0"], 2)
            + struct.pack("<q", numel) + bytes(4 * stored))


def safetensors(header: dict, size: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text


def bombs(facebook: dict[str, torch.Tensor]) -> dict[str, tuple[bytes, str]]:
    """Name to content and a part of the reason that is to be given."""
    small = {f"{name}.npy": npy_header("<f4", (2,)) + bytes(8) for name in CURRENT.rest}
    plain, packed = archive(small), archive(small, zipfile.ZIP_DEFLATED)
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 5, 5, 8 << 20, 0, 0)
    entry = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}
    empty = {f"blocks.{i}.norm1.bias": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(30_000)}
    nested = b"\x80\x02)" + b"\x85" * 100_000 + b"."
    return {
        "zeros.npz": (zeros(200), "times the file's"),
        "shape.npz": (archive({**small, "stem/bias.npy": npy_header("<f4", (10**6, 10**6))}), "but holds 0 bytes"),
        "objects.npz": (archive({**small, "stem/bias.npy": npy_header("|O", (10**9, 10**9))}), "missing MixerBlock_0"),
        "size.npz": (directory_with(packed, 24, 0xFFFFFF00), "times the file's"),
        "packed-size.npz": (directory_with(packed, 20, 0xFFFFFF00), "overlap or lie outside"),
        "overlapping.npz": (directory_with(plain, 42, 0), "damaged"),
        "directory.npz": (b"PK\x03\x04" + bytes(8 << 20) + end, "directory of 8388608 bytes is longer than"),
        "members.npz": (archive({f"{i}.npy": b"" for i in range(10_000)}), "not a numpy array"),
        "strides.pth": (expanded(facebook, legacy=False), "times the file's"),
        "strides-legacy.pth": (expanded(facebook, legacy=True), "times the file's"),
        "huge-strides.pth": (pth(1, (2**62, 2**62), (0, 0), 1), "missing norm.alpha"),
        "numel.pth": (pth(10**12, (10**6, 10**6), (10**6, 1), 10), "is missing or not 1000000000000 numbers"),
        "numel-legacy.pth": (pth(10**12, (10**6, 10**6), (10**6, 1), 10, legacy=True), "truncated"),
        "memo.pth": (archive({"x/data.pkl": b"\x80\x02]r\xff\xff\xff\xff."}), "no state dict"),
        "text.pth": (archive({"x/data.pkl": b"\x80\x02X\xff\xff\xff\xff."}), "longer than"),
        "bytearray.pth": (archive({"x/data.pkl": b"\x80\x02cbuiltins\nbytearray\nJ\0\0\0\x7f\x85R."}), "asks for"),
        "pickle.pth": (archive({"x/data.pkl": b"\x80\x02" + b"}" * (5 << 20)}), "longer than"),
        "dicts.pth": (archive({"x/data.pkl": b"\x80\x02" + b"}" * (3 << 20)}), "more than 1000000 operations"),
        "nested.pth": (archive({"x/data.pkl": nested}), "no state dict"),
        "shape.safetensors": (safetensors({"stem.proj.weight": entry}), "cannot be read as safetensors"),
        "header.safetensors": (safetensors({"stem.proj.weight": entry}, size=2**62), "truncated"),
        "blocks.safetensors": (safetensors(empty), "30000 tensors"),
    }


@pytest.mark.skipif(platform.system() != "Linux", reason="limits memory as Linux does")
def test_bombs_are_refused_within_bounded_memory(golden, tmp_path):
    made = bombs(torch.load(golden / "facebook-resmlp-tiny.pth", weights_only=True))
    paths = [tmp_path / name for name in made]
    for path in paths:
        path.write_bytes(made[path.name][0])
    command = [sys.executable, "-c", READ, str(ROOM), str(golden / "google-mixer-tiny.npz"), *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    lines = result.stdout.splitlines()
    assert lines[-1:] == ["limited"], result.stderr[-2000:]
    for path, line in zip(paths, lines[:-1], strict=True):
        assert line.startswith(f"refused {path}: "), line
        assert made[path.name][1] in line


def test_an_honest_file_of_compressible_numbers_is_read(golden, tmp_path):
    """A network whose head is still zero compresses well, but not a hundredfold."""
    import allmlp

    arrays = dict(np.load(golden / "google-mixer-tiny.npz"))
    for name in ("head/kernel", "head/bias", "stem/bias"):
        arrays[name] = arrays[name] * 0
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    assert allmlp.load(tmp_path / "x.npz").head.weight.eq(0).all()
