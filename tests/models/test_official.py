"""The official implementations' answers for tiny networks (`tests/golden`): Google's Flax Mixer, Facebook's ResMLP."""

from pathlib import Path

import numpy as np
import pytest
import torch

from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.layers import AffineConfig
from allmlp.models.model import Model, ModelConfig

GOLDEN = Path(__file__).parents[1] / "golden"
SAME = 1e-5  # relative to the largest value; float32, and Flax computes a LayerNorm's variance in another way

BLOCK_NAMES = {
    "token_mixing/Dense_0": "mlp_tokens.fc1",
    "token_mixing/Dense_1": "mlp_tokens.fc2",
    "channel_mixing/Dense_0": "mlp_channels.fc1",
    "channel_mixing/Dense_1": "mlp_channels.fc2",
    "LayerNorm_0": "norm1",
    "LayerNorm_1": "norm2",
}
TOP_NAMES = {"stem": "stem.proj", "pre_head_layer_norm": "norm", "head": "head"}


def from_google(name: str, value: np.ndarray) -> tuple[str, torch.Tensor]:
    """Flax keeps kernels (in, out) and (height, width, in, out), PyTorch (out, in) and (out, in, height, width)."""
    path, _, leaf = name.rpartition("/")
    if path.startswith("MixerBlock_"):
        block, _, layer = path.partition("/")
        path = f"blocks.{block.removeprefix('MixerBlock_')}.{BLOCK_NAMES[layer]}"
    else:
        path = TOP_NAMES[path]
    axes = {2: (1, 0), 4: (3, 2, 0, 1)}.get(value.ndim, (0,))
    return f"{path}.{'bias' if leaf == 'bias' else 'weight'}", torch.from_numpy(value.transpose(axes).copy())


def from_facebook(name: str, value: torch.Tensor) -> tuple[str, torch.Tensor]:
    for theirs, ours in (("patch_embed", "stem"), (".attn.", ".linear_tokens."), (".mlp.", ".mlp_channels."),
                         ("gamma_", "ls")):
        name = name.replace(theirs, ours)
    return name, value.reshape(1, 1, -1) if name.endswith(("alpha", "beta")) else value


def assert_answers(model: Model, images: torch.Tensor, answers) -> None:
    with torch.no_grad():
        features = model.forward_head(model.forward_features(images), pre_logits=True)
        logits = model(images)
    for ours, theirs in ((features, answers["features"]), (logits, answers["logits"])):
        assert ours.shape == theirs.shape
        assert np.abs(ours.numpy() - theirs).max() <= SAME * np.abs(theirs).max()


@pytest.mark.parametrize(("file", "config"), [
    ("google-mixer-tiny", ModelConfig(image_size=(32, 32), patch_size=(8, 8), width=24, depth=3, num_classes=7,
                                      blocks=(MixerConfig(token_hidden=10, channel_hidden=40),))),
    ("google-mixer-rect", ModelConfig(image_size=(32, 48), patch_size=(16, 8), width=16, depth=2, num_classes=5,
                                      blocks=(MixerConfig(token_hidden=12, channel_hidden=24),))),
])
def test_mixer_answers_as_googles(file, config):
    model = Model(config).eval()
    model.load_state_dict(dict(from_google(*item) for item in np.load(GOLDEN / f"{file}.npz").items()))
    answers = np.load(GOLDEN / f"{file}.io.npz")
    assert_answers(model, torch.from_numpy(answers["images"]).permute(0, 3, 1, 2), answers)


def test_resmlp_answers_as_facebooks():
    config = ModelConfig(image_size=(32, 32), patch_size=(8, 8), width=24, depth=3, num_classes=7, norm=AffineConfig(),
                         blocks=(ResMLPConfig(channel_hidden=96, layer_scale=0.1),), init="deit")
    model = Model(config).eval()
    weights = torch.load(GOLDEN / "facebook-resmlp-tiny.pth", weights_only=True)
    model.load_state_dict(dict(from_facebook(*item) for item in weights.items()))
    answers = np.load(GOLDEN / "facebook-resmlp-tiny.io.npz")
    assert_answers(model, torch.from_numpy(answers["images"]), answers)
