"""A change that should change nothing leaves twenty training losses of each family as they were.

When a change is meant to change them (a new start, a corrected equation), write the file again and say so:

    python tests/models/test_golden_losses.py
"""

import json
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.config import ModelConfig
from allmlp.models.layers import AffineConfig
from allmlp.models.model import build

FILE = Path(__file__).with_name("golden_losses.json")

SIZES = {"image_size": (8, 8), "patch_size": (2, 2), "in_channels": 1, "width": 48, "depth": 4, "num_classes": 10}
NETWORKS = {
    "mixer": ModelConfig(**SIZES, blocks=(MixerConfig(token_hidden=24, channel_hidden=96),), init="flax"),
    "gmixer": ModelConfig(
        **SIZES, blocks=(MixerConfig(token_hidden=24, channel_hidden=96, activation="swiglu"),), init="timm"
    ),
    "resmlp": ModelConfig(
        **SIZES, blocks=(ResMLPConfig(channel_hidden=192, layer_scale=0.1),), init="deit", norm=AffineConfig()
    ),
    "gmlp": ModelConfig(**SIZES, blocks=(GMLPConfig(hidden=192),), init="timm"),
}

# The steps are computed in float64, so another order of summation shows up below 1e-12. What remains are the starting
# weights, drawn in float32, whose last bit may differ (by 6e-8) between vector units. Perturbing all of them by that
# much moved no loss by more than 1e-7; a LayerNorm epsilon of 1e-5 for 1e-6 moves them by 7e-7 to 2e-6.
SAME = 3e-7  # relative


def losses(config: ModelConfig, steps: int = 20) -> list[float]:
    """Cross-entropy before each of `steps` AdamW steps, each on the first 32 of scikit-learn's digits."""
    digits = load_digits()
    images = torch.tensor(digits.images[:32])[:, None] / 8 - 1
    labels = torch.tensor(digits.target[:32])
    model = build(config, generator=torch.Generator().manual_seed(0)).double().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("family", NETWORKS)
def test_twenty_steps_give_the_golden_losses(family):
    golden = json.loads(FILE.read_text(encoding="utf-8"))
    assert losses(NETWORKS[family]) == pytest.approx(golden[family], rel=SAME)


def test_the_golden_file_has_every_family_and_its_networks_learn():
    golden = json.loads(FILE.read_text(encoding="utf-8"))
    assert golden.keys() == NETWORKS.keys()
    assert all(len(values) == 20 and values[-1] < 0.99 * values[0] for values in golden.values())


if __name__ == "__main__":
    FILE.write_text(json.dumps({family: losses(config) for family, config in NETWORKS.items()}, indent=1) + "\n",
                    encoding="utf-8")
