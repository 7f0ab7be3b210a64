"""What timm's users ask of a network beside its logits, answered as timm's own networks answer."""

import copy
import io
import warnings

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from timm.models.mlp_mixer import MlpMixer
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from allmlp.checkpoint import load, save
from allmlp.errors import BadData, BadSetting
from allmlp.models.model import Model, build, with_config
from allmlp.models.variants import create_model
from allmlp.preprocess import Preprocess, fit, to_network_input
from allmlp.testing import randomise

SAME = 1e-5  # of the largest value: the same operations in float32, perhaps summed in another order


def assert_close(one: torch.Tensor, other: torch.Tensor) -> None:
    assert one.shape == other.shape
    assert (one - other).abs().max() <= SAME * other.abs().max()


@pytest.fixture(scope="module", params=["mixer_s32_224", "gmlp_ti16_224", "resmlp_12_224"])
def pair(request) -> tuple[Model, MlpMixer]:
    """Ours and timm's network with the same random weights, for images of 64 x 96."""
    theirs = timm.create_model(request.param, img_size=(64, 96), num_classes=7).eval()
    randomise(theirs)
    ours = create_model(request.param, image_size=(64, 96), num_classes=7, activation="erf")
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def test_they_answer_to_the_same_names(pair):
    ours, theirs = pair
    for name in ("num_features", "head_hidden_size", "num_classes", "in_chans", "global_pool", "grad_checkpointing"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.feature_info == theirs.feature_info
    assert ours.group_matcher(coarse=True) == theirs.group_matcher(coarse=True)
    assert ours.get_classifier() is ours.head
    assert ours.drop_rate == theirs.head_drop.p == 0
    kept = ("input_size", "num_classes", "fixed_input_size", "pool_size", "interpolation", "mean", "std", "first_conv",
            "classifier")  # fmt: skip
    expected = {**theirs.pretrained_cfg, "input_size": (3, 64, 96), "num_classes": 7}
    assert {name: ours.pretrained_cfg[name] for name in kept} == {name: expected[name] for name in kept}
    assert ours.default_cfg == ours.pretrained_cfg


@pytest.mark.parametrize("arguments", [
    {}, {"indices": 1}, {"indices": 3}, {"indices": [0, 5]}, {"indices": (-1, 2)}, {"norm": True, "indices": [1]},
    {"output_fmt": "NLC", "indices": 2}, {"stop_early": True, "indices": [1, 3]},
    {"intermediates_only": True, "indices": [4]}, {"stop_early": True, "norm": True, "indices": [2]},
], ids=str)  # fmt: skip
@torch.no_grad()
def test_intermediate_features_by_number_are_timms(pair, arguments):
    images = torch.randn(2, 3, 64, 96)
    ours, theirs = (model.forward_intermediates(images, **arguments) for model in pair)
    if not arguments.get("intermediates_only"):
        assert_close(ours[0], theirs[0])
        ours, theirs = ours[1], theirs[1]
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other)
        assert one.is_contiguous()  # timm's are not where tokens are asked for


@pytest.mark.parametrize(("arguments", "line"), [
    ({"indices": 99}, "the last 99 blocks: the network has"), ({"indices": 0}, "the last 0 blocks"),
    ({"indices": [0, 77]}, "block 77: the network has blocks 0 to"), ({"indices": [-77]}, "block -77"),
    ({"output_fmt": "NHWC"}, "output_fmt 'NHWC'; accepted: NCHW"),
    ({"indices": ["stem"], "norm": True}, "options of forward_intermediates are for blocks by number"),
], ids=str)  # fmt: skip
def test_what_is_not_there_is_refused_in_one_line(pair, arguments, line):
    with pytest.raises(BadSetting) as error:
        pair[0].forward_intermediates(torch.randn(1, 3, 64, 96), **arguments)
    assert str(error.value).startswith(line)
    with pytest.raises(BadSetting, match="no block is asked for"):
        pair[0].prune_intermediate_layers([])


@pytest.mark.parametrize(("indices", "options"), [
    (1, {}), (2, {"prune_norm": True}), ([0, 3], {"prune_head": False}), ([-3], {"prune_norm": True}),
], ids=str)  # fmt: skip
@torch.no_grad()
def test_pruning_leaves_what_timms_pruning_leaves(pair, indices, options):
    ours, theirs = (copy.deepcopy(model) for model in pair)
    assert ours.prune_intermediate_layers(indices, **options) == theirs.prune_intermediate_layers(indices, **options)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    images = torch.randn(2, 3, 64, 96)
    assert_close(ours(images), theirs(images))
    assert (ours.num_classes, ours.global_pool) == (theirs.num_classes, theirs.global_pool)


def test_a_pruned_network_is_still_a_network_that_can_be_saved(config, model, images, tmp_path):
    kept = model.forward_intermediates(images, [1], output_fmt="NLC", intermediates_only=True)[0]
    model.prune_intermediate_layers([1], prune_norm=True)
    assert model.config.depth == 2
    assert model(images).equal(kept)
    assert build(model.config).state_dict().keys() == model.state_dict().keys()
    save(model, tmp_path / "x.safetensors")
    assert load(tmp_path / "x.safetensors")(images).equal(kept)
    model.reset_classifier(4, "avg")
    assert model(images).shape == (2, 4)


