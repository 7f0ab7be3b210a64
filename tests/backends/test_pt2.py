"""`.pt2` files can run code in PyTorch's own loader; what ours lets through."""

import contextlib
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from allmlp import checkpoint, create_model
from allmlp.backends import pt2
from allmlp.backends.manifest import Manifest
from allmlp.backends.pt2_archive import checked_archive
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.errors import BadCheckpoint
from allmlp.models.blocks import GMLPConfig
from allmlp.models.config import ModelConfig
from allmlp.models.model import Model
from allmlp.testing import randomise

GRAPH, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


@pytest.fixture(scope="module")
def model() -> Model:
    model = Model(ModelConfig(image_size=(4, 6), patch_size=(2, 2), width=8, depth=1, num_classes=3,
                              blocks=(GMLPConfig(hidden=8),)))  # fmt: skip
    randomise(model, seed=1)
    return model.eval()


@pytest.fixture(scope="module")
def written(model: Model, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    pt2.export(model, path)
    return path.read_bytes()


def load(content: bytes, model: Model, folder: Path) -> Any:
    (folder / "model.pt2").write_bytes(content)
    manifest = Manifest(backend="pt2", precision="fp32", preprocess=model.preprocess, num_classes=3)
    return pt2.load(folder / "model.pt2", manifest)


def test_an_exported_program_answers_as_the_network_does(model: Model, written: bytes, tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (66, 4, 6, 3), dtype=np.uint8)
    assert np.allclose(load(written, model, tmp_path)(images), PyTorchPredictor(model)(images), atol=1e-5)
    assert b"stack_trace" not in written
    assert b"/src/" not in written


def rewritten(content: bytes, change: Callable[[str, bytes], bytes | None], extra: dict[str, bytes] | None = None,
              compression: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with each file as `change` (its name below the root, its bytes) gives it; None: left out."""
    old, new = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    root = old.namelist()[0].partition("/")[0]
    with zipfile.ZipFile(new, "w", compression) as archive:
        for name in old.namelist():
            data = change(name.removeprefix(f"{root}/"), old.read(name))
            if data is not None:
                archive.writestr(name, data)
        for name, data in (extra or {}).items():
            archive.writestr(f"{root}/{name}", data)
    return new.getvalue()


def replaced(file: str, old: str, new: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        done = rewritten(content, lambda name, data: data.replace(old.encode(), new.encode()) if name == file else data)
        assert done != content
        return done

    return change


def said(file: str, **fields: Any) -> Callable[[bytes], bytes]:
    return lambda content: rewritten(
        content, lambda name, data: json.dumps(json.loads(data) | fields).encode() if name == file else data)


def pickled(content: bytes) -> bytes:
    stored = io.BytesIO()
    torch.save({"any": "thing"}, stored)
    return rewritten(content, lambda name, data: stored.getvalue() if name.endswith("model.pt") else data)


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a call": (replaced(GRAPH, "torch.ops.aten.linear.default", "torch.hub.load"), "'torch.hub.load'"),
    "a file read": (replaced(GRAPH, "torch.ops.aten.gelu.default", "torch.ops.aten.from_file.default"), "from_file"),
    "an operator": (replaced(GRAPH, '"as_int"', '"as_operator"'), "'as_operator'"),
    "a formula": (replaced(GRAPH, "Symbol('", "__import__('os').system('true') or Symbol('"), "the formula"),
    "code": (said(GRAPH, guards_code=["print(1)"]), "guards"),
    "a pickled tensor": (replaced(WEIGHTS, '"use_pickle": false', '"use_pickle": true'), "is a pickle"),
    "an object": (replaced(WEIGHTS, '"weight_0"', '"custom_obj_0"'), "is a pickle"),
    "example inputs": (pickled, "example inputs"),
    "a library": (lambda content: rewritten(content, lambda name, data: data, {"data/aotinductor/m.so": b"ELF"}),
                  "a file 'data/aotinductor/m.so'"),
    "old weights": (lambda content: rewritten(content, lambda name, data: data, {"data/weights/model.pt": b"x"}),
                    "a file 'data/weights/model.pt'"),
    "no graph": (lambda content: rewritten(content, lambda name, data: None if name == GRAPH else data), "damaged"),
    "compressed": (lambda content: rewritten(content, lambda name, data: data, compression=zipfile.ZIP_DEFLATED),
                   "compressed"),
    "another shape of graph": (said(GRAPH, graph_module=[{"target": 3}]), "damaged"),
    "cut off": (lambda content: content[: len(content) // 2], "damaged"),
    "no archive": (lambda content: b"\x80\x04.", "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_could_run_something_is_refused(name: str, model: Model, written: bytes, tmp_path: Path):
    change, message = HOSTILE[name]
    with pytest.raises(BadCheckpoint, match=message) as raised:
        load(change(written), model, tmp_path)
    assert "\n" not in str(raised.value)


def test_a_graph_that_pytorch_cannot_read_is_told_in_one_line_and_nothing_else(
        model: Model, written: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    later = said(GRAPH, schema_version={"major": 99, "minor": 1})(written)
    with pytest.raises(BadCheckpoint, match="cannot read its graph: damaged, or written by a later version"):
        load(later, model, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_two_files_of_one_name_are_refused(written: bytes):
    content = io.BytesIO(written)
    with zipfile.ZipFile(content, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[0], b"")
    with pytest.raises(BadCheckpoint, match="not those of one exported program"):
        checked_archive(content.getvalue(), "m.pt2")


class Writes:
    """What writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.path, "ran")


def two_faced(shown: bytes, hidden: bytes) -> bytes:
    """One file that is the archive `shown` for Python's zipfile, which takes the directory right before the end record
    and moves all offsets by as much as it lies elsewhere than stated, and `hidden` for those who go by the end record.
    Both have directories of equal length, since one end record states it."""
    (members, directory, _), (hidden_members, hidden_directory, end) = map(parts_of, (shown, hidden))
    assert len(directory) == len(hidden_directory)
    moved, start = b"", 0
    while start < len(directory):
        name, extra, comment = struct.unpack("<HHH", directory[start + 28 : start + 34])
        (offset,) = struct.unpack("<I", directory[start + 42 : start + 46])
        stop = start + 46 + name + extra + comment
        offset += len(hidden_members) - len(members)
        moved += directory[start : start + 42] + struct.pack("<I", offset) + directory[start + 46 : stop]
        start = stop
    return hidden_members + hidden_directory + members + moved + end


def parts_of(archive: bytes) -> tuple[bytes, bytes, bytes]:
    """Members, directory, end record."""
    end = len(archive) - 22
    size, start = struct.unpack("<II", archive[end + 12 : end + 20])
    return archive[:start], archive[start : start + size], archive[end:]


def test_pytorch_gets_no_other_archive_of_a_file_than_the_one_that_was_checked(
        model: Model, written: bytes, tmp_path: Path):
    ran, images = tmp_path / "ran", np.zeros((1, 4, 6, 3), np.uint8)
    evil = pickle.dumps(Writes(ran))
    shown = rewritten(written, lambda name, data: data)  # without the padding of PyTorch's own
    hidden = rewritten(replaced(WEIGHTS, '"use_pickle": false', '"use_pickle": true')(written),
                       lambda name, data: evil if name.startswith("data/weights/weight_") else data)
    content = two_faced(shown, hidden)
    with contextlib.suppress(Exception):  # whatever it makes of what the pickle returns
        torch.export.load(io.BytesIO(content))
    assert ran.exists(), "PyTorch does not look where it did: the file proves nothing any more"
    ran.unlink()
    assert np.array_equal(load(content, model, tmp_path)(images), load(written, model, tmp_path)(images))
    assert not ran.exists()


@pytest.mark.parametrize("shows_weights", [True, False])
def test_weights_that_are_two_archives_run_nothing_whichever_is_read(shows_weights: bool, tmp_path: Path):
    weights, ran = create_model("mixer_p2_8", num_classes=3).state_dict(), tmp_path / "ran"
    stored = io.BytesIO()
    torch.save(weights, stored)
    evil = pickle.dumps(Writes(ran), 2)
    good, bad = (rewritten(stored.getvalue(), change) for change in (
        lambda name, data: data, lambda name, data: evil.ljust(len(data), b"\0") if name == "data.pkl" else data))
    (tmp_path / "weights.pth").write_bytes(two_faced(good, bad) if shows_weights else two_faced(bad, good))
    if shows_weights:
        torch.load(tmp_path / "weights.pth", weights_only=False)
        assert ran.exists(), "PyTorch does not look where it did: the file proves nothing any more"
        ran.unlink()
        assert checkpoint.load(tmp_path / "weights.pth").state_dict().keys() == weights.keys()
    else:
        with pytest.raises(BadCheckpoint, match="could run code"):
            checkpoint.load(tmp_path / "weights.pth")
    assert not ran.exists()
