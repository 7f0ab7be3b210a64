"""The network that a recipe starts from."""

import dataclasses

import pytest
import torch

from allmlp import checkpoint
from allmlp.models.layers import DropPath
from allmlp.models.resize import resize
from allmlp.recipe import Loss
from allmlp.train.start import starting_model


def drop_rates(model) -> list[float]:
    return [module.rate for module in model.modules() if isinstance(module, DropPath)]


@pytest.mark.parametrize("rule,rates,rescale", [
    ("mlp", [0.1 * i / 7 for i in range(8)], False),  # MLP-Mixer App. B: linear over the MLPs
    ("block", [0.1 * (i // 2) / 3 for i in range(8)], False),  # big_vision: linear over the blocks
    ("constant", [0.1] * 8, True),  # DeiT
])
def test_stochastic_depth_is_spread_as_the_recipe_says(recipe, digits, rule, rates, rescale):
    model = starting_model(recipe.with_(stochastic_depth=0.1, stochastic_depth_rule=rule), digits)
    assert drop_rates(model) == pytest.approx(rates)
    assert model.config.stochastic_depth.rescale is rescale


def test_a_fresh_head_starts_at_the_recipes_bias(recipe, digits):
    model = starting_model(recipe.with_(loss=Loss(kind="sigmoid", head_bias_init=-6.9)), digits)
    torch.testing.assert_close(model.head.bias, torch.full((10,), -6.9))
    assert not model.head.weight.any()


def test_a_start_from_weights_takes_noise_and_bias_of_the_recipe_and_keeps_the_weights(recipe, digits, tmp_path):
    first = starting_model(recipe.with_(stochastic_depth=0.0), digits)
    checkpoint.save(first, tmp_path / "first.safetensors", {})
    start = recipe.with_(init=str(tmp_path / "first.safetensors"), stochastic_depth=0.3, dropout=0.2,
                         stochastic_depth_rule="constant", loss=Loss(kind="sigmoid", head_bias_init=-3))
    model = starting_model(start, digits)
    assert drop_rates(model) == [0.3] * 8
    assert model.drop_rate == 0.2
    assert all(torch.equal(tensor, first.state_dict()[name]) for name, tensor in model.state_dict().items())
    other = starting_model(start, dataclasses.replace(digits, classes=("0", "new")))
    assert other.head.bias.tolist() == pytest.approx([0.0, -3.0])  # the class it knew keeps its own


def test_weights_are_enlarged_by_the_recipes_method(recipe, digits, tmp_path):
    first = starting_model(recipe, digits)
    checkpoint.save(first, tmp_path / "first.safetensors", {})
    start = recipe.with_(init=str(tmp_path / "first.safetensors"), image_size=(16, 16))
    for method in ("block", "bilinear"):
        model = starting_model(start.with_(init_resize=method), digits)
        expected = resize(first, image_size=(16, 16), method=method).state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_the_evaluations_geometry_is_the_recipes(recipe, digits):
    changed = recipe.with_(resize="squash_crop", crop_ratio=0.8, interpolation="bilinear")
    preprocess = starting_model(changed, digits).preprocess
    assert (preprocess.resize, preprocess.crop_ratio, preprocess.interpolation) == ("squash_crop", 0.8, "bilinear")
