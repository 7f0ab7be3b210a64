"""The engine as a backend: what it computes against PyTorch, and what it refuses."""

import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from allmlp import create_model, load_predictor
from allmlp.backends import manifest as manifests
from allmlp.backends import native, native_file
from allmlp.backends.graph import check_exportable
from allmlp.backends.manifest import Manifest
from allmlp.backends.native_file import CHECKSUM, to_bf16
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.cli import main
from allmlp.errors import BadCheckpoint, BadData, BadSetting, MissingPackage
from allmlp.models.blocks import GMLPConfig, MixerConfig, ResMLPConfig
from allmlp.models.config import ModelConfig
from allmlp.models.layers import IdentityConfig, LayerNormConfig
from allmlp.models.model import Model
from allmlp.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from allmlp.quantize import reference
from allmlp.quantize.arithmetic import rounded_to_bf16
from allmlp.quantize.exact import as_float32
from allmlp.quantize.int8 import Int8Mixer, Int8ResMLP
from allmlp.quantize.layers import all_layers, chosen
from allmlp.quantize.network import quantise
from allmlp.quantize.parts import take_apart
from allmlp.testing import randomise

allmlp_native = pytest.importorskip("allmlp_native", reason="the engine is not built: make native")

LEVELS = sorted({row["level"] for row in allmlp_native.kernels() if row["here"]})
# Largest error of a logit over the logits' standard deviation: sums of some hundred terms in float32; operands with 8
# bits of mantissa; operands of 8 bits.
TOLERANCE = {"fp32": 1e-5, "bf16": 0.03, "int8": 0.1}
BLOCKS: dict[str, Any] = {
    "mixer": MixerConfig(token_hidden=7, channel_hidden=53),
    "mixer with erf": MixerConfig(token_hidden=16, channel_hidden=32, activation="erf"),
    "resmlp": ResMLPConfig(channel_hidden=37, layer_scale=0.1),
    "gmlp": GMLPConfig(hidden=58),
    "gmlp with tanh": GMLPConfig(hidden=64, activation="tanh", norm=LayerNormConfig(epsilon=1e-3)),
}


def network(name: str, width: int = 19, depth: int = 2, image_size: tuple[int, int] = (12, 20), **fields: Any) -> Model:
    """A small network of odd sizes, not square, with weights that hide nothing."""
    config = ModelConfig(image_size=image_size, patch_size=fields.pop("patch_size", (4, 5)), width=width, depth=depth,
                         blocks=(BLOCKS[name],), num_classes=fields.pop("num_classes", 11), **fields)  # fmt: skip
    channels = 1 if config.in_channels == 1 else 3
    preprocess = Preprocess(image_size=image_size, mean=IMAGENET_MEAN, std=IMAGENET_STD, channels=channels)
    model = Model(config, preprocess, [f"class {i}" for i in range(config.num_classes)])
    randomise(model, seed=1)
    return model.eval()


def pictures(model: Model, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *model.config.image_size, 3), dtype=np.uint8)


def error(got: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(got - exact).max() / exact.std())


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("precision", native.PRECISIONS)
@pytest.mark.parametrize("name", BLOCKS)
def test_the_engine_gives_the_logits_of_pytorch(name: str, precision: native.Precision, level: str, tmp_path: Path):
    model = network(name)
    images = pictures(model, 5)
    native.export(model, tmp_path / "m", precision, calibration=pictures(model, 40, seed=1))
    got = native.load(tmp_path / "m", threads=2, level=level)(images)
    assert got.shape == (5, 11)
    assert got.dtype == np.float32
    assert error(got, PyTorchPredictor(model)(images)) < TOLERANCE[precision]


@pytest.mark.parametrize("name,larger", [("mixer", 1), ("mixer", 6), ("mixer with erf", 6), ("resmlp", 1), ("gmlp", 1),
                                         ("gmlp", 6), ("gmlp with tanh", 6)])
