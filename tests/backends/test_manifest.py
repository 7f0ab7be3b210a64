"""An exported folder from somebody else: what its manifest may say, and what may lie beside it."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allmlp import load_predictor
from allmlp.backends import BACKENDS
from allmlp.backends import manifest as manifests
from allmlp.backends.export import Wish
from allmlp.backends.manifest import Manifest
from allmlp.backends.packages import EXTRAS, need
from allmlp.errors import BadCheckpoint, BadSetting, MissingPackage
from allmlp.preprocess import Preprocess


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose manifest is in order; that its network is none is found out by its runtime."""
    export = tmp_path / "export"
    export.mkdir()
    (export / "model.onnx").write_bytes(b"no graph")
    manifests.write(export, Manifest(backend="onnx", precision="fp32", preprocess=Preprocess(image_size=(8, 8)),
                                     num_classes=2, classes=("a", "b"), files=manifests.digests(export)))
    return export


def changed(folder: Path, **fields: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_manifest_comes_back_as_it_was_written(folder: Path):
    manifest = manifests.read(folder)
    assert manifests.is_export(folder)
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.files["model.onnx"].bytes == len(b"no graph")
    manifests.check_files(folder, manifest, ["model.onnx"])


def test_blocks_in_float_of_older_manifests_are_their_layers(folder: Path):
    fields = json.loads((folder / "manifest.json").read_text())
    del fields["float_layers"]
    assert Manifest.from_json(json.dumps(fields | {"float_blocks": []})) == manifests.read(folder)
    fields |= {"precision": "int8", "quantiser": "ours"}
    assert Manifest.from_json(json.dumps(fields | {"float_blocks": [2]})).float_layers == {"blocks.2": "fp32"}
    with pytest.raises(BadSetting, match="numbers of blocks"):
        Manifest.from_json(json.dumps(fields | {"float_blocks": {"a": 1}}))


DIGEST = {"bytes": 8, "sha256": "0" * 64}


@pytest.mark.parametrize("fields,message", [
    ({"format": 2}, "format"),
    ({"code": "import os"}, "code"),
    ({"classes": ["a"]}, "1 class names for 2 classes"),
    ({"num_classes": 10**12}, "num_classes"),
    ({"backend": "pickle"}, "exported for 'pickle'"),
    ({"division": {"data": "/photos", "val_fraction": 1, "seed": 0}}, "less than 1"),
    ({"precision": "fp64"}, "precision"),
    ({"preprocess": {"image_size": [0, 8]}}, "at least 1 pixel"),
    ({"preprocess": {"image_size": [8, 10**9]}}, "at most 16384"),
    ({"files": {"model.onnx": DIGEST}}, "digest differs"),
    ({"files": {}}, "does not list model.onnx"),
    ({"files": {"weights.bin": DIGEST, "model.onnx": DIGEST}}, "missing"),
    ({"files": {"n" * 300: DIGEST, "model.onnx": DIGEST}}, "missing"),
    ({"files": {"../export/model.onnx": DIGEST, "model.onnx": DIGEST}}, "outside its folder"),
    ({"files": {"/etc/hostname": DIGEST, "model.onnx": DIGEST}}, "outside its folder"),
])  # fmt: skip
def test_a_manifest_that_cannot_be_right_is_refused_in_one_line(fields: dict[str, Any], message: str, folder: Path):
    changed(folder, **fields)
    with pytest.raises(BadCheckpoint, match=message) as raised:
        load_predictor(folder)
    assert "\n" not in str(raised.value)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"quantiser": "ort"}, "calibration 'mse': of our own int8 only"),
    ({"quantiser": "magic", "calibration": None, "migrate": None, "activations": None},
     "exported for onnx in int8 by 'magic', which it does not have; it has fp32, int8"),
    ({"quantiser": None}, "quantiser None with precision 'int8'"),
    ({"precision": "fp32"}, "quantiser 'ours' with precision 'fp32'"),
    ({"precision": "bf16", "quantiser": None, "calibration": None, "migrate": None, "activations": None},
     "exported for onnx in bf16, which it does not have"),
    ({"calibration": "guess"}, "calibration: .* 'minmax', 'percentile' or 'mse' .got 'guess'"),
    ({"migrate": 7}, "migrate: .* 1 .got 7"),
    ({"migrate": "0.5"}, "migrate: .* number .got '0.5'"),
    ({"activations": "other"}, "activations: .* 'static' or 'dynamic' .got 'other'"),
    ({"float_layers": {"blocks.x": "fp32"}}, "float_layers: 'blocks.x' in fp32; a layer is stem, blocks.N"),
    ({"float_layers": {"blocks.0": "int8"}}, "float_layers: 'blocks.0' in int8; .* in fp32 or bf16"),
    ({"sensitivity": [{"layer": "stem", "block": None, "rms_error": -1, "top1_agreement_percent": 99}]}, "rms_error"),
    ({"num_classes": "2"}, "num_classes: .* integer .got '2'"),
    ({"output": None}, "output: .* 'softmax' or 'sigmoid' .got None"),
]


