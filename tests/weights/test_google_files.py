"""Google's `.npz`: what we write is what Google's code has, and an oracle in numpy reads it as the paper says."""

import math

import numpy as np
import pytest
import torch

import allmlp
from allmlp.errors import CannotWrite
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.layers import AffineConfig, LayerNormConfig
from allmlp.models.model import Model, ModelConfig
from allmlp.models.variants import VARIANTS
from allmlp.preprocess import Preprocess
from allmlp.weights.google import write_google

EXACT = 1e-5  # of the logits' spread: float32 against float64
MIXER = ModelConfig(image_size=(20, 20), patch_size=(5, 5), width=12, depth=2, num_classes=7,
                    blocks=(MixerConfig(token_hidden=10, channel_hidden=22),))  # fmt: skip


def mixer(arrays: dict[str, np.ndarray], images_NHWC: np.ndarray) -> np.ndarray:
    """MLP-Mixer as the paper and Google's names have it, in float64, each sum written out."""
    a = {name: array.astype(np.float64) for name, array in arrays.items()}
    kernel = a["stem/kernel"]  # (height, width, in, out)
    (n, height, width, _), (p, q) = images_NHWC.shape, kernel.shape[:2]
    patches = images_NHWC.reshape(n, height // p, p, width // q, q, -1)
    x = np.einsum("nipjqc,pqcd->nijd", patches, kernel).reshape(n, -1, kernel.shape[3]) + a["stem/bias"]

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * a[f"{name}/scale"] + a[f"{name}/bias"]

    def mlp(name: str, x: np.ndarray) -> np.ndarray:
        h = x @ a[f"{name}/Dense_0/kernel"] + a[f"{name}/Dense_0/bias"]
        h = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        return h @ a[f"{name}/Dense_1/kernel"] + a[f"{name}/Dense_1/bias"]

    for i in range(sum(name.endswith("LayerNorm_0/scale") for name in a)):
        block = f"MixerBlock_{i}"
        mixed = mlp(f"{block}/token_mixing", norm(f"{block}/LayerNorm_0", x).transpose(0, 2, 1))
        x = x + mixed.transpose(0, 2, 1)
        x = x + mlp(f"{block}/channel_mixing", norm(f"{block}/LayerNorm_1", x))
    return norm("pre_head_layer_norm", x).mean(1) @ a["head/kernel"] + a["head/bias"]


def google_arrays(rng: np.random.Generator, patch, tokens, width, token_hidden, channel_hidden, classes, depth=2):
    def dense(name: str, *shape: int) -> dict[str, np.ndarray]:
        return {f"{name}/kernel": rng.normal(size=shape) / math.sqrt(math.prod(shape[:-1])),
                f"{name}/bias": rng.normal(size=shape[-1])}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}/{what}": rng.normal(size=width) for what in ("scale", "bias")}

    arrays = {**dense("stem", *patch, 3, width), **norm("pre_head_layer_norm"), **dense("head", width, classes)}
    for i in range(depth):
        block = f"MixerBlock_{i}"
        arrays |= {**norm(f"{block}/LayerNorm_0"), **norm(f"{block}/LayerNorm_1"),
                   **dense(f"{block}/token_mixing/Dense_0", tokens, token_hidden),
                   **dense(f"{block}/token_mixing/Dense_1", token_hidden, tokens),
                   **dense(f"{block}/channel_mixing/Dense_0", width, channel_hidden),
                   **dense(f"{block}/channel_mixing/Dense_1", channel_hidden, width)}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


@pytest.mark.parametrize(("sizes", "image_size"), [
    # Everything equal to everything: a forgotten transposition or a transposed patch gives another number, no error.
    ({"patch": (4, 4), "tokens": 16, "width": 16, "token_hidden": 16, "channel_hidden": 16, "classes": 16}, None),
    ({"patch": (4, 4), "tokens": 16, "width": 9, "token_hidden": 16, "channel_hidden": 5, "classes": 3}, (8, 32)),
    ({"patch": (2, 3), "tokens": 20, "width": 9, "token_hidden": 20, "channel_hidden": 9, "classes": 3}, (8, 15)),
    ({"patch": (3, 5), "tokens": 1, "width": 6, "token_hidden": 1, "channel_hidden": 1, "classes": 1}, 15),
    ({"patch": (3, 3), "tokens": 1, "width": 6, "token_hidden": 2, "channel_hidden": 1, "classes": 1}, None),
])
def test_any_sizes_give_the_numbers_of_the_paper(sizes, image_size, tmp_path, writers):
    rng = np.random.default_rng(1)
    arrays = google_arrays(rng, **sizes)
    writers["npz"](arrays, tmp_path / "x.npz")
    if image_size == 15:  # one token is one patch; 15 x 15 is not
        with pytest.raises(allmlp.AllMLPError, match="3 x 5 fit"):
            allmlp.load(tmp_path / "x.npz", image_size=image_size)
        image_size = (3, 5)
    model = allmlp.load(tmp_path / "x.npz", image_size=image_size)
    images = rng.normal(size=(3, *model.config.image_size, 3))
    with torch.no_grad():
        ours = model(torch.from_numpy(images).float().permute(0, 3, 1, 2)).numpy()
    expected = mixer(arrays, images)
    assert np.abs(ours - expected).max() <= EXACT * expected.std()


