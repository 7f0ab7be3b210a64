"""No pickle is executed, whichever way it comes: the payload of each of these would create a file."""

import builtins
import collections
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import allmlp
from allmlp.errors import BadCheckpoint
from allmlp.weights.pickles import Storage, View, read_pickle


class Payload:
    """Unpickles by calling `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def payloads(victim: Path) -> dict[str, Payload]:
    return {
        "os.system": Payload(os.system, f"touch {victim}"),
        "open": Payload(builtins.open, str(victim), "w"),
        "exec": Payload(builtins.exec, f"open({str(victim)!r}, 'w').close()"),
        "getattr": Payload(builtins.getattr, Path(victim), "touch"),
        "touch": Payload(Path.touch, victim),
        "torch.save": Payload(torch.save, 1, str(victim)),
    }


PAYLOADS = list(payloads(Path("x")))


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    return tmp_path / "created-by-the-payload"


def assert_refused(path: Path, victim: Path, reason: str = "") -> None:
    with pytest.raises(BadCheckpoint, match=reason) as error:
        allmlp.load(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert not victim.exists()


@pytest.mark.parametrize("name", ["os.system", "open", "exec", "touch", "torch.save"])
def test_the_payloads_do_work_where_pickles_are_executed(name, victim):
    file = pickle.loads(pickle.dumps(payloads(victim)[name]))
    if name == "open":
        file.close()
    assert victim.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", PAYLOADS)
def test_a_bare_pickle_is_refused(name, protocol, tmp_path, victim):
    (tmp_path / "x.pth").write_bytes(pickle.dumps({"stem.proj.weight": payloads(victim)[name]}, protocol))
    assert_refused(tmp_path / "x.pth", victim, "pickle|not a file of weights")


def placed(payload: Payload, where: str) -> object:
    """The payload in every place of a state dict."""
    state = collections.OrderedDict({"head.weight": torch.zeros(2, 3)})
    if where == "alone":
        return payload
    if where == "value":
        state["head.bias"] = payload
    elif where == "attribute":
        state._metadata = {"": payload}  # type: ignore[attr-defined]
    elif where == "beside":
        return {"state_dict": state, "args": payload}
    else:
        state["head.bias"] = torch.nn.Parameter(torch.zeros(3))
        state["head.bias"].hidden = payload
    return state


@pytest.mark.parametrize("where", ["alone", "value", "attribute", "beside", "in a parameter"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_in_torchs_file_is_refused_by_the_name_it_asks_for(name, zipped, where, tmp_path, victim):
    torch.save(placed(payloads(victim)[name], where), tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    assert_refused(tmp_path / "x.pth", victim, r"its pickle asks for [\w.]+, which no weights need")


@pytest.mark.parametrize("name", PAYLOADS)
def test_an_object_array_is_refused_unread(name, golden, tmp_path, victim):
    arrays = dict(np.load(golden / "google-mixer-tiny.npz"))
    arrays["stem/bias"] = np.array([payloads(victim)[name]] * 24, dtype=object)
    np.savez(tmp_path / "x.npz", **arrays)
    assert_refused(tmp_path / "x.npz", victim, r"stem/bias is \|O, expected floating point")


def save_pickle(content: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", content)


@pytest.mark.parametrize(("content", "reason"), [
    (b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\0\0\0\0\0\x01\x85R.", "builtins.bytearray"),
    (b"\x80\x02ctorch\nFloatStorage\n\x8a\x06\0\0\0\0\0\x01\x85R.", "makes a call"),
    (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "makes an object"),
    (b"\x80\x02cargparse\nNamespace\n)R.", "makes a call"),
    (b"\x80\x04\x95\x02\0\0\0\0\0\0\0}.", "protocol 4"),
    (b"\x80\x02\x93.", "opcode"),
    (b"\x80\x02(i__main__\nX\n.", "opcode"),
    (b"\x80\x02X\xff\xff\xff\xff.", "longer than"),
    (b"\x80\x02" + b"X\x80\0\0\0", "truncated"),
    (b"\x80\x02c" + b"a" * 300, "endless name"),
    (b"\x80\x02}" + b"r\xff\xff\xff\xff" + b".", "not a network"),
    (b"\x80\x02", "truncated"), (b"\x80\x02.", "damaged"), (b"\x80\x02h\x07.", "damaged"), (b"\x80\x02t.", "damaged"),
    (b"\x80\x02\x85.", "damaged"), (b"\x80\x02]K\x01K\x02s.", "damaged"), (b"\x80\x02}K\x01a.", "damaged"),
    (b"\x80\x02K\x01b.", "damaged"), (b"\x80\x02K\x01Q.", "damaged"), (b"\x80\x02)Q.", "damaged"),
    (b"\x80\x02K\x01K\x02R.", "makes a call"), (b"\x80\x02}(K\x01u.", "damaged"), (b"\x80\x02}(}K\x01u.", "damaged"),
    (b"\x80\x02" + b")" + b"\x85" * 100_000 + b".", "no state dict"),
    (b"\x80\x02}(" + b")" + b"\x85" * 100_000 + b"K\x01u.", "damaged"),
    (b"\x80\x02" + b"}" * 2_000_000 + b".", "more than 1000000 operations"),
    (b"\x80\x02]" + b"q\x00h\x00a" * 3 + b".", "no state dict"),
    (b"\x80\x02}q\x00X\x05\0\0\0modelh\x00s.", "not tensors: model"),
    (b"\x80\x02}X\x01\0\0\0\xffK\x01s.", "damaged"),
])  # fmt: skip
def test_pickles_that_are_made_up_are_refused(content, reason, tmp_path, victim):
    save_pickle(content, tmp_path / "x.pth")
    assert_refused(tmp_path / "x.pth", victim, reason)


def test_a_pickle_larger_than_its_limit_is_refused(tmp_path, victim):
    save_pickle(b"\x80\x02]" + b"." * (5 << 20), tmp_path / "x.pth")
    assert_refused(tmp_path / "x.pth", victim, "longer than")


def view_pickle(numel: object, offset: object, shape: object, strides: object) -> bytes:
    """The pickle of one tensor as torch.save writes it, with any numbers in it."""
    def put(value: object) -> bytes:
        return pickle.dumps(value, 2)[2:-1].replace(b"q\x00", b"").replace(b"q\x01", b"").replace(b"q\x02", b"")

    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu" + put(numel) + b"tQ"
    where = put(offset) + put(shape) + put(strides)
    gradient = b"\x89ccollections\nOrderedDict\n)R"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + where + gradient + b"tR."


def test_a_tensor_is_read_as_a_view_of_its_storage():
    view = read_pickle(io.BytesIO(view_pickle(100, 3, (4, 5), (5, 1))))
    assert view == View(Storage("0", "float32", 4, 100), 3, (4, 5), (5, 1))


@pytest.mark.parametrize(("numel", "offset", "shape", "strides"), [
    (100, 81, (4, 5), (5, 1)), (100, 0, (21, 5), (5, 1)), (100, 0, (4, 5), (40, 1)), (100, 0, (4, 2**62), (0, 1)),
    (100, -1, (4, 5), (5, 1)), (100, 50, (4, 5), (-5, 1)), (100, 0, (4, 5), (5,)), (100, 0, (-4, -5), (5, 1)),
    (-100, 0, (4, 5), (5, 1)), (100, 0, (4, 5.0), (5, 1)), (100, 0, 4, 5), (100, 0, (1,) * 9, (1,) * 9),
    (100, True, (4, 5), (5, 1)), ("100", 0, (4, 5), (5, 1)), (100, 0, (2**70, 1), (0, 1)), (0, 0, (1,), (1,)),
])  # fmt: skip
def test_a_tensor_outside_its_storage_is_refused(numel, offset, shape, strides):
    with pytest.raises(BadCheckpoint, match=r"outside its storage|makes no sense"):
        read_pickle(io.BytesIO(view_pickle(numel, offset, shape, strides)))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_what_torch_pickles_is_what_torch_unpickles(zipped, tmp_path, tiny):
    """Each tensor as torch's own reader gives it; the golden files and timm's are compared elsewhere."""
    torch.save(tiny.state_dict(), tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    expected = torch.load(tmp_path / "x.pth", weights_only=True)
    read = allmlp.load(tmp_path / "x.pth").state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], expected[name]) for name in read)


def test_a_storage_shorter_than_it_says_is_refused(tmp_path, victim):
    for numel, key in ((10**12, "0"), (100, "0"), (100, "1")):
        with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
            tensor = view_pickle(numel, 0, (4, 5), (5, 1))[2:-1]
            archive.writestr("x/data.pkl", b"\x80\x02}X\x0b\0\0\0head.weight" + tensor + b"s.")
            archive.writestr(f"x/data/{key}", bytes(396))
        assert_refused(tmp_path / "x.pth", victim, "is missing or not")


def test_a_legacy_storage_of_another_length_is_refused(tmp_path, victim, tiny):
    torch.save(tiny.state_dict(), tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "x.pth").read_bytes()
    bias = tiny.head.bias.detach().numpy().tobytes()
    at = data.index(bias) - 8
    assert struct.unpack("<q", data[at : at + 8]) == (7,)
    for length in (6, 8, -1, 2**62):
        (tmp_path / "x.pth").write_bytes(data[:at] + struct.pack("<q", length) + data[at + 8 :])
        assert_refused(tmp_path / "x.pth", victim, "instead of 7")