def test_int8_is_the_reference_on_every_level(name: str, larger: float, tmp_path: Path):
    model = network(name, width=48)
    with torch.no_grad():
        for parameter, weight in model.named_parameters():
            if parameter.endswith(".fc1.weight"):
                weight.mul_(larger)
    images, calibration = pictures(model, 9), pictures(model, 20, seed=1)
    native.export(model, tmp_path / "m", "int8", calibration)
    int8 = quantise(model, calibration)
    tables = [block.channels_table for block in int8.blocks if isinstance(block, Int8Mixer | Int8ResMLP)]
    assert larger == 1 or all(table[256] > table[255] for table in tables)  # GELU's arguments are far apart: they go on
    exact = reference.logits(int8, images)
    for level in LEVELS:
        # All whole numbers are the same; LayerNorm's sums come in another order, and seldom a byte falls otherwise.
        got = native.load(tmp_path / "m", 1, level)(images)
        assert error(got, exact) < 5e-3, level
        assert np.median(np.abs(got - exact).max(1)) / exact.std() < 1e-5, level


STORED: dict[native.Precision, Any] = {"bf16": rounded_to_bf16, "fp32": as_float32}


@pytest.mark.parametrize("precision", STORED)
@pytest.mark.parametrize("name,layers", [
    ("mixer", ["blocks.0.tokens", "blocks.1.channels"]), ("mixer with erf", ["stem", "blocks.0.channels"]),
    ("resmlp", ["blocks.0.tokens", "blocks.1.channels"]), ("resmlp", ["stem", "blocks.0"]), ("gmlp", ["blocks.1"]),
    ("gmlp with tanh", ["stem", "blocks.0"]),
])  # fmt: skip
def test_layers_left_in_float_are_those_of_the_reference(name: str, layers: list[str], precision: native.Precision,
                                                         tmp_path: Path):
    model = network(name, width=48)
    images, calibration = pictures(model, 4), pictures(model, 20, seed=1)
    int8 = quantise(model, calibration)
    layers = [*chosen(layers, all_layers([name.startswith("gmlp")] * len(int8.blocks)))]
    native.export(model, tmp_path / "m", "int8", calibration, float_layers=dict.fromkeys(layers, precision))
    mixed = quantise(model, calibration, float_layers=frozenset(layers))
    exact = reference.logits(mixed, images, STORED[precision])
    errors = {level: error(native.load(tmp_path / "m", 1, level)(images), exact) for level in LEVELS}
    assert errors["scalar"] < 1e-5  # it sums in the reference's order: every byte is the same
    assert max(errors.values()) < 5e-3  # others add floats in another order, and seldom a byte falls otherwise
    assert error(reference.logits(int8, images), exact) > 1e-3  # else these layers might as well be int8


def test_what_bytes_leave_behind_is_no_number_to_a_layer_in_float(tmp_path: Path):
    # Patches of 45 numbers fill the last pair of bf16 by half; the other half lies where channel mixing had bytes.
    model = network("mixer", width=96, patch_size=(3, 5))
    with torch.no_grad():  # bytes of 255, which as bf16 are not a number
        model.blocks[1].get_parameter("norm2.bias")[88:] = 1000
    images, calibration = pictures(model, 3), pictures(model, 20, seed=1)
    native.export(model, tmp_path / "m", "int8", calibration, float_layers={"stem": "bf16"})
    logits = native.load(tmp_path / "m", 1)(images)
    assert np.array_equal(native.load(tmp_path / "m", 1)(images[2:]), logits[2:])
    assert np.isfinite(logits).all()


def test_grey_networks_see_the_luma_of_colours(tmp_path: Path):
    model = network("mixer", in_channels=1)
    native.export(model, tmp_path / "m")
    images = pictures(model, 3)
    assert error(native.load(tmp_path / "m", 1)(images), PyTorchPredictor(model)(images)) < TOLERANCE["fp32"]


