"""timm's networks, weights and all, are ours: the same parameter names, the same features, the same logits.

timm is an independent implementation whose ports of the published weights reach the published accuracies.
"""

import pytest
import timm
import torch

from allmlp.models.model import Model, ModelConfig
from allmlp.models.variants import create_model, model_config
from allmlp.testing import randomise

# Relative to the largest value. The operations are the same ones, but views may lie differently in memory, and then
# the library sums products in another order: some 1e-7 per layer, in up to 36 layers.
SAME = 1e-5

NAMES = timm.list_models(["mixer_*", "resmlp_*", "gmlp_*", "gmixer_*"])
SLOW = ["mixer_b16_224", "mixer_l32_224", "mixer_l16_224", "gmixer_24_224", "resmlp_36_224", "resmlp_big_24_224",
        "gmlp_s16_224", "gmlp_b16_224"]  # more of the same blocks


def activation(name: str) -> str | None:
    """timm's Mixers have the erf GELU where Google's and ours have tanh; gmixer has SiLU in both."""
    return None if name.startswith("gmixer") else "erf"


def timms(name: str, **arguments) -> torch.nn.Module:
    """timm's network with no parameter at a special value (its heads start at zero, its gates at one)."""
    with torch.device("meta"):
        model = timm.create_model(name, **arguments)
    model = model.to_empty(device="cpu").eval()
    randomise(model)
    return model


def ours(config: ModelConfig, theirs: torch.nn.Module) -> Model:
    with torch.device("meta"):
        model = Model(config)
    model.load_state_dict(theirs.state_dict(), strict=True, assign=True)
    return model.eval()


@torch.no_grad()
def assert_same(our_model: Model, their_model: torch.nn.Module, images: torch.Tensor) -> None:
    our_features, their_features = our_model.forward_features(images), their_model.forward_features(images)
    pairs = {
        "features": (our_features, their_features),
        "pre_logits": (our_model.forward_head(our_features, pre_logits=True),
                       their_model.forward_head(their_features, pre_logits=True)),
        "logits": (our_model.forward_head(our_features), their_model.forward_head(their_features)),
    }
    for what, (our, their) in pairs.items():
        assert our.shape == their.shape
        assert their.std() > 0.01, f"{what} of a degenerate network prove nothing"
        assert (our - their).abs().max() <= SAME * their.abs().max(), what


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NAMES])
def test_timms_weights_give_timms_features_and_logits(name):
    theirs = timms(name)
    config = model_config(name, activation=activation(name))
    images = torch.randn(1, 3, 224, 224)
    assert_same(ours(config, theirs), theirs, images)


@pytest.mark.parametrize(("name", "size", "channels"), [
    ("mixer_s32_224", (96, 160), 3),
    ("mixer_s16_224", (48, 80), 1),
    ("resmlp_12_224", (80, 48), 3),
    ("gmlp_ti16_224", (48, 80), 5),
    ("gmixer_12_224", (80, 64), 3),
])
def test_timms_networks_of_another_shape_are_ours_too(name, size, channels):
    theirs = timms(name, img_size=size, in_chans=channels, num_classes=10)
    config = model_config(name, image_size=size, in_channels=channels, num_classes=10,
                          activation=activation(name))
    assert_same(ours(config, theirs), theirs, torch.randn(2, channels, *size))


@pytest.mark.parametrize("name", ["mixer_s32_224", "resmlp_12_224", "gmlp_ti16_224", "gmixer_12_224"])
def test_timms_intermediate_features_are_our_blocks_outputs(name):
    theirs = timms(name, img_size=64)
    config = model_config(name, image_size=64, activation=activation(name))
    model, images = ours(config, theirs), torch.randn(2, 3, 64, 64)
    names = [f"blocks.{index}" for index in range(config.depth)]
    with torch.no_grad():
        _, our = model.forward_intermediates(images, names)
        _, their = theirs.forward_intermediates(images)  # (B, C, rows, columns)
    for name, expected in zip(names, their, strict=True):
        assert (model.to_grid(our[name]) - expected).abs().max() <= SAME * expected.abs().max(), name


@pytest.mark.parametrize("name", ["mixer_s32_224", "resmlp_12_224", "gmlp_ti16_224", "gmixer_12_224"])
def test_our_weights_load_into_timm(name):
    model = create_model(name, image_size=64, num_classes=5, activation=activation(name))
    randomise(model)
    with torch.device("meta"):
        theirs = timm.create_model(name, img_size=64, num_classes=5)
    theirs.load_state_dict(model.state_dict(), strict=True, assign=True)
    assert_same(model, theirs.eval(), torch.randn(2, 3, 64, 64))
