"""A network's config: JSON there and back, and every mistake one line that says what to do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmlp.errors import AllMLPError, BadSetting
from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.layers import AffineConfig, LayerNormConfig, StochasticDepth
from allmlp.models.model import ModelConfig, build
from allmlp.models.variants import VARIANTS

small = st.integers(1, 6)
even = small.map(lambda half: 2 * half)
positive = st.floats(1e-8, 1, exclude_min=True)
norms = st.one_of(st.builds(LayerNormConfig, epsilon=positive), st.builds(AffineConfig))
gelus = st.sampled_from(["tanh", "erf"])
blocks = st.one_of(
    st.builds(MixerConfig, token_hidden=even, channel_hidden=even, norm=norms,
              activation=st.sampled_from(["tanh", "erf", "swiglu"])),
    st.builds(ResMLPConfig, channel_hidden=small, layer_scale=positive, activation=gelus, norm=norms),
    st.builds(GMLPConfig, hidden=even, activation=gelus, norm=norms, gate_norm=norms),
)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    patch_size, grid = draw(st.tuples(small, small)), draw(st.tuples(small, small))
    pattern = tuple(draw(st.lists(blocks, min_size=1, max_size=3)))
    return ModelConfig(
        image_size=(patch_size[0] * grid[0], patch_size[1] * grid[1]), patch_size=patch_size, blocks=pattern,
        in_channels=draw(small), width=draw(small), depth=draw(st.integers(len(pattern), 4)), norm=draw(norms),
        num_classes=draw(st.integers(0, 5)), init=draw(st.sampled_from(["flax", "timm", "deit"])),
        head_bias=draw(st.floats(-10, 10)),
        stochastic_depth=draw(st.builds(StochasticDepth, rate=st.floats(0, 1, exclude_max=True),
                                        rule=st.sampled_from(["mlp", "block", "constant"]), rescale=st.booleans())),
    )


@given(configs())
@settings(max_examples=30)
def test_a_config_comes_back_from_json_equal_and_builds_its_network(config):
    again = ModelConfig.from_json(config.to_json())
    assert again == config
    assert [type(block) for block in again.blocks] == [type(block) for block in config.blocks]
    model = build(again)
    images = model.stem.proj.weight.new_zeros(2, config.in_channels, *config.image_size)
    assert model(images).shape == (2, config.num_classes or config.width)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_named_config_comes_back_from_json_equal(name):
    assert ModelConfig.from_json(VARIANTS[name].to_json(indent=2)) == VARIANTS[name]


def test_a_config_is_frozen_and_equal_ones_hash_alike(config):
    with pytest.raises(Exception, match="frozen"):
        config.depth = 4
    assert len({config, config.with_(depth=3)}) == 1


def test_blocks_take_turns_up_to_the_depth(config):
    two = (MixerConfig(token_hidden=2, channel_hidden=3), GMLPConfig(hidden=4))
    assert [block.kind for block in config.with_(blocks=two, depth=5).layers] == [
        "mixer", "gmlp", "mixer", "gmlp", "mixer"
    ]


@pytest.mark.parametrize(("change", "line"), [
    ({"image_size": (225, 224)},
     "model: image height 225 is not divisible by the patch height 16; take 224 or 240"),
    ({"image_size": (224, 230)},
     "model: image width 230 is not divisible by the patch width 16; take 224 or 240"),
    ({"image_size": (8, 224)}, "model: image height 8 is not divisible by the patch height 16; take 16"),
    ({"patch_size": (0, 16)}, "model: height: image size 224 and patch size 0 must be at least 1 pixel"),
    ({"depth": 0}, "model: depth: Input should be greater than or equal to 1 (got 0)"),
    ({"blocks": (MixerConfig(token_hidden=2, channel_hidden=2),) * 3, "depth": 2},
     "model: 3 blocks for a depth of 2; give at most 2"),
    ({"blocks": ()}, "model: blocks: Tuple should have at least 1 item after validation, not 0 (got ())"),
    ({"num_classes": -1}, "model: num_classes: Input should be greater than or equal to 0 (got -1)"),
    ({"head_bias": float("nan")}, "model: head_bias: Input should be a finite number (got nan)"),
])
def test_a_setting_that_makes_no_network_is_refused_in_one_line(change, line):
    with pytest.raises(BadSetting) as error:
        VARIANTS["mixer_b16_224"].with_(**change)
    assert str(error.value) == line


@pytest.mark.parametrize(("make", "line"), [
    (lambda: GMLPConfig(hidden=7),
     "gmlp: hidden: must be even: the gate splits the hidden channels in halves"),
    (lambda: MixerConfig(token_hidden=6, channel_hidden=7, activation="swiglu"),
     "mixer: swiglu halves the hidden widths, so token_hidden 6 and channel_hidden 7 must both be even"),
    (lambda: ResMLPConfig(channel_hidden=4, layer_scale=0.1, activation="swiglu"),
     "resmlp: activation: Input should be 'tanh' or 'erf' (got 'swiglu')"),
    (lambda: StochasticDepth(rate=1.0), "stochastic depth: rate: Input should be less than 1 (got 1.0)"),
])
def test_a_block_that_cannot_be_is_refused_in_one_line(make, line):
    with pytest.raises(BadSetting) as error:
        make()
    assert str(error.value) == line


def test_an_unknown_field_is_refused_with_the_nearest_name():
    with pytest.raises(AllMLPError) as error:
        VARIANTS["mixer_b16_224"].with_(image_sise=10)
    assert str(error.value) == "unknown setting of model 'image_sise'; did you mean image_size or patch_size?"


@pytest.mark.parametrize(("old", "new", "line"), [
    ('"kind":"mixer"', '"kind":"recurrent"', "model: blocks.0: Input tag 'recurrent'"),
    ('"activation":"tanh"', '"activaton":"tanh"',
     "unknown setting of mixer 'activaton'; did you mean activation?"),
    ('"width":768', '"width":"wide"', "model: width: Input should be a valid integer"),
    ('"width":768', '"width":768,"heads":12', "unknown setting of model 'heads'"),
    ("{", "[", "model: Invalid JSON"),
])
def test_json_that_is_no_config_is_refused_in_one_line(old, new, line):
    text = VARIANTS["mixer_b16_224"].to_json()
    assert old in text
    with pytest.raises(AllMLPError) as error:
        ModelConfig.from_json(text.replace(old, new, 1))
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)
