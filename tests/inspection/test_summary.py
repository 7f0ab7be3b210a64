"""The table of layers adds up, and reads like this."""

import math

import pytest

from allmlp.inspection.flops import count_macs, count_parameters
from allmlp.inspection.summary import rows, summary
from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.config import ModelConfig
from allmlp.models.variants import VARIANTS, model_config

TWO_KINDS = ModelConfig(
    image_size=(24, 40), patch_size=(4, 8), in_channels=1, width=14, depth=5, num_classes=7,
    blocks=(MixerConfig(token_hidden=18, channel_hidden=34), GMLPConfig(hidden=44)),
)


@pytest.mark.parametrize("config", [
    *(VARIANTS[name] for name in ("mixer_h14_224", "gmixer_12_224", "resmlp_24_224", "gmlp_ti16_224")),
    model_config("mixer_s4_32", num_classes=0),
    TWO_KINDS,
], ids=["mixer", "gmixer", "resmlp", "gmlp", "no head", "two kinds"])
def test_the_rows_add_up_to_the_network(config):
    table = rows(config)
    assert sum(row.parameters * row.times for row in table) == count_parameters(config)
    assert sum(row.macs * row.times for row in table) == count_macs(config)


def test_a_linear_layers_row_is_its_matrix():
    by_name = {row.name: row for row in rows(VARIANTS["mixer_b16_224"])}
    for name, (inputs, outputs, times_applied) in {
        "blocks.0.mlp_tokens.fc1": (196, 384, 768),
        "blocks.0.mlp_channels.fc2": (3072, 768, 196),
        "head": (768, 1000, 1),
    }.items():
        row = by_name[name]
        assert (row.kind, row.parameters, row.macs) == (
            "Linear", inputs * outputs + outputs, inputs * outputs * times_applied)
        assert math.prod(row.output) == outputs * times_applied
        assert row.times == (1 if name == "head" else 12)


def test_each_kind_of_block_is_listed_once_with_its_number():
    times = {row.name.split(".")[1]: row.times for row in rows(TWO_KINDS) if row.name.startswith("blocks.")}
    assert times == {"0": 3, "1": 2}  # mixer gmlp mixer gmlp mixer


def test_the_text():
    assert summary(TWO_KINDS) == TEXT.strip()


# By hand: the stem 4·8·14 + 14 and 30 times 4·8·14; token mixing 14·30·18; channel mixing 30·14·34; gMLP 30·14·44,
# 22·30·30 and 30·22·14.
TEXT = """
images 24 x 40 x 1, patches 4 x 8, 6 x 5 = 30 tokens, width 14, depth 5, 7 classes
layer                            kind           output  parameters    MACs
stem.proj                        Conv2d     14 x 6 x 5         462  13,440
blocks.0.norm1                   LayerNorm     30 x 14          28       0  x 3
blocks.0.mlp_tokens.fc1          Linear        14 x 18         558   7,560  x 3
blocks.0.mlp_tokens.fc2          Linear        14 x 30         570   7,560  x 3
blocks.0.norm2                   LayerNorm     30 x 14          28       0  x 3
blocks.0.mlp_channels.fc1        Linear        30 x 34         510  14,280  x 3
blocks.0.mlp_channels.fc2        Linear        30 x 14         490  14,280  x 3
blocks.1.norm                    LayerNorm     30 x 14          28       0  x 2
blocks.1.mlp_channels.fc1        Linear        30 x 44         660  18,480  x 2
blocks.1.mlp_channels.gate.norm  LayerNorm     30 x 22          44       0  x 2
blocks.1.mlp_channels.gate.proj  Linear        22 x 30         930  19,800  x 2
blocks.1.mlp_channels.fc2        Linear        30 x 14         322   9,240  x 2
norm                             LayerNorm     30 x 14          28       0
head                             Linear              7         105      98
11,115 parameters (0.0424 MiB in float32)
239,618 MACs per image (0.0004792 GFLOPs): stem 5.6 %, token mixing 35.5 %, channel mixing 58.9 %, head 0.0 %
"""
