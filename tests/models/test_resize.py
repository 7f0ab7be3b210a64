"""`resize` as it is called: what stays, what follows, channels, classes, and what is refused."""

import numpy as np
import pytest
import torch

from allmlp import checkpoint
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.errors import AllMLPError, BadSetting, UnknownName
from allmlp.models.model import build
from allmlp.models.resize import INTERPOLATIONS, resize
from allmlp.models.variants import create_model
from allmlp.preprocess import HALF, IMAGENET_MEAN, IMAGENET_STD, Preprocess, fit
from allmlp.testing import randomise

EQUAL = 1e-12  # float64, sums of up to some hundred terms near one
ROUNDING = 2e-6  # float32, through three blocks


def same_bits(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(tensor.equal(theirs[name]) for name, tensor in mine.items())


# --- the network as a whole ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "block", *INTERPOLATIONS])
def test_the_same_sizes_change_no_bit(config, model, method):
    again = resize(model, image_size=(24, 40), patch_size=(4, 8), num_classes=7, in_channels=3, method=method)
    assert again is not model
    assert again.config == config
    assert again.preprocess == model.preprocess
    assert same_bits(again, model)


@pytest.mark.parametrize("method", ["block", "least_squares"])
def test_the_old_network_is_left_as_it_was_and_shares_nothing(config, model, method):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    large = resize(model, image_size=(48, 80), patch_size=(8, 8), num_classes=3, in_channels=1, method=method)
    for parameter in large.parameters():
        parameter.detach().zero_()
    assert model.config == config
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("changes", [
    {"image_size": 32}, {"image_size": (12, 80)}, {"image_size": (48, 80), "method": "block"}, {"patch_size": (2, 10)},
    {"in_channels": 1}, {"in_channels": 5}, {"num_classes": 4}, {"num_classes": 0}, {"classes": ("a", "b")},
    {"image_size": (30, 36), "patch_size": 6, "in_channels": 2, "num_classes": 3},
], ids=str)  # fmt: skip
def test_the_result_is_a_network_like_any_other(model, tmp_path, changes):
    """It runs, its checkpoint gives it back bit for bit, and every parameter learns."""
    changed = resize(model, **changes)
    config = changed.config
    images = torch.randn(2, config.in_channels, *config.image_size)
    logits = changed(images)
    assert logits.shape == (2, config.num_classes or config.width)
    assert logits.isfinite().all()

    checkpoint.save(changed, tmp_path / "changed.safetensors")
    loaded = checkpoint.load(tmp_path / "changed.safetensors")
    assert loaded.config == config
    assert loaded.preprocess == changed.preprocess
    assert same_bits(loaded, changed)

    randomise(changed)  # a fresh head is zero, and stops gradients
    changed(images).square().sum().backward()
    assert [name for name, parameter in changed.named_parameters() if not parameter.grad.any()] == []


def test_numpys_numbers_are_numbers(model):
    side = np.int64(32)
    for size in (side, (side, side), np.array([32, 32]), torch.Size([32, 32])):
        assert resize(model, image_size=size).config.image_size == (32, 32)
        assert create_model("mixer_p2_8", image_size=size).config.image_size == (32, 32)


def test_preprocessing_follows_the_image_size_and_the_rest_of_it_stays():
    model = create_model("resmlp_p2_8", num_classes=3, classes=("x", "y", "z"))
    model.output = "sigmoid"
    changed = resize(model, image_size=(12, 18))
    assert changed.preprocess == model.preprocess.with_(image_size=(12, 18))
    assert (changed.classes, changed.output) == (("x", "y", "z"), "sigmoid")
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    assert PyTorchPredictor(changed)(fit(noise, changed.preprocess)[None]).shape == (1, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_dtype_and_mode_stay(model, dtype):
    for training in (True, False):
        changed = resize(model.to(dtype).train(training), image_size=(28, 48), patch_size=(4, 6), num_classes=2)
        assert {parameter.dtype for parameter in changed.parameters()} == {dtype}
        assert changed.training is training


# --- channels --------------------------------------------------------------------------------------------------------

NORMALISATIONS = {"half": (HALF, HALF), "imagenet": (IMAGENET_MEAN, IMAGENET_STD)}


@pytest.fixture(params=NORMALISATIONS)
def predicted(request, config):
    """A network in float32 with each normalisation, and pictures for it."""
    mean, std = NORMALISATIONS[request.param]
    model = build(config, Preprocess(image_size=config.image_size, mean=mean, std=std)).eval()
    randomise(model)
    return model, np.random.default_rng(1).integers(0, 256, (4, *config.image_size, 3), dtype=np.uint8)


def test_grey_pictures_keep_their_logits_with_one_channel(predicted):
    model, pictures = predicted
    grey = np.repeat(pictures[..., :1], 3, axis=3)
    single = resize(model, in_channels=1)
    assert single.stem.proj.weight.shape[1] == single.preprocess.channels == 1
    assert np.abs(PyTorchPredictor(single)(grey) - PyTorchPredictor(model)(grey)).max() < ROUNDING
    assert np.abs(PyTorchPredictor(single)(pictures) - PyTorchPredictor(model)(pictures)).max() > 0.01  # not colours


def test_one_channel_is_the_sum_of_three_where_they_are_normalised_alike(model):
    single = resize(model.double(), in_channels=1)
    assert (single.stem.proj.weight[:, 0] - model.stem.proj.weight.sum(1)).abs().max() < EQUAL
    assert (single.stem.proj.bias - model.stem.proj.bias).abs().max() < EQUAL


def test_all_pictures_keep_their_logits_with_three_channels_for_one(predicted):
    """Of the network with one channel, which sees their luma."""
    model, pictures = predicted
    single = resize(model, in_channels=1)
    colour = resize(single, in_channels=3)
    assert np.abs(PyTorchPredictor(colour)(pictures) - PyTorchPredictor(single)(pictures)).max() < ROUNDING


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_inputs_alike_in_all_channels_keep_their_logits_with_any_number_of_channels(model, channels):
    model.double()
    plane = torch.randn(2, 1, 24, 40, dtype=torch.float64)
    many = resize(model, in_channels=channels)
    with torch.no_grad():
        expected = model(plane.expand(-1, 3, -1, -1))
        assert (many(plane.expand(-1, channels, -1, -1)) - expected).abs().max() < EQUAL


# --- classes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def animals():
    model = create_model("resmlp_p2_8", classes=("ant", "bee", "cat", "dog"), seed=0)
    randomise(model)
    return model


def test_classes_keep_their_logits_by_name(animals):
    changed = resize(animals, classes=("dog", "eel", "bee"), seed=3)
    images = torch.randn(2, 3, 8, 8)
    assert changed.classes == ("dog", "eel", "bee")
    assert changed.num_classes == 3
    assert (changed(images)[:, [0, 2]] - animals(images)[:, [3, 1]]).abs().max() < ROUNDING


def test_new_classes_start_by_the_networks_own_scheme(animals):
    """ResMLP's: small random numbers, fixed by the seed; Google's: zero."""
    heads = [resize(animals, classes=("dog", "eel"), seed=seed).head for seed in (3, 3, 4)]
    assert 0.01 < heads[0].weight[1].std() < 0.03
    assert heads[0].bias[1] == 0
    assert heads[0].weight.equal(heads[1].weight)
    assert not heads[0].weight.equal(heads[2].weight)
    mixer = create_model("mixer_p2_8", classes=("ant", "bee"), seed=0)
    randomise(mixer)
    head = resize(mixer, classes=("bee", "new")).head
    assert head.weight[0].equal(mixer.head.weight[1])
    assert not head.weight[1].any()


def test_a_number_of_classes_makes_a_fresh_head_without_names(animals):
    changed = resize(animals, num_classes=6, seed=0)
    assert changed.classes is None
    assert changed.num_classes == 6
    assert not changed.head.weight.eq(animals.head.weight[0]).all(1).any()


def test_a_head_can_be_taken_off_and_put_on(animals):
    bare = resize(animals, num_classes=0)
    images = torch.randn(2, 3, 8, 8)
    assert bare(images).equal(animals.forward_head(animals.forward_features(images), pre_logits=True))
    assert resize(bare, classes=("ant", "bee"))(images).shape == (2, 2)


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "kind", "part"), [
    ({}, BadSetting, "nothing to change"),
    ({"image_size": 26}, BadSetting, "image height 26 is not divisible by the patch height 4; take 24 or 28"),
    ({"patch_size": 9}, BadSetting, "24 is not divisible by the patch height 9"),
    ({"image_size": 0}, BadSetting, "at least 1 pixel"),
    ({"image_size": (24, 40, 3)}, BadSetting, "image_size (24, 40, 3)"),
    ({"image_size": 24.0}, BadSetting, "image_size 24.0"),
    ({"image_size": "24"}, BadSetting, "image_size '24'"),
    ({"image_size": 8_000_000}, BadSetting, "at most 16384"),
    ({"image_size": 2**65}, BadSetting, "at most 16384"),
    ({"in_channels": 2**62}, BadSetting, "more than any machine has"),
    ({"in_channels": 0}, BadSetting, "in_channels"),
    ({"num_classes": -1}, BadSetting, "num_classes"),
    ({"num_classes": 3, "classes": ("a", "b")}, BadSetting, "2 class names for 3 classes"),
    ({"num_classes": 2.5}, BadSetting, "num_classes"),
    ({"classes": "abc"}, BadSetting, "class names abc: give a list of texts"),
    ({"classes": (1, 2)}, BadSetting, "give a list of texts"),
    ({"classes": 7}, BadSetting, "give a list of texts"),
    ({"classes": ("ant", "crane", "crane")}, BadSetting, "'crane' stands 2 times"),
    ({"classes": ("ant", "")}, BadSetting, "number 1 is empty"),
    ({"num_classes": 10**12}, BadSetting, "with a head for 1000000000000 classes; the limit is 16 GiB"),
    ({"num_classes": 10**30}, BadSetting, "more than any machine has"),
    ({"image_size": torch.tensor(12)}, BadSetting, "image_size tensor(12): give one number"),
    ({"num_classes": 2, "seed": "0"}, BadSetting, "seed '0': give a whole number from 0 to 2**63 - 1"),
    ({"num_classes": 2, "seed": -1}, BadSetting, "seed -1"),
    ({"num_classes": 2, "seed": 2**63}, BadSetting, "seed 9223372036854775808"),
    ({"num_classes": 2, "seed": 1.5}, BadSetting, "seed 1.5"),
    ({"image_size": (36, 40), "method": "block"}, BadSetting, "6 x 5 tokens to whole multiples of it, not to 9 x 5"),
    ({"image_size": (12, 40), "method": "block"}, BadSetting, "not to 3 x 5"),
    ({"image_size": 48, "method": "bilinaer"}, UnknownName, "did you mean bilinear?"),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("config", ["mixer"], indirect=True)
def test_a_mistake_is_one_clear_line(model, changes, kind, part):
    with pytest.raises(AllMLPError) as error:
        resize(model, **changes)
    assert type(error.value) is kind
    assert part in str(error.value)
    assert "\n" not in str(error.value)