@pytest.mark.parametrize("name,precision,float_layers", [
    *(("mixer", precision, {}) for precision in native.PRECISIONS),
    ("gmlp", "int8", {"stem": "bf16", "blocks.0": "fp32"}),
    ("mixer", "int8", {"blocks.0.tokens": "bf16", "blocks.1.channels": "bf16", "blocks.0.channels": "fp32"}),
])  # fmt: skip
def test_logits_do_not_depend_on_threads_or_on_the_other_images(name: str, precision: native.Precision,
                                                                float_layers: dict[str, native.Precision],
                                                                tmp_path: Path):
    model = network(name, width=70, image_size=(28, 35))
    images = pictures(model, 67)  # more than a chunk of 64
    native.export(model, tmp_path / "m", precision, images[:8], float_layers=float_layers)
    alone = native.load(tmp_path / "m", threads=1)
    logits = alone(images)
    for threads in (2, 3, 5):
        assert np.array_equal(native.load(tmp_path / "m", threads)(images), logits)
    assert np.array_equal(np.concatenate([alone(images[i : i + 1]) for i in (0, 33, 66)]), logits[[0, 33, 66]])


def test_no_images_give_no_logits(tmp_path: Path):
    model = network("mixer")
    native.export(model, tmp_path / "m")
    assert native.load(tmp_path / "m")(pictures(model, 0)).shape == (0, 11)


def test_a_file_is_a_predictor_like_any_other(tmp_path: Path):
    model = network("resmlp")
    native.export(model, tmp_path / "model.allmlp")
    predictor = load_predictor(tmp_path / "model.allmlp")
    assert predictor.preprocess == model.preprocess
    assert predictor.classes == model.classes
    assert predictor.output == "softmax"
    with pytest.raises(BadSetting, match="exported for images of"):
        load_predictor(tmp_path / "model.allmlp", image_size=(24, 20))
    with pytest.raises(BadSetting, match="runs on the CPU"):
        load_predictor(tmp_path / "model.allmlp", device="cuda")
    for wrong in (pictures(model, 1)[0], pictures(model, 1)[:, :4], pictures(model, 1).astype(np.float32)):
        with pytest.raises(BadData, match="expected uint8"):
            predictor(wrong)


@pytest.mark.parametrize("change,message", [
    ({"blocks": (MixerConfig(token_hidden=8, channel_hidden=8, activation="swiglu"),)}, "gated mixers"),
    ({"num_classes": 0}, "num_classes 0"),
    ({"global_pool": ""}, "global_pool ''"),
])  # fmt: skip
def test_what_the_engine_cannot_run_is_refused_by_name(change: dict[str, Any], message: str, tmp_path: Path):
    config = network("mixer").config.with_(**change)
    with pytest.raises(BadSetting, match=message):
        native.export(Model(config), tmp_path / "m")


def test_patches_too_large_for_int8_are_refused_before_a_file_is_written(tmp_path: Path):
    model = network("mixer", image_size=(128, 128), patch_size=(128, 128))
    with pytest.raises(BadSetting, match="numbers of a patch in int8: 49,152; the engine takes at most 32,768; use"):
        native.export(model, tmp_path / "m", "int8", pictures(model, 2))
    assert list(tmp_path.iterdir()) == []


def test_int8_asks_for_images_and_precisions_for_their_names(tmp_path: Path):
    model = network("mixer")
    with pytest.raises(BadSetting, match="images of the training set"):
        native.export(model, tmp_path / "m", "int8")
    with pytest.raises(BadData, match="at least one image"):
        native.export(model, tmp_path / "m", "int8", pictures(model, 0))
    with pytest.raises(BadSetting, match="accepted: fp32, bf16, int8"):
        native.export(model, tmp_path / "m", "fp16")  # type: ignore[arg-type]


