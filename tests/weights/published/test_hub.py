"""Folders that timm wrote for the Hub are our networks: logits, image size, preprocessing and class names."""

import json
import shutil
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data.model_config import resolve_input_data_config
from timm.models import save_for_hf
from timm.models.mlp_mixer import MlpMixer

import allmlp
from allmlp.errors import BadCheckpoint, CannotDownload
from allmlp.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from allmlp.testing import randomise
from allmlp.weights import labels

SAME = 1e-5  # of the logits' largest value: the same operations in float32, perhaps summed in another order
NAMES = ["mixer_s32_224", "gmixer_12_224", "resmlp_12_224", "gmlp_ti16_224"]
LABELS = {"label_names": ["n01", "n02", "n03"], "label_descriptions": {"n01": "cat", "n02": "dog", "n03": "dog"}}


def write_timms(folder: Path, name: str = "gmlp_ti16_224", about: dict | None = None, safe: bool = True, **arguments):
    """timm's network with random weights, and the folder that timm writes of it."""
    model = timm.create_model(name, **{"img_size": (48, 64), "num_classes": 3, **arguments}).eval()
    randomise(model)
    save_for_hf(model, str(folder), safe_serialization=safe, model_config=dict(about or {}))
    return model


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A folder that timm wrote, to be copied."""
    folder = tmp_path_factory.mktemp("timm")
    write_timms(folder)
    return folder


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A folder that timm wrote, to be changed."""
    return shutil.copytree(written, tmp_path / "folder")


def rewrite(folder: Path, key: str, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: {**config.get(key, {}), **changes}}))


def assert_same_logits(ours, theirs, size=(48, 64), channels=3):
    images = torch.randn(2, channels, *size)
    with torch.no_grad():
        expected = theirs(images)
        assert (ours(images) - expected).abs().max() <= SAME * expected.abs().max()


@pytest.mark.parametrize(("name", "safe"), [*((name, True) for name in NAMES), ("gmlp_ti16_224", False)])
def test_a_folder_of_timms_is_read_with_its_image_size_and_preprocessing(name, safe, tmp_path):
    theirs = write_timms(tmp_path, name, safe=safe, **({"img_size": (64, 96)} if name == "mixer_s32_224" else {}))
    ours = allmlp.load(tmp_path)
    size = ours.config.image_size
    assert_same_logits(ours, theirs, size)
    data = resolve_input_data_config(theirs)
    preprocess = ours.preprocess
    assert (3, *size) == data["input_size"]
    assert (preprocess.mean, preprocess.std) == (data["mean"], data["std"])
    assert (preprocess.interpolation, preprocess.crop_ratio) == (data["interpolation"], data["crop_pct"])
    assert (preprocess.resize, preprocess.image_size, ours.classes) == ("shorter", size, None)


def test_the_weights_alone_are_found_with_what_stands_beside_them(tmp_path):
    theirs = write_timms(tmp_path, about=LABELS)
    assert_same_logits(allmlp.load(tmp_path / "model.safetensors"), theirs)
    assert allmlp.load(tmp_path / "model.safetensors").classes == ("n01", "n02", "n03")


def test_class_names_are_the_descriptions_where_these_are_unique(folder):
    described = {"n01": "cat", "n02": "dog"}
    rewrite(folder, "pretrained_cfg", label_names=["n01", "n02", "n03"], label_descriptions=described)
    assert allmlp.load(folder).classes == ("cat", "dog", "n03")


def test_of_weights_that_the_catalogue_knows_the_classes_are_known(tmp_path):
    write_timms(tmp_path, "resmlp_12_224.fb_in1k", num_classes=1000)
    assert json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]["tag"] == "fb_in1k"
    assert allmlp.load(tmp_path).classes == labels.words("imagenet-1k")


def test_channels_and_pooling_are_read(tmp_path):
    theirs = write_timms(tmp_path, in_chans=1, global_pool="", num_classes=0)
    ours = allmlp.load(tmp_path)
    assert_same_logits(ours, theirs, channels=1)
    assert (ours.config.global_pool, ours.preprocess.channels, ours.num_classes) == ("", 1, 0)


@pytest.mark.parametrize(("change", "expected"), [
    ({}, {}),
    ({"mean": IMAGENET_MEAN, "std": IMAGENET_STD}, {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}),
    ({"crop_pct": 0.95, "interpolation": "bilinear"}, {"crop_ratio": 0.95, "interpolation": "bilinear"}),
    ({"crop_mode": "squash"}, {"resize": "squash_crop"}),
    ({"crop_mode": "squash", "crop_pct": 1.0}, {"resize": "squash", "crop_ratio": 1}),
], ids=str)  # fmt: skip
def test_preprocessing_is_translated(change, expected, folder):
    rewrite(folder, "pretrained_cfg", **change)
    assert allmlp.load(folder).preprocess == Preprocess(image_size=(48, 64)).with_(**expected)


