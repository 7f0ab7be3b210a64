"""Google's and Facebook's files (tests/golden) give the numbers of the code they come from, by any file name."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import allmlp
from allmlp.models.layers import AffineConfig, LayerNormConfig
from allmlp.models.model import Model
from allmlp.preprocess import HALF, IMAGENET_MEAN

# Of the answers' standard deviation. Measured: at most 8.4e-7 (float32, and flax sums a variance in another way).
SAME = 1e-5

FILES = [
    ("google-mixer-tiny.npz", "google-mixer-tiny", None),
    ("google-mixer-tiny-legacy.npz", "google-mixer-tiny", None),
    ("google-mixer-rect.npz", "google-mixer-rect", (32, 48)),
    ("facebook-resmlp-tiny.pth", "facebook-resmlp-tiny", None),
]


def assert_answers(model: Model, answers: Path, same: float = SAME) -> None:
    """Logits and pooled features equal the official ones."""
    expected = np.load(answers)
    images = torch.from_numpy(expected["images"])
    if images.shape[1] != 3:
        images = images.permute(0, 3, 1, 2)
    with torch.no_grad():
        tokens = model.forward_features(images)
        ours = {"features": model.forward_head(tokens, pre_logits=True), "logits": model.forward_head(tokens)}
    for name, value in ours.items():
        assert value.shape == expected[name].shape
        difference = np.abs(value.numpy() - expected[name]).max() / expected[name].std()
        assert difference <= same, f"{name} differ by {difference:.1e} of their spread"


@pytest.mark.parametrize(("file", "answers", "size"), FILES)
def test_the_official_answers_come_out_whatever_the_file_is_called(golden, tmp_path, file, answers, size):
    for name in (file, "weights", "model.safetensors", "model.pth", "model.npz"):
        path = tmp_path / name
        path.write_bytes((golden / file).read_bytes())
        assert_answers(allmlp.load(path, image_size=size), golden / f"{answers}.io.npz")


def test_the_two_layouts_of_google_give_the_same_network(golden):
    current, legacy = (allmlp.load(golden / f"google-mixer-tiny{which}.npz") for which in ("", "-legacy"))
    assert current.config == legacy.config
    for name, tensor in current.state_dict().items():
        assert torch.equal(tensor, legacy.state_dict()[name]), name


def test_the_config_is_read_off_the_shapes(golden):
    google = allmlp.load(golden / "google-mixer-rect.npz", image_size=(32, 48))
    assert google.config.image_size == (32, 48)
    assert google.config.patch_size == (16, 8)
    assert (google.config.width, google.config.depth, google.config.num_classes) == (16, 2, 5)
    block = google.config.blocks[0]
    assert (block.token_hidden, block.channel_hidden, block.activation) == (12, 24, "tanh")
    assert google.config.norm == block.norm == LayerNormConfig(epsilon=1e-6)
    assert (google.preprocess.mean, google.preprocess.crop_ratio) == (HALF, 0.875)
    assert not google.training

    facebook = allmlp.load(golden / "facebook-resmlp-tiny.pth")
    assert facebook.config.image_size == (32, 32)
    assert (facebook.config.blocks[0].channel_hidden, facebook.config.blocks[0].activation) == (96, "erf")
    assert facebook.config.norm == AffineConfig()
    assert (facebook.preprocess.mean, facebook.preprocess.crop_ratio) == (IMAGENET_MEAN, 0.9)


def big_visions(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Training checkpoints as big_vision has written them: weights among the optimizer's moments."""
    moments = {f"opt/state/{name}/mu": array * 0 + 3 for name, array in arrays.items()}
    yield "new", {**{f"params/{name}": array for name, array in arrays.items()},
                  **{f"opt/0/mu/{name}": array * 0 + 3 for name, array in arrays.items()}, "chrono/step": np.array(7)}
    yield "old", {**{f"opt/target/{name}": array for name, array in arrays.items()}, **moments}
    yield "old, in a tree of parameters", {f"opt/target/params/{name}": array for name, array in arrays.items()}


@pytest.mark.parametrize("file", ["google-mixer-tiny.npz", "google-mixer-tiny-legacy.npz"])
def test_big_visions_training_checkpoints_give_the_same_answers(golden, tmp_path, file, writers):
    for kind, arrays in big_visions(dict(np.load(golden / file))):
        writers["npz"](arrays, tmp_path / kind)
        assert_answers(allmlp.load(tmp_path / kind), golden / "google-mixer-tiny.io.npz")


ROUNDED = {"float16": 2e-2, "bfloat16": 1e-1}  # of the answers' spread: 11 and 8 bits of each weight remain


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8", "bfloat16"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("container", ["npz", "compressed npz"])
def test_every_float_and_every_order_in_memory_is_read(golden, tmp_path, writers, dtype, order, container):
    arrays = dict(np.load(golden / "google-mixer-tiny.npz"))
    for name, array in arrays.items():
        if dtype == "bfloat16":  # as jax's tools save it: two bytes without a meaning
            bits = torch.from_numpy(array).to(torch.bfloat16).view(torch.int16).numpy()
            arrays[name] = np.asarray(bits, order=order).view("V2")
        else:
            arrays[name] = np.asarray(array, dtype=dtype, order=order)
    writers[container](arrays, tmp_path / "x.npz")
    model = allmlp.load(tmp_path / "x.npz")
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    same = ROUNDED["bfloat16"] if dtype == "bfloat16" else ROUNDED["float16"] if dtype == "<f2" else SAME
    assert_answers(model, golden / "google-mixer-tiny.io.npz", same)


@pytest.mark.parametrize("kind", ["pth", "legacy pth"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_in_a_pth_becomes_float32(golden, tmp_path, writers, kind, dtype):
    state = torch.load(golden / "facebook-resmlp-tiny.pth", weights_only=True)
    writers[kind]({name: tensor.to(dtype) for name, tensor in state.items()}, tmp_path / "x")
    model = allmlp.load(tmp_path / "x")
    assert torch.equal(model.head.weight, state["head.weight"].to(dtype).float())
    assert_answers(model, golden / "facebook-resmlp-tiny.io.npz", ROUNDED.get(str(dtype).removeprefix("torch."), SAME))


def test_facebooks_dino_files_without_a_head_give_features(golden, tmp_path):
    state = torch.load(golden / "facebook-resmlp-tiny.pth", weights_only=True)
    torch.save({name: tensor for name, tensor in state.items() if not name.startswith("head")}, tmp_path / "x.pth")
    model = allmlp.load(tmp_path / "x.pth")
    expected = np.load(golden / "facebook-resmlp-tiny.io.npz")
    assert model.num_classes == 0
    with torch.no_grad():
        features = model(torch.from_numpy(expected["images"])).numpy()
    assert np.abs(features - expected["features"]).max() <= SAME * expected["features"].std()
