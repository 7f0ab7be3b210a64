"""`allmlp export --precision int8` of networks that int8 ruins: layer by layer back to float, or refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import allmlp
from allmlp import checkpoint, load_predictor
from allmlp.backends import manifest as manifests
from allmlp.backends.export import Wish, export
from allmlp.commands.export import evidence, pictures
from allmlp.data import open_data
from allmlp.models.blocks import MixerConfig
from allmlp.models.config import ModelConfig
from allmlp.models.model import Model
from allmlp.preprocess import Preprocess, fit, to_network_input
from allmlp.testing import randomise

pytest.importorskip("allmlp_native", reason="the engine is not built: make native")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for the digits, large enough for int8 to be quicker, in which hidden units without effect in two layers
    are far outside the range of the others: random features, and a head fitted to them in closed form."""
    digits = open_data("digits")
    model = Model(ModelConfig(image_size=(32, 32), patch_size=(4, 4), width=128, depth=2, num_classes=10,
                              blocks=(MixerConfig(token_hidden=64, channel_hidden=512),)),
                  Preprocess(image_size=(32, 32)), digits.classes).eval()  # fmt: skip
    randomise(model, seed=0)
    train = digits.splits["train"]
    chosen = np.arange(0, len(train), 3)
    images = np.stack([fit(train.image(int(index)), model.preprocess) for index in chosen])
    with torch.inference_mode():
        features = model.forward_features(to_network_input(images, model.preprocess)).mean(1).double()
        wanted = torch.eye(10, dtype=torch.double)[torch.from_numpy(train.labels[chosen])] * 10
        middle = features.mean(0)
        centred = features - middle
        ridge = 0.1 * centred.square().sum(0).mean() * torch.eye(centred.shape[1])
        weight = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (wanted - wanted.mean(0)))
        model.get_parameter("head.weight").copy_(weight.T)
        model.get_parameter("head.bias").copy_(wanted.mean(0) - middle @ weight)
        for block in model.blocks:
            block.get_parameter("mlp_channels.fc1.bias")[:8] = 3000
            block.get_parameter("mlp_channels.fc2.weight")[:, :8] = 0
    path = tmp_path_factory.mktemp("planted") / "planted.safetensors"
    allmlp.save(model, path)
    return path


@pytest.mark.slow
def test_layers_that_int8_ruins_stay_in_float_and_the_rest_is_int8(cli, planted: Path, tmp_path: Path):
    code, out, err = cli("export", planted, "--to", "native", "--precision", "int8", "--max-drop", 0.5, "--data",
                         "digits", "--threads", 1, "--output", tmp_path / "int8")
    assert code == 0, err
    assert "\n0 layers in float: its logits differ" in out
    manifest = manifests.read(tmp_path / "int8")
    left = manifest.float_layers
    assert "blocks.0.channels" in left  # in which there are outliers, and so much behind it
    for precision in {*left.values()}:
        assert f"left in {precision}: blocks." in out
    found = manifest.verification
    assert found is not None
    assert found.accuracy_drop is not None
    assert found.accuracy_drop <= 0.5
    model = getattr(load_predictor(tmp_path / "int8"), "model")  # noqa: B009
    layers = ["stem", "blocks.0.tokens", "blocks.0.channels", "blocks.1.tokens", "blocks.1.channels"]
    assert model.precisions == [left.get(layer, "int8") for layer in layers]
    assert "int8" in model.precisions


@pytest.mark.slow
def test_int8_is_refused_where_no_number_of_layers_in_float_is_enough(planted: Path, tmp_path: Path):
    model, digits = checkpoint.load(planted), open_data("digits")
    done = export(model, tmp_path / "int8", Wish("native", "int8", max_drop=-50, threads=1),  # which nothing reaches
                  evidence(model, digits, True, 40, 64, needs_labels=True),
                  pictures(digits.splits["train"], model.preprocess, 64))
    assert done.folder is None
    assert [layers for layers, _ in done.tried] == [0, 1, 2]
    found = done.manifest.verification
    assert found is not None
    assert any("it loses" in failure for failure in found.failures)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_int8_worse_than_asked_is_refused_with_exit_code_1(cli, planted: Path, tmp_path: Path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'allmlp[export]'")
    code, out, err = cli("export", planted, "--to", "onnx", "--precision", "int8", "--quantiser", "ort",
                         "--max-drop", 1, "--data", "digits", "--images", 40, "--threads", 1,
                         "--output", tmp_path / "int8")
    assert code == 1
    assert "onnx int8 (ort): on 40 images (digits, test)" in out
    assert "not exported: it loses" in err
    assert not list(tmp_path.iterdir())


def test_named_layers_stay_in_float(cli, trained: Path, tmp_path: Path):
    code, out, _ = cli("export", trained, "--to", "native", "--precision", "int8", "--float-layers", "stem",
                       "--float-layers", "blocks.0", "blocks.*.channels", "--images", 20, "--threads", 1,
                       "--output", tmp_path / "int8", "--json")
    assert code == 0
    said = json.loads(out)["float_layers"]
    assert {*said.values()} == {"bf16"}
    assert said.keys() >= {"stem", "blocks.0.tokens", "blocks.0.channels", "blocks.1.channels"}
    assert "blocks.1.tokens" not in said


@pytest.mark.parametrize("layers,message", [
    (["blocks.77"], "layer 'blocks.77': this network has stem, blocks.0.tokens, blocks.0.channels, … blocks."),
    (["*"], "none would be int8"),
])  # fmt: skip
def test_layers_that_cannot_stay_in_float_are_one_line(cli, trained: Path, layers: list[str], message: str):
    code, _, err = cli("export", trained, "--to", "native", "--precision", "int8", "--float-layers",
                       *layers)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