@pytest.mark.parametrize(("text", "line"), [
    ("", "not a model's config"),
    ("[1, 2]", "no JSON object"),
    ("{" * 5000, "not a model's config"),
    ('{"pretrained_cfg": 3}', "must be JSON objects"),
    ('{"model_args": [3], "pretrained_cfg": {}}', "must be JSON objects"),
    ('{"pretrained_cfg": {"crop_mode": "border", "input_size": [3, 48, 64]}}',
     "crop_mode 'border' is not supported; accepted: center, squash"),
    ('{"pretrained_cfg": {"interpolation": "hamming", "input_size": [3, 48, 64]}}', "interpolation"),
    ('{"pretrained_cfg": {"mean": [1, 2], "input_size": [3, 48, 64]}}', "mean is [1, 2]; accepted: a list of 3"),
    ('{"pretrained_cfg": {"mean": 5, "input_size": [3, 48, 64]}}', "config.json: mean is 5; accepted: a list of 3"),
    ('{"pretrained_cfg": {"std": ["a"], "input_size": [3, 48, 64]}}', "config.json: preprocess: std"),
    ('{"pretrained_cfg": {"num_classes": 5, "input_size": [3, 48, 64]}}',
     "num_classes is 5, but the weights beside it have 3"),
    ('{"num_classes": "x", "pretrained_cfg": {"num_classes": 3, "input_size": [3, 48, 64]}}', "num_classes is 'x'"),
    ('{"pretrained_cfg": {"input_size": [3, 48, 64]}, "model_args": {"in_chans": 1}}', "in_chans is 1, but the"),
    ('{"pretrained_cfg": {"input_size": [3, 48, 64], "label_names": ["a", "b"]}}', "2 label_names, but the weights"),
    ('{"pretrained_cfg": {"input_size": [3, 48, 64]}, "label_names": ["a", "b", "b"]}', "'b' stands 2 times"),
    ('{"architecture": "mixer_b16_224", "pretrained_cfg": {"input_size": [3, 48, 64]}}',
     "the architecture is mixer_b16_224, but the weights beside it are of another network"),
    ('{"architecture": [7], "pretrained_cfg": {"input_size": [3, 48, 64]}}', "the architecture '[7]' is no name"),
    ('{"pretrained_cfg": {"std": [0], "input_size": [3, 48, 64]}}', "std: must be positive"),
    ('{"pretrained_cfg": {}, "model_args": {"global_pool": "max", "img_size": [48, 64]}}', "global_pool"),
    ('{"pretrained_cfg": {"input_size": [3, 32, 32]}}', "image size 32 x 32 makes 4 tokens"),
    ('{"pretrained_cfg": {"input_size": 5}}', "image size 5 x 5 is not divisible"),
    ('{"pretrained_cfg": {"input_size": ["a", "b", "c"]}}', "the image size ['a', 'b', 'c'] is not (height, width)"),
    ('{"pretrained_cfg": {"input_size": [3, 1e999, 48]}}', "the image size [3, inf, 48] is not (height, width)"),
    ('{"pretrained_cfg": {"input_size": [48]}}', "the image size [48] is not (height, width)"),
], ids=lambda value: value[:60])  # fmt: skip
def test_a_config_that_is_damaged_or_wrong_is_refused_in_one_line(text, line, folder):
    (folder / "config.json").write_text(text)
    with pytest.raises(BadCheckpoint) as error:
        allmlp.load(folder)
    assert line in str(error.value)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_config_without_end_is_not_read(folder):
    with open(folder / "config.json", "wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(BadCheckpoint, match="longer than 16777216 bytes"):
        allmlp.load(folder)


def test_a_folder_without_weights_is_no_folder_of_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadCheckpoint, match="without best.safetensors or last.safetensors, .* an export.s manifest"):
        allmlp.load(tmp_path)


@pytest.mark.parametrize("name", ["hf-hub:owner/name", "hf_hub:owner/name", "hf-hub:owner/name@v1"])
def test_a_repository_on_the_hub_is_a_model(name, hub, folder):
    rewrite(folder, "pretrained_cfg", label_names=["n01", "n02", "n03"])
    revision = name.partition("@")[2] or "main"
    for file in folder.iterdir():
        hub.add(f"/owner/name/resolve/{revision}/{file.name}", file.read_bytes())
    ours, expected = allmlp.load(name), allmlp.load(folder)
    assert_same_logits(ours, expected)
    assert (ours.config, ours.preprocess) == (expected.config, expected.preprocess)
    assert ours.classes == ("n01", "n02", "n03")


def test_a_repository_that_is_not_there_is_named(hub):
    with pytest.raises(CannotDownload, match="owner/name on the Hugging Face Hub has no config.json"):
        allmlp.load("hf-hub:owner/name")
    with pytest.raises(CannotDownload, match="owner/name/more could not be fetched"):
        allmlp.load("hf-hub:owner/name/more")
    with pytest.raises(CannotDownload, match="'hf-hub:' names no repository; give hf-hub:owner/name"):
        allmlp.load("hf-hub:")


def test_without_a_network_one_line_comes_at_once(hub, monkeypatch, caplog):
    """The Hub's client by itself would ask for half a minute and print each failure."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nothing listens
    start = time.monotonic()
    with pytest.raises(CannotDownload) as error:
        allmlp.load("hf-hub:owner/name")
    assert time.monotonic() - start < 5
    assert caplog.text == ""
    assert str(error.value).startswith("owner/name could not be fetched from the Hugging Face Hub (")
    assert str(error.value).endswith("of https://huggingface.co/owner/name into a folder, and give the folder")
    assert "\n" not in str(error.value)


def test_a_network_that_the_config_builds_differently_may_keep_its_architectures_name(tmp_path):
    arguments = {"num_blocks": 2, "embed_dim": 32, "img_size": [64, 96], "num_classes": 3}
    theirs = MlpMixer(patch_size=32, **{**arguments, "img_size": (64, 96)}).eval()
    randomise(theirs)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": "mixer_s32_224", "model_args": arguments, "pretrained_cfg": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_same_logits(allmlp.load(tmp_path), theirs, (64, 96))
