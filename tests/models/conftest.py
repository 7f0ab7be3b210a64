"""A tiny network of each family, in which no size equals another, so that no axis can be taken for another."""

import pytest
import torch

from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.layers import AffineConfig
from allmlp.models.model import Model, ModelConfig, build
from allmlp.testing import randomise

# 24 x 40 pixels in patches of 4 x 8: 6 x 5 = 30 tokens.
SIZES = {"image_size": (24, 40), "patch_size": (4, 8), "width": 14, "depth": 3, "num_classes": 7}

FAMILIES = {
    "mixer": ModelConfig(**SIZES, blocks=(MixerConfig(token_hidden=18, channel_hidden=34),)),
    "gmixer": ModelConfig(
        **SIZES, blocks=(MixerConfig(token_hidden=18, channel_hidden=34, activation="swiglu"),), init="timm"
    ),
    "resmlp": ModelConfig(
        **SIZES, blocks=(ResMLPConfig(channel_hidden=34, layer_scale=0.1),), init="deit", norm=AffineConfig()
    ),
    "gmlp": ModelConfig(**SIZES, blocks=(GMLPConfig(hidden=44),), init="timm"),
    "hybrid": ModelConfig(
        **SIZES, blocks=(MixerConfig(token_hidden=18, channel_hidden=34), GMLPConfig(hidden=44)), init="timm"
    ),
}


@pytest.fixture(params=FAMILIES)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    """The tiny network of each family in turn."""
    return FAMILIES[request.param]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def model(config: ModelConfig) -> Model:
    """That network with random weights in every parameter, in evaluation mode."""
    model = build(config)
    randomise(model)
    return model.eval()


@pytest.fixture
def images(config: ModelConfig) -> torch.Tensor:
    """Two images of normal noise for it."""
    return torch.randn(2, config.in_channels, *config.image_size)