def legacy(arrays: dict[str, np.ndarray], axis: int) -> dict[str, np.ndarray]:
    """The older names, with a singleton axis in every array of an MLP."""
    renamed = {}
    for name, array in arrays.items():
        name = name.replace("MixerBlock_", "Mixer/encoderblock_").replace("stem/", "embedding/")
        name = name.replace("pre_head_layer_norm", "Mixer/encoder_norm")
        for mlp in ("token_mixing", "channel_mixing"):
            for number in (0, 1):
                for what in ("kernel", "bias"):
                    name = name.replace(f"{mlp}/Dense_{number}/{what}", f"{mlp}_phase_0/{what}{number + 1}")
        renamed[name] = np.expand_dims(array, min(axis, array.ndim)) if "_phase_0" in name else array
    return renamed


@pytest.mark.parametrize(("axis", "tokens"), [(0, 4), (1, 4), (2, 4), (0, 1)])
def test_the_older_names_may_have_more_axes_of_length_one(axis, tokens, tmp_path, writers):
    arrays = google_arrays(np.random.default_rng(2), (3, 3), tokens, 5, 7, 6, 4)
    writers["npz"](arrays, tmp_path / "current.npz")
    writers["npz"](legacy(arrays, axis), tmp_path / "legacy.npz")
    current, older = (allmlp.load(tmp_path / f"{name}.npz") for name in ("current", "legacy"))
    for name, tensor in current.state_dict().items():
        assert torch.equal(tensor, older.state_dict()[name]), name


def test_npz_to_allmlp_to_npz_keeps_every_bit_and_name(golden, tmp_path):
    for file, size in (("google-mixer-tiny.npz", None), ("google-mixer-rect.npz", (32, 48))):
        write_google(allmlp.load(golden / file, image_size=size), tmp_path / "back.npz")
        expected, back = np.load(golden / file), np.load(tmp_path / "back.npz")
        assert set(back.files) == set(expected.files)
        for name in expected.files:
            assert back[name].dtype == np.float32
            assert back[name].flags.c_contiguous
            np.testing.assert_array_equal(back[name], expected[name], err_msg=name)


PUBLISHED = ["mixer_s32_224", "mixer_s16_224", "mixer_s8_224", "mixer_b32_224", "mixer_b16_224", "mixer_l16_224"]


@pytest.mark.parametrize("depth", [1, pytest.param(None, marks=pytest.mark.slow)], ids=["one block", "all blocks"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_allmlp_to_npz_to_allmlp_keeps_every_bit_and_the_config(name, depth, folder, random_model):
    model = random_model(VARIANTS[name].with_(depth=depth or VARIANTS[name].depth))
    assert write_google(model, folder / "x.npz") == []
    back = allmlp.load(folder / "x.npz")
    assert back.config == model.config
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[key]), key
    assert sum(array.size for array in np.load(folder / "x.npz").values()) == sum(
        parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("family", ["gmixer", "resmlp", "gmlp"])
def test_other_families_are_refused_and_nothing_is_written(family, configs, random_model, tmp_path):
    with pytest.raises(CannotWrite, match=r"this network is|its blocks are gated") as refusal:
        write_google(random_model(configs[family]), tmp_path / "x.npz")
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("changes", [
    {"blocks": (MixerConfig(token_hidden=10, channel_hidden=22), MixerConfig(token_hidden=8, channel_hidden=22))},
    {"norm": AffineConfig()},
    {"blocks": (MixerConfig(token_hidden=10, channel_hidden=22, norm=AffineConfig()),)},
])
def test_a_mixer_that_googles_code_cannot_be_is_refused(changes, random_model, tmp_path):
    with pytest.raises(CannotWrite, match=r"allmlp\.save"):
        write_google(random_model(MIXER.with_(**changes)), tmp_path / "x.npz")
    assert not list(tmp_path.iterdir())


def test_what_the_file_cannot_say_is_reported(random_model, tmp_path):
    block = MixerConfig(token_hidden=10, channel_hidden=22, activation="erf", norm=LayerNormConfig(epsilon=1e-5))
    config = MIXER.with_(image_size=(10, 40), blocks=(block,))
    model = Model(config, Preprocess(image_size=(10, 40), crop_ratio=1.0), [f"class {i}" for i in range(7)], "sigmoid")
    notes = write_google(model, tmp_path / "x.npz")
    assert [note.partition(":")[0] for note in notes] == ["GELU", "norm", "image size", "preprocessing",
                                                         "class names", "output"]
    assert write_google(random_model(MIXER), tmp_path / "y.npz") == []


def test_a_model_of_another_dtype_is_written_as_float32(random_model, tmp_path):
    model = random_model(MIXER).to(torch.bfloat16)
    write_google(model, tmp_path / "x.npz")
    back = allmlp.load(tmp_path / "x.npz")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.float(), back.state_dict()[name]), name
