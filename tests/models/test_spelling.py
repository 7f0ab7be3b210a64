"""Blocks in words are the blocks that their configs spell out."""

import pytest

from allmlp.errors import AllMLPError
from allmlp.models.blocks import (
    AttentionConfig,
    ConvolutionConfig,
    GMLPConfig,
    IdentityMixingConfig,
    MixerConfig,
    PoolingConfig,
    ResMLPConfig,
    ShiftConfig,
    SumConfig,
)
from allmlp.models.config import ModelConfig
from allmlp.models.merging import MergingConfig
from allmlp.models.model import build
from allmlp.models.spelling import WORDS, respelled, spelled_blocks
from allmlp.models.variants import model_config

MIXER = MixerConfig(token_hidden=32, channel_hidden=256, activation="erf")
ATTENTION = AttentionConfig(heads=2, channel_hidden=256)


@pytest.mark.parametrize(("text", "blocks"), [
    ("mixer,attention", (MIXER, ATTENTION)),
    ("mixer*2, attention", (MIXER, MIXER, ATTENTION)),
    ("mixer+attention*2", (SumConfig(blocks=(MIXER, ATTENTION)),) * 2),
    ("mixer~attention", (SumConfig(blocks=(MIXER, ATTENTION), learned=True),)),
    ("mixer,conv,full_conv", (MIXER, ConvolutionConfig(), ConvolutionConfig(channels="full"))),
    ("resmlp,gmlp,convolution", (ResMLPConfig(channel_hidden=256, layer_scale=0.1), GMLPConfig(hidden=256),
                                 ConvolutionConfig(channel_hidden=256))),
    ("full_convolution,shift", (ConvolutionConfig(channels="full", channel_hidden=256),
                                ShiftConfig(channel_hidden=256))),
    ("pooling,identity", (PoolingConfig(channel_hidden=256), IdentityMixingConfig(channel_hidden=256))),
    ("attention,merging,attention,mixer", (ATTENTION, MergingConfig(), AttentionConfig(heads=4, channel_hidden=512),
                                           MixerConfig(token_hidden=32, channel_hidden=512, activation="erf"))),
])  # fmt: skip
def test_words_stand_for_blocks_of_the_usual_shape(text, blocks):
    assert spelled_blocks(text, 64) == blocks


def test_sizes_that_are_given_are_taken():
    assert spelled_blocks("mixer,attention", 64, channel_hidden=96, token_hidden=7, heads=8, activation="tanh") == (
        MixerConfig(token_hidden=7, channel_hidden=96, activation="tanh"),
        AttentionConfig(heads=8, channel_hidden=96, activation="tanh"))


@pytest.mark.parametrize("word", [word for word in WORDS if word != "merging"])
def test_every_word_makes_a_network_at_widths_without_common_divisors(word):
    for width in (13, 96):
        build(ModelConfig(image_size=(8, 8), patch_size=(2, 2), width=width, depth=2, num_classes=3,
                          blocks=spelled_blocks(word, width)))


def test_a_network_takes_turns_up_to_its_depth_or_all_the_layers_that_are_counted_out():
    base = model_config("mixer_p2_8")
    hidden = base.blocks[0].channel_hidden
    assert [layer.kind for layer in respelled(base, "mixer,attention").layers] == ["mixer", "attention"] * 2
    assert {layer.channel_hidden for layer in respelled(base, "mixer,attention").layers} == {hidden}
    assert [layer.kind for layer in respelled(base, "mixer*2,attention").layers] == ["mixer"] * 2 + ["attention"]
    assert respelled(base, "mixer,merging,mixer").depth == 3
    assert respelled(base, "mixer,conv,mixer,conv,mixer,conv").depth == 6


@pytest.mark.parametrize(("text", "line"), [
    ("mixr", "unknown block 'mixr'; did you mean mixer?; with commas, as in mixer,attention"),
    ("mixer*0", "blocks 'mixer*0': 'mixer*0' wants a number of layers from 1 to 1024 behind its *, as in mixer*4"),
    ("mixer*1000,mixer*1000", "blocks 'mixer*1000,mixer*1000': more than 1024 layers, which is the limit"),
    ("mixer+conv~pooling", "blocks 'mixer+conv~pooling': a sum has fixed (+) or learned (~) weights, not both"),
    ("mixer+merging", "blocks 'mixer+merging': merging stands alone, as it changes the grid; write it between commas"),
])
def test_a_slip_is_one_clear_line(text, line):
    with pytest.raises(AllMLPError) as error:
        spelled_blocks(text, 64)
    assert str(error.value) == line