@pytest.mark.parametrize("fields,message", WRONG)
def test_what_a_manifest_says_of_its_int8_is_checked_by_name_and_value(fields: dict[str, Any], message: str,
                                                                       folder: Path):
    ours = {"precision": "int8", "quantiser": "ours", "calibration": "mse", "migrate": 0.5, "activations": "static"}
    changed(folder, **ours)
    manifests.read(folder)
    changed(folder, **ours | fields)
    with pytest.raises(BadCheckpoint, match=rf"{message}.*; export the network again$"):
        load_predictor(folder)


@pytest.mark.parametrize("field", ["format", "backend", "precision", "preprocess", "num_classes", "classes", "output",
                                   "files", *(f"preprocess.{name}" for name in Preprocess.model_fields)])
def test_a_field_that_changes_an_answer_is_not_guessed_where_a_manifest_lacks_it(field: str, folder: Path):
    outer, _, inner = field.partition(".")
    fields = json.loads((folder / "manifest.json").read_text())
    del (fields[outer] if inner else fields)[inner or outer]
    (folder / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(BadCheckpoint, match=rf"manifest.json: .*\b{inner or outer}\b.*; export the network again$"):
        load_predictor(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', "[" * 100_000, "\x00"])
def test_what_is_no_manifest_is_refused(text: str, folder: Path):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(BadCheckpoint, match="manifest.json"):
        load_predictor(folder)


def test_a_manifest_without_end_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(manifests, "MAX_BYTES", 100)
    with pytest.raises(BadCheckpoint, match="which no manifest of an export takes"):
        load_predictor(folder)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_link_out_of_the_folder_is_not_followed(name: str, folder: Path):
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)
    with pytest.raises(BadCheckpoint, match="leads out of its folder"):
        load_predictor(folder)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_lies_there_and_is_no_file_is_not_called_missing(make: Callable[[Path], None], folder: Path):
    (folder / "model.onnx").unlink()
    make(folder / "model.onnx")
    with pytest.raises(BadCheckpoint, match=r"model\.onnx: no file; copy"):
        manifests.check_files(folder, manifests.read(folder), ["model.onnx"])


def test_a_folder_that_is_a_link_is_not_entered(folder: Path):
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "elsewhere" / "model.safetensors").write_bytes(b"weights")
    (folder / "timm").symlink_to(folder.parent / "elsewhere")
    (folder.parent / "elsewhere" / "config.json").write_bytes(b"{}")
    listed = {f"timm/{name}": manifests.digest(folder / "timm" / name).model_dump()
              for name in ("model.safetensors", "config.json")}
    changed(folder, backend="timm", files=listed)
    with pytest.raises(BadCheckpoint, match="behind a link"):
        load_predictor(folder)


@pytest.mark.parametrize("backend,unlisted", [("openvino", "model.bin"), ("timm", "timm/config.json"),
                                              ("timm", "timm/model.safetensors")])  # fmt: skip
def test_a_file_that_the_runtime_would_open_unlisted_is_refused(backend: str, unlisted: str, folder: Path):
    (folder / "timm").mkdir()
    for name in ("model.xml", "model.bin", "timm/config.json", "timm/model.safetensors"):
        (folder / name).write_bytes(b"any")
    (folder / unlisted).rename(folder.parent / "elsewhere")
    (folder / unlisted).symlink_to(folder.parent / "elsewhere")
    listed = {name: digest.model_dump() for name, digest in manifests.digests(folder).items() if name != unlisted}
    changed(folder, backend=backend, files=listed)
    with pytest.raises(BadCheckpoint, match=f"does not list {unlisted}"):
        load_predictor(folder)


def test_an_export_has_one_size_and_runs_on_the_cpu(folder: Path):
    with pytest.raises(BadSetting, match=r"exported for images of \(8, 8\)"):
        load_predictor(folder, image_size=(8, 12))
    with pytest.raises(BadSetting, match="accepted: auto, cpu"):
        load_predictor(folder, device="cuda")


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(EXTRAS, "no_such_runtime", "export")
    with pytest.raises(MissingPackage, match=r"pip install 'allmlp\[export\]'"):
        need("no_such_runtime.inner")
    monkeypatch.setitem(sys.modules, "allmlp_native", None)  # as if it were not installed
    with pytest.raises(MissingPackage, match="install it: make native$"):
        Wish("native").checked()


def test_each_backend_says_what_it_writes_and_how_exact_it_is():
    for name, backend in BACKENDS.items():
        assert "fp32" in backend.limits, name
        assert bool(backend.quantisers) == ("int8" in backend.limits), name
        assert all(0 < limit < 1 for limit in backend.limits.values()), name
