"""SPACH's networks: as large as published, and equal to the authors' code given the same weights."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from allmlp.errors import BadSetting
from allmlp.inspection.flops import count_macs, count_parameters
from allmlp.models.blocks.spach import SpachConfig
from allmlp.models.model import build
from allmlp.models.spach import SPACH, spach_network

GOLDEN = Path(__file__).parent.parent / "golden"
SAME = 2e-6  # relative to the largest value: float32 sums of some hundred terms in another order

# Single-stage: exact counts of microsoft/SPACH's networks. Multi-stage: its README's millions and G of multiply-adds,
# to which its own formula adds biases and elementwise work, up to 2.5 %.
PARAMETERS = {
    "spach_mlp_xxs": 8_307_184, "spach_convolution_xxs": 7_828_840, "spach_attention_xxs": 3_931_048,
    "spach_mlp_xs": 15_932_536, "spach_convolution_xs": 14_975_848, "spach_attention_xs": 14_938_984,
    "spach_mlp_s": 39_820_024, "spach_convolution_s": 38_854_120, "spach_attention_s": 32_507_368,
}  # fmt: skip
README = {
    "spach_convolution_ms_xxs": (5, 0.7), "spach_attention_ms_xxs": (2, 0.5), "spach_mlp_ms_xxs": (6, 0.9),
    "spach_convolution_ms_s": (44, 7.2), "spach_attention_ms_s": (40, 7.6), "spach_mlp_ms_s": (46, 8.2),
    "spach_hybrid_ms_s": (63, 11.2),
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_single_stage_networks_have_exactly_the_published_parameters(name):
    assert count_parameters(SPACH[name]) == PARAMETERS[name]


@pytest.mark.parametrize("name", README)
def test_multi_stage_networks_have_the_size_that_the_readme_rounds(name):
    millions, giga = README[name]
    assert abs(count_parameters(SPACH[name]) / 1e6 - millions) < 0.6
    assert 0.97 * giga - 0.05 < count_macs(SPACH[name]) / 1e9 < giga + 0.05


def test_heads_stay_as_many_while_channels_double():
    attention = [layer for layer in SPACH["spach_attention_ms_s"].layers if getattr(layer, "heads", 0)]
    assert {layer.heads for layer in attention} == {3}


NETWORKS = {
    "spach-shared-tiny": spach_network([[("mlp", 3)]], width=10, ratio=2, patch=4, image=24, shared=True,
                                       num_classes=7),
    "spach-ms-tiny": spach_network(
        [[("convolution", 1)], [("mlp", 2)], [("convolution", 1), ("attention", 2)], [("attention", 1)]],
        width=4, ratio=2, patch=2, image=32, heads=2, num_classes=7,
    ),
}  # fmt: skip
INSIDE = {"gamma_1": "ls1", "cpe_net.net.1": "position.module", "channel_func": "mlp_channels", "net.1.0": "reduction",
          "net.1.1": "norm"}  # fmt: skip


def ours(state: dict[str, np.ndarray], shared: bool) -> dict[str, torch.Tensor]:
    """SPACH's state dict under our names."""
    numbers: dict[tuple[str, str], int] = {}
    renamed = {}
    for name, array in state.items():
        tensor = torch.from_numpy(array)
        match = re.fullmatch(r"(blocks|layer\d)\.(\d+)\.(.*)", name)
        if match is None:
            renamed[name.replace("norm1.", "stem.norm.").replace("norm2.", "norm.")] = tensor
            continue
        number = numbers.setdefault((match[1], match[2]), len(numbers))
        block, layer = (0, number) if shared else (number, 0)
        inner = match[3]
        if inner.startswith("spatial_func"):
            inside = inner.removeprefix("spatial_func.")
            renamed[f"blocks.{block}.mix_tokens.{'mlp.' if inside.startswith('fc') else ''}{inside}"] = tensor
            continue
        merging = inner.startswith("net.1")
        for theirs, our in INSIDE.items():
            inner = inner.replace(theirs, our)
        renamed[f"blocks.{block}.{inner if merging else f'layers.{layer}.{inner}'}"] = (
            tensor.flatten() if inner == "ls1" else tensor)
    return renamed


@pytest.mark.parametrize("name", NETWORKS)
def test_the_authors_code_gives_the_same_features_and_logits(name):
    golden = np.load(GOLDEN / f"{name}.npz")
    model = build(NETWORKS[name]).eval()
    state = {key.removeprefix("state/"): golden[key] for key in golden if key.startswith("state/")}
    model.load_state_dict(ours(state, "shared" in name))
    with torch.no_grad():
        tokens = model.forward_features(torch.from_numpy(golden["images"]))
        for answer, key in ((tokens.mean(1), "features"), (model.forward_head(tokens), "logits")):
            assert (answer - torch.from_numpy(golden[key])).abs().max() <= SAME * np.abs(golden[key]).max()


def test_shared_token_mixing_is_counted_and_stored_once():
    """Against three blocks without sharing: two token MLPs fewer, 36 -> 18 -> 36 with biases."""
    shared = NETWORKS["spach-shared-tiny"]
    apart = spach_network([[("mlp", 3)]], width=10, ratio=2, patch=4, image=24, num_classes=7)
    token_mlp = 2 * 36 * 18 + 18 + 36
    assert count_parameters(apart) - count_parameters(shared) == 2 * token_mlp
    assert count_macs(apart) == count_macs(shared)
    assert sum("mix_tokens.mlp.fc1.weight" in name for name in build(shared).state_dict()) == 1


@pytest.mark.parametrize(("fields", "line"), [
    ({"mixing": "mlp"}, "spach: token_hidden 0 with mixing 'mlp'; give at least 1"),
    ({"heads": 2}, "spach: heads 2 with mixing 'convolution'; leave it out"),
    ({"layers": 3}, "spach: 3 layers share their token mixing, and mixing 'convolution' has none to share; take "
     "layers 1"),
])
def test_what_does_not_go_together_is_refused_in_one_line(fields, line):
    with pytest.raises(BadSetting) as error:
        SpachConfig(channel_hidden=4, **fields)
    assert str(error.value) == line
