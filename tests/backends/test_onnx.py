"""Our ONNX graphs: whole numbers to the bit, blocks in float among others, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allmlp.backends.manifest import Manifest
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.errors import BadCheckpoint
from allmlp.models.blocks import GMLPConfig, MixerConfig, ResMLPConfig
from allmlp.models.config import ModelConfig
from allmlp.models.model import Model
from allmlp.quantize import dynamic, reference
from allmlp.quantize.choices import Choices
from allmlp.quantize.int8 import Int8Linear
from allmlp.quantize.layers import all_layers, chosen
from allmlp.quantize.network import quantise
from allmlp.quantize.tables import to_entry
from allmlp.testing import randomise

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'allmlp[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'allmlp[export]'")

from allmlp.backends import onnx as backend  # noqa: E402
from allmlp.backends.onnx_graph import OPSET, Graph, _dynamic, _look_up, _sums  # noqa: E402

BLOCKS: dict[str, Any] = {
    "mixer": MixerConfig(token_hidden=7, channel_hidden=53, activation="erf"),
    "resmlp": ResMLPConfig(channel_hidden=37, layer_scale=0.1),
    "gmlp": GMLPConfig(hidden=58, activation="tanh"),
}


def network(name: str, depth: int = 2) -> Model:
    model = Model(ModelConfig(image_size=(12, 20), patch_size=(4, 5), width=19, depth=depth, blocks=(BLOCKS[name],),
                              num_classes=11), classes=[f"Klasse {i} ä" for i in range(11)])  # fmt: skip
    randomise(model, seed=1)
    return model.eval()


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 12, 20, 3), dtype=np.uint8)


def loaded(model: Model, path: Path, **settings: Any) -> Any:
    backend.export(model, path, **settings)
    manifest = Manifest(backend="onnx", precision=settings.get("precision", "fp32"),
                        quantiser=settings.get("quantiser"), preprocess=model.preprocess, num_classes=11)
    return backend.load(path, manifest, threads=1)


def run(graph: Graph, output: str, shape: list[Any], **inputs: np.ndarray) -> np.ndarray:
    """What ONNX Runtime computes for a graph of a few operations, set up as for an exported network."""
    helper = onnx.helper
    given = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
             for name, array in inputs.items()]
    kind = onnx.TensorProto.UINT8 if output.startswith("reshape") else onnx.TensorProto.FLOAT
    proto = helper.make_graph(graph.nodes, "part", given, [helper.make_tensor_value_info(output, kind, shape)],
                              graph.constants)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), backend.session_options(1),
                                           providers=["CPUExecutionProvider"])
    return session.run([output], inputs)[0]


@pytest.mark.parametrize("vnni", [None, False], ids=["here", "without VNNI"])
def test_sums_of_bytes_are_exact_where_16_bits_would_overflow(vnni: bool | None, monkeypatch: pytest.MonkeyPatch):
    if vnni is not None:
        monkeypatch.setattr(backend, "_has_vnni", lambda: vnni)
    random = np.random.default_rng(0)
    operand = random.integers(0, 256, (2, 9, 300), dtype=np.uint8)
    operand[:, 0] = 255
    weight = random.integers(-127, 128, (40, 300)).astype(np.int8)
    weight[0] = 127  # pairs of products add up to 64,770, and int16 ends at 32,767
    layer = Int8Linear(weight, np.ones(40, np.float32), np.zeros(40, np.float32), 3)
    graph = Graph()
    sums = run(graph, _sums(graph, "operand", layer), [2, 9, 40], operand=operand)
    exact = reference.accumulate(operand, layer)
    assert np.abs(exact).max() < 1 << 24  # so that float32 holds them
    assert np.array_equal(sums, exact)


@pytest.mark.parametrize("goes_on", [False, True])
def test_gelu_is_the_table_at_every_index_and_beyond(goes_on: bool):
    table = np.random.default_rng(0).integers(0, 256, 512, dtype=np.uint8)
    table[256:] = np.minimum(table[255] + np.arange(1, 257), 255) if goes_on else table[255]
    index = np.r_[-3:520, np.arange(515) + 0.5, 1e6].astype(np.float32)  # ties go to even numbers
    graph = Graph()
    assert np.array_equal(run(graph, _look_up(graph, "index", table), [len(index)], index=index),
                          table[to_entry(index)])


@pytest.mark.parametrize("name", BLOCKS)
def test_int8_is_the_reference(name: str, tmp_path: Path):
    model, images, calibration = network(name), pictures(5), pictures(20, seed=1)
    int8 = quantise(model, calibration)
    exact = reference.logits(int8, images)
    got = loaded(model, tmp_path / "m.onnx", precision="int8", calibration=calibration, quantiser="ours")(images)
    # Whole numbers are the same; LayerNorm's sums come in another order, and seldom a byte falls otherwise.
    assert np.abs(got - exact).max() / exact.std() < 5e-3


@pytest.mark.parametrize("layers", [(), ("stem", "blocks.1")])
@pytest.mark.parametrize("name", BLOCKS)
def test_dynamic_activations_are_the_reference(name: str, layers: tuple[str, ...], tmp_path: Path):
    model, images, calibration = network(name), pictures(5), pictures(20, seed=1)
    choices = Choices(activations="dynamic")
    left = frozenset(chosen(layers, all_layers([name == "gmlp"] * 2)))
    exact = reference.logits(quantise(model, calibration, choices, left), images)
    got = loaded(model, tmp_path / "m.onnx", precision="int8", calibration=calibration, quantiser="ours",
                 choices=choices, float_layers=left)(images)
    assert np.abs(got - exact).max() / exact.std() < 5e-3
    in_float = PyTorchPredictor(model)(images)
    assert 1e-4 < np.sqrt(np.square(got - in_float).mean()) / in_float.std() < 0.03  # it is int8, and good


def test_dynamic_rows_are_summed_to_the_bit():
    random = np.random.default_rng(0)
    x = (random.standard_normal((2, 9, 40)) * 10.0 ** np.arange(-4, 5)[:, None]).astype(np.float32)
    x[0, 0] = 0  # a row that is nothing
    layer = Int8Linear(random.integers(-127, 128, (7, 40)).astype(np.int8), np.ones(7, np.float32),
                       np.zeros(7, np.float32), 128)  # fmt: skip
    graph = Graph()
    got = run(graph, _dynamic(graph, "x", layer), [2, 9, 7], x=x)
    rows, scale = dynamic.to_rows(x)
    expected = np.array([[[sum((int(u) - 128) * int(w) for u, w in zip(row, weights, strict=True))
                           for weights in layer.weight] for row in image] for image in rows])
    assert np.array_equal(got, expected.astype(np.float32) * scale)
    assert (np.abs(rows.astype(int) - 128).max(-1) == np.where(x.any(-1), 127, 0)).all()  # each uses the whole range


@pytest.mark.parametrize("name,layers", [("mixer", ("blocks.0.channels", "blocks.1.tokens")), ("gmlp", ("blocks.0",)),
                                         ("resmlp", ("stem", "blocks.0.tokens", "blocks.1.channels"))])
def test_int8_with_layers_in_float_is_the_reference(name: str, layers: tuple[str, ...], tmp_path: Path):
    model, images, calibration = network(name), pictures(5), pictures(20, seed=1)
    exact = reference.logits(quantise(model, calibration, float_layers=frozenset(layers)), images)
    got = loaded(model, tmp_path / "m.onnx", precision="int8", calibration=calibration, quantiser="ours",
                 float_layers=layers)(images)
    assert np.abs(got - exact).max() / exact.std() < 5e-3


def test_layers_left_in_float_cost_nothing(tmp_path: Path):
    model, images = network("mixer", depth=2), pictures(8)
    exact, errors = PyTorchPredictor(model)(images), []
    half = ("blocks.0.tokens", "blocks.0.channels", "blocks.1.tokens")
    for layers in ((), half, ("stem", *half, "blocks.1.channels")):
        got = loaded(model, tmp_path / "m.onnx", precision="int8", calibration=pictures(20, 1), quantiser="ours",
                     float_layers=layers)(images)
        errors.append(np.sqrt(np.square(got - exact).mean()) / exact.std())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-4


def test_a_file_says_what_its_logits_mean_and_nothing_of_where_it_was_made(tmp_path: Path):
    model = network("resmlp")
    backend.export(model, tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(proto, full_check=True)
    said = {entry.key: entry.value for entry in proto.metadata_props}
    assert '"Klasse 3 ä"' in said["allmlp.classes"]
    assert model.preprocess.to_json() == said["allmlp.preprocess"]
    assert b"/src/" not in (tmp_path / "m.onnx").read_bytes()


@pytest.mark.parametrize("change,message", [
    (lambda content: content[:-100], "ONNX Runtime refuses it"),
    (lambda content: b"", "ONNX Runtime refuses it"),
    (lambda content: content.replace(b"images", b"pixels"), "not the graph that its manifest describes"),
])  # fmt: skip
def test_a_damaged_or_foreign_file_is_refused_in_one_line(change: Any, message: str, tmp_path: Path):
    path, model = tmp_path / "m.onnx", network("resmlp")
    backend.export(model, path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BadCheckpoint, match=message) as raised:
        backend.load(path, Manifest(backend="onnx", precision="fp32", preprocess=model.preprocess, num_classes=11))
    assert "\n" not in str(raised.value)


def test_onnx_runtime_reports_nothing_to_its_maker(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", "from allmlp.backends.packages import need; need('onnxruntime')"], check=True,
                   env={**environment, "TMPDIR": str(tmp_path)})
    assert not list(tmp_path.iterdir())  # where its number for this machine would be


def test_a_graph_cannot_read_other_files_be_they_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(np.ones(19 * 11, np.float32).tobytes())
    path, model = tmp_path / "m.onnx", network("resmlp")
    backend.export(model, path)
    proto = onnx.load(path)
    tensor = next(tensor for tensor in proto.graph.initializer if list(tensor.dims) == [19, 11])
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(BadCheckpoint, match="ONNX Runtime refuses it"):
        backend.load(path, Manifest(backend="onnx", precision="fp32", preprocess=model.preprocess, num_classes=11))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_blocks_of_other_kinds_go_by_pytorchs_exporter(tmp_path: Path):
    pytest.importorskip("onnxscript")
    block = MixerConfig(token_hidden=8, channel_hidden=16, activation="swiglu")
    model = Model(network("mixer").config.with_(blocks=(block,)))
    randomise(model, seed=1)
    exact = PyTorchPredictor(model.eval())(pictures(5))
    assert np.abs(loaded(model, tmp_path / "m.onnx")(pictures(5)) - exact).max() < 1e-5 * exact.std()
    assert b"/src/" not in (tmp_path / "m.onnx").read_bytes()
