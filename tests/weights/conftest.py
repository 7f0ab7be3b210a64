"""Tiny networks of every family, each written by the tools it comes from, in every container."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.layers import AffineConfig
from allmlp.models.model import Model, ModelConfig
from allmlp.testing import randomise
from allmlp.weights.infer import family_preprocess

# 20 x 20 pixels in patches of 5 x 5: 16 tokens. No two sizes are equal.
SIZES = {"image_size": (20, 20), "patch_size": (5, 5), "width": 12, "depth": 2, "num_classes": 7}

CONFIGS = {
    "mixer": ModelConfig(**SIZES, blocks=(MixerConfig(token_hidden=10, channel_hidden=22, activation="erf"),)),
    "gmixer": ModelConfig(
        **SIZES, init="timm", blocks=(MixerConfig(token_hidden=10, channel_hidden=22, activation="swiglu"),)
    ),
    "resmlp": ModelConfig(
        **SIZES, init="deit", norm=AffineConfig(), blocks=(ResMLPConfig(channel_hidden=22, layer_scale=0.1),)
    ),
    "gmlp": ModelConfig(**SIZES, init="timm", blocks=(GMLPConfig(hidden=22),)),
}

Write = Callable[[dict, Path], None]


def write_npz(tensors: dict, path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, **{name: np.asarray(tensor) for name, tensor in tensors.items()})


def write_compressed_npz(tensors: dict, path: Path) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, **{name: np.asarray(tensor) for name, tensor in tensors.items()})


WRITERS: dict[str, Write] = {
    "safetensors": lambda tensors, path: save_file({k: v.contiguous() for k, v in tensors.items()}, path),
    "pth": lambda tensors, path: torch.save(tensors, path),
    "legacy pth": lambda tensors, path: torch.save(tensors, path, _use_new_zipfile_serialization=False),
    "npz": write_npz,
    "compressed npz": write_compressed_npz,
}


@pytest.fixture(scope="session")
def golden() -> Path:
    return Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def configs() -> dict[str, ModelConfig]:
    return CONFIGS


@pytest.fixture(scope="session")
def writers() -> dict[str, Write]:
    """How each container is written by the library that defines it."""
    return WRITERS


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A temporary folder that is emptied at once: whole networks take up to 0.8 GB."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture
def random_model() -> Callable[[ModelConfig], Model]:
    """Builds a network with random weights in every parameter, in evaluation mode."""

    def make(config: ModelConfig) -> Model:
        with torch.device("meta"):
            model = Model(config, family_preprocess(config))
        model = model.to_empty(device="cpu").eval()
        randomise(model)
        return model

    return make


@pytest.fixture(params=CONFIGS)
def tiny(request: pytest.FixtureRequest, random_model) -> Model:
    """The tiny network of each family in turn."""
    return random_model(CONFIGS[request.param])