def test_without_pooling_the_head_answers_for_every_token(config, model, images):
    with torch.no_grad():
        pooled, tokens = model(images), model.forward_features(images)
        model.reset_classifier(0, "")
        assert model(images).equal(tokens)
        assert (model.config.global_pool, model.config.num_classes) == ("", 0)
    model.reset_classifier(7)
    assert model.global_pool == ""
    assert model(images).shape == (2, 30, 7)
    model.reset_classifier(7, "avg")
    assert model(images).shape == pooled.shape
    with pytest.raises(BadSetting, match="global_pool"):
        model.reset_classifier(7, "max")


@pytest.mark.parametrize("config", ["mixer"], indirect=True)
def test_a_new_head_is_where_and_as_the_network_is(model):
    model.to("meta", torch.float64).eval()
    model.reset_classifier(0)
    model.reset_classifier(2)
    assert {(p.device.type, p.dtype) for p in model.head.parameters()} == {("meta", torch.float64)}
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("config", ["mixer"], indirect=True)
def test_dropout_before_the_head_acts_in_training_only(config, model, images):
    dropping = with_config(model, config.with_(drop_rate=0.5))
    assert dropping.drop_rate == 0.5
    with torch.no_grad():
        assert dropping(images).equal(model(images))
        tokens = model.forward_features(images)
        torch.manual_seed(1)
        dropped = dropping.train().forward_head(tokens, pre_logits=True)
    pooled = model.forward_head(tokens, pre_logits=True)
    zero = dropped == 0
    assert 0 < zero.sum() < zero.numel()
    assert torch.allclose(dropped[~zero], 2 * pooled[~zero])


PREPROCESS = [
    {}, {"crop_ratio": 0.9, "interpolation": "bilinear"}, {"resize": "squash_crop", "crop_ratio": 0.8},
    {"resize": "squash"}, {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)},
]  # fmt: skip


@pytest.mark.parametrize("fields", PREPROCESS, ids=str)
@pytest.mark.parametrize("config", ["mixer"], indirect=True)
def test_timms_transform_of_our_network_is_our_preprocessing(config, fields):
    config = config.with_(image_size=(32, 32), patch_size=(8, 8))
    model = Model(config, Preprocess(image_size=(32, 32), **fields))
    transform = create_transform(**resolve_model_data_config(model))
    pixels = np.random.default_rng(0).integers(0, 256, (47, 75, 3), dtype=np.uint8)
    ours = to_network_input(fit(pixels, model.preprocess)[None], model.preprocess)[0]
    theirs = transform(Image.fromarray(pixels))
    assert ours.shape == theirs.shape == (3, 32, 32)
    assert (ours - theirs).abs().max() < 1e-6


@pytest.mark.parametrize("config", ["mixer"], indirect=True)
def test_a_grey_network_tells_timm_one_channel(config):
    model = Model(config.with_(in_channels=1), Preprocess(image_size=(24, 40), channels=1, mean=(0.1, 0.2, 0.3)))
    assert model.pretrained_cfg["input_size"] == (1, 24, 40)
    assert model.pretrained_cfg["mean"] == (pytest.approx(0.299 * 0.1 + 0.587 * 0.2 + 0.114 * 0.3),)


@torch.no_grad()
def test_a_symbolic_trace_is_the_same_network(config, model, images):
    traced = torch.fx.symbolic_trace(model)
    assert traced(images).equal(model(images))
    inside = create_feature_extractor(model, {"blocks.1": "tokens", "head": "logits"})(images)
    assert inside["logits"].equal(model(images))
    assert inside["tokens"].equal(model.forward_intermediates(images, ["blocks.1"])[1]["blocks.1"])
    with pytest.raises(BadData, match="this network takes images"):
        traced(torch.zeros(2, 3, 40, 24))


@torch.no_grad()
def test_torchscript_compiles_saves_and_loads_every_family(model, images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch has given it up; timm and its users have not
        scripted = torch.jit.script(model)
        file = io.BytesIO()
        torch.jit.save(scripted, file)
        file.seek(0)
        loaded = torch.jit.load(file)
    assert_close(loaded(images), model(images))
    with pytest.raises(torch.jit.Error, match="this network takes images"):
        loaded(torch.zeros(2, 3, 40, 24))


def test_properties_are_not_what_makes_a_copy_differ(model):
    other = copy.deepcopy(model)
    other.pretrained_cfg = {"input_size": (3, 1, 1)}
    assert other.default_cfg == {"input_size": (3, 1, 1)}
    assert model.pretrained_cfg["input_size"] == (3, 24, 40)
    assert isinstance(model.head_drop, nn.Dropout)


@pytest.mark.parametrize("changes", [
    {"num_classes": 10**13}, {"num_classes": 10**400}, {"num_classes": 2, "classes": ("a", "a")}, {"num_classes": -1},
    {"num_classes": 2, "global_pool": "max"},
], ids=lambda changes: str(changes)[:60])  # fmt: skip
@pytest.mark.parametrize("config", ["mixer"], indirect=True)
def test_a_head_that_cannot_be_leaves_the_network_as_it_was(config, model, images, changes):
    expected = model(images)
    with pytest.raises(BadSetting) as error:
        model.reset_classifier(**changes)
    assert "\n" not in str(error.value)
    assert (model.config, model.classes, model.global_pool) == (config, None, config.global_pool)
    assert model(images).equal(expected)
