"""What a network offers beside logits: features, intermediate outputs, another head, errors in one line."""

import copy
import pickle

import pytest
import torch

from allmlp.errors import BadData, BadSetting, UnknownName
from allmlp.models.model import Model, build
from allmlp.preprocess import Preprocess
from allmlp.testing import randomise


def test_without_a_head_the_pooled_features_come_out(config, model, images):
    headless = build(config.with_(num_classes=0)).eval()
    headless.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if "head" not in name})
    with torch.no_grad():
        tokens = model.forward_features(images)
        assert tokens.shape == (2, 30, config.width)
        assert headless(images).equal(tokens.mean(1))
        assert model.forward_head(tokens, pre_logits=True).equal(tokens.mean(1))
        assert model(images).equal(model.head(tokens.mean(1)))


def test_intermediate_outputs_come_by_name(config, model, images):
    names = ["head", "blocks.1", "stem", "norm", "blocks.2", "blocks.0.drop_path" if config.blocks[0].kind == "gmlp"
             else "blocks.0.drop_path1"]
    with torch.no_grad():
        features, outputs = model.forward_intermediates(images, names)
        assert list(outputs) == names
        assert outputs["stem"].equal(model.stem(images))
        assert outputs["blocks.1"].equal(model.blocks[:2](outputs["stem"]))
        assert outputs["blocks.2"].equal(model.blocks(outputs["stem"]))
        assert outputs["norm"].equal(features)
        assert outputs["head"].equal(model(images))
    assert {tuple(outputs[name].shape) for name in names[1:]} == {(2, 30, config.width)}


@pytest.mark.parametrize("config", ["mixer"], indirect=True)
def test_inside_token_mixing_an_output_has_its_channels_first(model, images):
    _, outputs = model.forward_intermediates(images, ["blocks.0.mlp_tokens.act", "blocks.0.mlp_channels.act"])
    assert [tuple(output.shape) for output in outputs.values()] == [(2, 14, 18), (2, 30, 34)]


def test_every_layer_has_an_intermediate_output(model, images):
    names = [name for name, _ in model.named_modules() if name not in ("", "blocks")]
    _, outputs = model.forward_intermediates(images, names)
    assert list(outputs) == names


@pytest.mark.parametrize("name", ["blocks.3", "block.1", "blocks", ""])
def test_an_unknown_layer_is_named_and_leaves_no_hook(model, images, name):
    with pytest.raises(UnknownName, match=f"unknown layer '{name}'"):
        model.forward_intermediates(images, ["stem", name])
    assert not any(module._forward_hooks for module in model.modules())


def test_intermediate_outputs_leave_no_hook(model, images):
    model.forward_intermediates(images, ["stem", "norm"])
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("config", ["mixer"], indirect=True)
def test_tokens_lie_on_the_grid_in_raster_order(model):
    numbers = torch.arange(30.0).view(1, 30, 1)
    assert model.to_grid(numbers).equal(torch.arange(30.0).view(1, 1, 6, 5))


def test_a_new_head_leaves_the_rest_and_starts_by_the_networks_scheme(config, model, images):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if not name.startswith("head")}
    model.reset_classifier(4, classes=["a", "b", "c", "d"])
    assert model(images).shape == (2, 4)
    assert (model.num_classes, model.config.num_classes, model.classes) == (4, 4, ("a", "b", "c", "d"))
    assert all(model.state_dict()[name].equal(tensor) for name, tensor in before.items())
    weight, bias = model.get_classifier().parameters()
    assert not bias.any()
    assert weight.any() == (config.init == "deit")


def test_a_head_can_be_removed_and_put_back(model, images):
    model.reset_classifier(0)
    assert model(images).equal(model.forward_features(images).mean(1))
    assert model.classes is None
    model.reset_classifier(3)
    assert model(images).shape == (2, 3)


@pytest.mark.parametrize("config", ["resmlp"], indirect=True)
def test_a_new_head_keeps_the_dtype_and_repeats_with_the_generator(config, model):
    heads = []
    for _ in range(2):
        model.bfloat16().reset_classifier(3, generator=torch.Generator().manual_seed(5))
        heads.append(model.head.weight.clone())
    assert heads[0].dtype == torch.bfloat16
    assert heads[0].equal(heads[1])


@pytest.mark.parametrize("config", ["mixer"], indirect=True)
def test_class_names_must_be_as_many_as_classes(model):
    with pytest.raises(BadSetting, match="2 class names for 3 classes; give one name per class"):
        model.reset_classifier(3, classes=["cat", "dog"])
    assert model.num_classes == 7


@pytest.mark.parametrize("shape", [(2, 3, 40, 24), (2, 1, 24, 40), (3, 24, 40), (2, 3, 24, 48)], ids=str)
def test_images_of_another_shape_are_refused_in_one_line(model, shape):
    with pytest.raises(BadData) as error:
        model(torch.zeros(shape))
    assert str(error.value) == f"this network takes images (B, 3, 24, 40), not {list(shape)}"


def test_a_batch_may_be_empty(config, model):
    assert model(torch.zeros(0, 3, 24, 40)).shape == (0, 7)


def test_a_network_of_one_input_channel_wants_grey_images_unless_told_otherwise(config):
    assert Model(config.with_(in_channels=1)).preprocess == Preprocess(image_size=(24, 40), channels=1)
    assert Model(config).preprocess == Preprocess(image_size=(24, 40), channels=3)


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
                         ids=["deepcopy", "pickle"])
def test_a_copy_answers_the_same_and_shares_nothing(config, copy_of, images):
    model = build(config, Preprocess(image_size=config.image_size, crop_ratio=0.9), classes=list("abcdefg"))
    randomise(model)
    other = copy_of(model)
    assert other(images).equal(model(images))
    assert (other.config, other.preprocess, other.classes) == (model.config, model.preprocess, model.classes)
    with torch.no_grad():
        other.stem.proj.weight.add_(1)
    assert not other.stem.proj.weight.equal(model.stem.proj.weight)
