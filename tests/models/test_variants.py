"""Networks by name: finding them, changing them, and what their weights expect of images."""

import re

import pytest
import timm
import torch

from allmlp.errors import BadSetting, UnknownName
from allmlp.models.variants import VARIANTS, create_model, default_preprocess, list_models, model_config


def test_names_are_found_by_pattern_in_the_order_of_the_table():
    assert list_models() == list(VARIANTS)
    assert list_models("gmixer*") == ["gmixer_12_224", "gmixer_24_224"]
    assert list_models("*_b?_224") == ["mixer_b8_224", "mixer_b4_224"]
    assert list_models("vit*") == []


@pytest.mark.parametrize("name", VARIANTS)
def test_a_name_ends_in_its_patch_and_image_size(name):
    """`mixer_s32_224`, `resmlp_12_p8_224`; ResMLP's and gmixer's names have a depth instead of a patch."""
    config, parts = VARIANTS[name], name.split("_")
    assert config.image_size == (int(parts[-1]),) * 2
    if parts[-2].isdigit():
        assert config.depth == int(parts[-2])
    else:
        assert config.patch_size == (int(re.sub("[a-z]", "", parts[-2])),) * 2


def test_all_of_timms_all_mlp_names_exist_here():
    assert set(timm.list_models(["mixer_*", "resmlp_*", "gmlp_*", "gmixer_*"])) <= set(VARIANTS)


def test_a_network_comes_in_evaluation_mode_with_what_was_asked_for():
    model = create_model("mixer_s32_224", image_size=(64, 96), patch_size=(16, 32), in_channels=1, num_classes=5,
                         activation="erf", stochastic_depth=0.1, seed=0)
    config = model.config
    assert not model.training
    assert (config.image_size, config.patch_size, config.grid) == ((64, 96), (16, 32), (4, 3))
    assert (config.in_channels, config.num_classes, config.blocks[0].activation) == (1, 5, "erf")
    assert config.stochastic_depth.rate == 0.1
    assert model(torch.zeros(2, 1, 64, 96)).shape == (2, 5)
    assert model.preprocess.image_size == (64, 96)
    assert model.preprocess.channels == 1


def test_nothing_asked_for_changes_nothing():
    assert all(model_config(name) == config for name, config in VARIANTS.items())


def test_a_number_is_a_square_and_no_head_is_zero_classes():
    assert model_config("mixer_b16_224", image_size=448) == model_config("mixer_b16_224", image_size=[448, 448])
    assert model_config("mixer_b16_224", num_classes=0).num_classes == 0


def test_class_names_give_the_number_of_classes():
    model = create_model("mixer_p2_8", classes=["cat", "dog"])
    assert (model.num_classes, model.classes) == (2, ("cat", "dog"))


@pytest.mark.parametrize(("arguments", "error", "line"), [
    ({"name": "mixer_b61_224"}, UnknownName, "unknown model 'mixer_b61_224'; did you mean mixer_b16_224 or"),
    ({"name": "resnet50"}, UnknownName, "unknown model 'resnet50';"),
    ({"image_size": (64, 64, 3)}, BadSetting, "image_size (64, 64, 3): give one number or (height, width)"),
    ({"patch_size": [2]}, BadSetting, "patch_size (2,): give one number or (height, width)"),
    ({"image_size": 9}, BadSetting, "model: image height 9 is not divisible by the patch height 2; take 8 or 10"),
    ({"activation": "relu"}, BadSetting,
     "mixer: activation: Input should be 'tanh', 'erf' or 'swiglu' (got 'relu')"),
    ({"stochastic_depth": 1.5}, BadSetting, "stochastic depth: rate: Input should be less than 1 (got 1.5)"),
    ({"num_classes": 3, "classes": ["cat", "dog"]}, BadSetting, "2 class names for 3 classes"),
    ({"classes": ["cat", "cat"]}, BadSetting, "class names: 'cat' stands 2 times"),
    ({"classes": ["cat", "\t"]}, BadSetting, "class names: number 1 is empty"),
    ({"seed": 1.5}, BadSetting, "seed 1.5: give a whole number"),
    ({"seed": 2**64}, BadSetting, "seed 18446744073709551616: give a whole number"),
])
def test_a_mistake_is_one_line(arguments, error, line):
    with pytest.raises(error) as raised:
        create_model(**{"name": "mixer_p2_8", **arguments})
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", timm.list_models(["mixer_*", "resmlp_*", "gmlp_*", "gmixer_*"]))
def test_images_are_normalised_as_for_timms_weights_of_the_name(name):
    theirs = timm.get_pretrained_cfg(name)
    ours = default_preprocess(name, VARIANTS[name])
    assert (ours.mean, ours.std, ours.interpolation) == (theirs.mean, theirs.std, theirs.interpolation)
    if name.startswith("resmlp"):
        assert ours.crop_ratio == 0.9  # as in Facebook's evaluation; timm takes 0.875
    else:
        assert ours.crop_ratio == theirs.crop_pct