def test_a_level_or_number_of_threads_that_is_none_is_refused(tmp_path: Path):
    native.export(network("mixer"), tmp_path / "m")
    with pytest.raises(BadSetting, match="no level 'neon512'; accepted: auto"):
        native.load(tmp_path / "m", level="neon512")
    with pytest.raises(BadSetting, match="threads must be 1 to 256"):
        native.load(tmp_path / "m", threads=0)
    for threads in (2**40, -1, 1.5, "2"):
        with pytest.raises(ValueError, match=f"threads must be 1 to 256, not {threads!r}"):
            allmlp_native.Model(tmp_path / "m", threads=threads)
        with pytest.raises(ValueError, match="threads must be 1 to 256"):
            allmlp_native.peak("fp32", threads=threads)


FEW_THREADS = """
import resource, sys
import numpy as np
from allmlp.backends import native
from allmlp.errors import BadSetting
alone = native.load(sys.argv[1], threads=1)
images = np.zeros((1, *alone.preprocess.image_size, 3), np.uint8)
logits = alone(images)
many = native.load(sys.argv[1], threads=200)  # so small a network is packed by one thread
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (taken + (300 << 20), limits[1]))
try:
    many(images)
except BadSetting as error:
    print(error)
assert np.array_equal(alone(images), logits)
resource.setrlimit(resource.RLIMIT_AS, limits)
assert np.array_equal(many(images), logits)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system has no /proc")
def test_threads_that_the_system_does_not_give_are_a_wrong_setting_and_the_rest_goes_on(tmp_path: Path):
    native.export(network("mixer"), tmp_path / "m")
    said = subprocess.run([sys.executable, "-c", FEW_THREADS, str(tmp_path / "m")], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert re.fullmatch(r"the system gives this process \d+ threads, not 200; ask for fewer\n", said.stdout)


def test_a_description_that_does_not_fit_the_network_is_refused(tmp_path: Path):
    def write(changed: bytes) -> None:
        body = changed[: -CHECKSUM.size]
        (tmp_path / "m").write_bytes(body + CHECKSUM.pack(zlib.crc32(body)))

    native.export(network("mixer"), tmp_path / "m")
    content = (tmp_path / "m").read_bytes()
    resize = b'"resize": "shorter",'
    for old, new in [(b'"class 3"', b'3        '), (b'"softmax"', b'"softmix"'), (b'"classes"', b'"clusses"'),
                     (resize, b" " * len(resize))]:  # fmt: skip
        assert old in content
        write(content.replace(old, new))
        with pytest.raises(BadCheckpoint, match="doesn't fit"):
            native.load(tmp_path / "m")
    write(content.replace(b'"output"', b'"output '))
    with pytest.raises(BadCheckpoint, match="m: the description of the model is damaged; export the network again"):
        native.load(tmp_path / "m")


def test_class_names_that_no_description_can_hold_are_refused_before_the_work(tmp_path: Path,
                                                                            monkeypatch: pytest.MonkeyPatch):
    model = network("mixer")
    monkeypatch.setattr(native_file, "MOST_ABOUT", 300)
    with pytest.raises(BadSetting, match=r"class names: .* at most 300 bytes, and .* takes \d{3}; give .* shorter"):
        native.export(model, tmp_path / "m")
    monkeypatch.setattr(manifests, "MAX_BYTES", (1 << 20) + 50)
    with pytest.raises(BadSetting, match=r"class names: they take \d{3} bytes .*; give the classes shorter names"):
        check_exportable(model, "native", "fp32")
    assert not list(tmp_path.iterdir())


def test_class_names_of_another_encoding_are_refused_before_the_work(tmp_path: Path):
    model = create_model("mixer_p2_8", classes=["caf\udce9", "dog"])  # what a folder named in Latin-1 is to Python
    for refused in (lambda: check_exportable(model, "onnx", "fp32"), lambda: native.export(model, tmp_path / "m")):
        with pytest.raises(BadSetting, match=r"class 0, 'caf\?': its name is no text in Unicode") as raised:
            refused()
        assert str(raised.value).isprintable()
    assert not list(tmp_path.iterdir())


def test_a_manifest_that_says_otherwise_than_the_engines_file_is_refused(tmp_path: Path):
    model = network("mixer")
    native.export(model, tmp_path / "model.allmlp")
    manifest = Manifest(backend="native", precision="fp32", preprocess=model.preprocess, num_classes=model.num_classes,
                        classes=model.classes, output=model.output, files=manifests.digests(tmp_path))
    manifests.write(tmp_path, manifest)
    load_predictor(tmp_path)
    for otherwise in ({"output": "sigmoid"}, {"other_sizes": "windows"}, {"classes": None}):
        manifests.write(tmp_path, manifest.with_(**otherwise))
        with pytest.raises(BadCheckpoint, match="not the network that its manifest describes; export the network agai"):
            load_predictor(tmp_path)


def test_a_description_of_any_depth_is_refused_in_one_line(tmp_path: Path):
    parts = take_apart(network("mixer"))
    for depth in range(20, 1100, 20):  # between those that are read and those that are not: read, but not written
        held = b'"' + b"x" * (2 * depth - 2) + b'"'
        native_file.write(tmp_path / "m", parts, "fp32", {"preprocess": held[1:-1].decode()})
        body = (tmp_path / "m").read_bytes()[: -CHECKSUM.size].replace(held, b"[" * depth + b"]" * depth)
        (tmp_path / "m").write_bytes(body + CHECKSUM.pack(zlib.crc32(body)))
        with pytest.raises(BadCheckpoint, match="doesn't fit|description of the model is damaged"):
            native.load(tmp_path / "m", threads=1)


def test_a_flipped_bit_is_one_line_and_exit_code_2_for_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = network("mixer")
    native.export(model, tmp_path / "m.allmlp")
    Image.fromarray(pictures(model, 1)[0]).save(tmp_path / "i.png")
    assert main(["predict", str(tmp_path / "m.allmlp"), str(tmp_path / "i.png")]) == 0
    content = bytearray((tmp_path / "m.allmlp").read_bytes())
    content[len(content) // 2] ^= 16
    (tmp_path / "m.allmlp").write_bytes(content)
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "m.allmlp"), str(tmp_path / "i.png")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "m.allmlp: damaged: what it holds does not have the checksum" in said.err


def test_without_the_engine_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    native.export(network("mixer"), tmp_path / "m")
    monkeypatch.setitem(sys.modules, "allmlp_native", None)
    with pytest.raises(MissingPackage, match="make native"):
        load_predictor(tmp_path / "m")


def test_the_engine_answers_without_pytorch(tmp_path: Path):
    model = network("mixer")
    native.export(model, tmp_path / "m")
    np.save(tmp_path / "images.npy", pictures(model, 2))
    program = ("import sys, numpy, allmlp_native; m = allmlp_native.Model(sys.argv[1]);"
               "numpy.save(sys.argv[3], m(numpy.load(sys.argv[2]))); assert 'torch' not in sys.modules")
    paths = [str(tmp_path / name) for name in ("m", "images.npy", "logits.npy")]
    subprocess.run([sys.executable, "-c", program, *paths], check=True)
    exact = PyTorchPredictor(model)(pictures(model, 2))
    assert error(np.load(tmp_path / "logits.npy"), exact) < TOLERANCE["fp32"]


def test_bf16_weights_are_rounded_as_pytorch_rounds():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    values[:3] = 1 + 2**-8, 1 + 3 * 2**-8, -1e-40  # two ties and a denormal
    expected = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(to_bf16(values), expected)


def test_a_network_without_norms_runs(tmp_path: Path):
    block = BLOCKS["mixer"].with_(norm=IdentityConfig())
    model = Model(network("mixer").config.with_(blocks=(block,), norm=IdentityConfig()))
    randomise(model, seed=2)
    native.export(model.eval(), tmp_path / "m")
    images = pictures(model, 2)
    assert error(native.load(tmp_path / "m", 1)(images), PyTorchPredictor(model)(images)) < TOLERANCE["fp32"]
