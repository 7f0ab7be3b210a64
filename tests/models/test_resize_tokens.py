"""Token mixing on another grid: what the block-diagonal rule and interpolation promise, for every family; float64."""

import copy
import math
import typing

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from allmlp.errors import BadSetting
from allmlp.inspection.flops import count_macs, on_meta
from allmlp.models.blocks import BlockConfig
from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.spach import SpachConfig
from allmlp.models.fold import fold
from allmlp.models.layers import DropPath
from allmlp.models.model import build
from allmlp.models.resize import INTERPOLATIONS, resize
from allmlp.models.resize.resampling import grid_maps
from allmlp.models.variants import model_config
from allmlp.testing import randomise

EQUAL = 1e-12  # float64, sums of up to some hundred terms near one
DIFFERENT = 1e-3  # far above any rounding, far below the spread of the logits
"""Networks of the fixtures take 24 x 40 pixels in patches of 4 x 8: 6 rows and 5 columns of tokens."""

MIXING = {"mixer": "mlp_tokens", "gmixer": "mlp_tokens", "resmlp": "linear_tokens", "gmlp": "mlp_channels.gate.proj"}
plain_families = pytest.mark.parametrize("config", MIXING, indirect=True)


def parts(images, down, across):
    """The images cut into parts of equal size."""
    return [part for strip in images.chunk(down, 2) for part in strip.chunk(across, 3)]


def mixing(model, config):
    """The layer over tokens of the first block."""
    name = next(name for name in MIXING.values() if f"blocks.0.{name}" in dict(model.named_modules()))
    return model.get_submodule(f"blocks.0.{name}")


def mix(layer, x_BSC):
    """The layer applied to the tokens of each channel."""
    return layer(x_BSC.transpose(1, 2)).transpose(1, 2)


# --- the paper's rule ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("down", "across"), [(2, 2), (3, 3), (2, 1), (1, 3), (3, 2)])
def test_logits_of_the_enlarged_network_are_the_mean_over_the_parts(model, down, across):
    """MLP-Mixer, App. C, and the same for the other families. So are pooled features, and tokens are a part's."""
    model.double()
    images = torch.randn(2, 3, down * 24, across * 40, dtype=torch.float64)
    with torch.no_grad():
        large = resize(model, image_size=(down * 24, across * 40), method="block")
        logits = torch.stack([model(part) for part in parts(images, down, across)])
        features = torch.stack([model.forward_features(part).mean(1) for part in parts(images, down, across)])
        corner = model.to_grid(model.forward_features(images[:, :, :24, -40:]))
        tokens = large.forward_features(images)
        assert (large(images) - logits.mean(0)).abs().max() < EQUAL
        assert (large.forward_head(tokens, pre_logits=True) - features.mean(0)).abs().max() < EQUAL
        assert (large.to_grid(tokens)[:, :, :6, -5:] - corner).abs().max() < EQUAL
        assert logits.std(0).mean() > DIFFERENT  # the parts do not agree by themselves


def naive(model, large, copies):
    """The enlarged network with whole copies of the old matrices on the diagonal, as if parts were runs of tokens."""
    state = large.state_dict()
    for name, old in model.state_dict().items():
        if state[name].shape != old.shape:
            state[name] = torch.block_diag(*[old] * copies) if old.ndim == 2 else old.repeat(copies)
    wrong = copy.deepcopy(large)
    wrong.load_state_dict(state)
    return wrong


def test_the_naive_order_of_blocks_fails_the_same_test(model):
    model.double()
    images = torch.randn(2, 3, 48, 80, dtype=torch.float64)
    with torch.no_grad():
        large = resize(model, image_size=(48, 80), method="block")
        mean = torch.stack([model(part) for part in parts(images, 2, 2)]).mean(0)
        assert (naive(model, large, 4)(images) - mean).abs().max() > DIFFERENT


@pytest.mark.parametrize("config", ["mixer", "resmlp", "gmlp"], indirect=True)
def test_parts_below_each_other_are_runs_of_tokens(model):
    """For them alone the naive order is right: an oracle that knows nothing of ours."""
    large = resize(model, image_size=(72, 40), method="block")
    wrong = naive(model, large, 3).state_dict()
    assert all(tensor.equal(wrong[name]) for name, tensor in large.state_dict().items())


@pytest.mark.parametrize("config", ["gmixer"], indirect=True)
def test_values_and_gates_stay_two_halves(model):
    """Even where the order of tokens is right, whole copies would take values for gates."""
    model.double()
    images = torch.randn(2, 3, 48, 40, dtype=torch.float64)
    with torch.no_grad():
        large = resize(model, image_size=(48, 40), method="block")
        assert (naive(model, large, 2)(images) - large(images)).abs().max() > DIFFERENT


# FACTS 1.6, worked out with integer arithmetic apart from any code: parameters at 448 px with 1000 classes and GMACs,
# by the paper's rule (four times the hidden units), then with the hidden units kept (B/16 rounds to 50.40 here).
AT_448 = {
    "mixer_s16_224": (30_581_352, 20.04, 20_941_416, 15.11),
    "mixer_b32_224": (67_082_776, 17.11, 61_649_944, 12.95),
    "mixer_b16_224": (86_996_392, 67.05, 65_306_536, 50.41),
    "mixer_l32_224": (225_043_016, 59.81, 210_555_464, 45.01),
    "mixer_l16_224": (280_500_584, 237.38, 222_660_968, 178.19),
    "mixer_h14_224": (589_723_368, 645.02, 463_832_808, 483.96),
}


@pytest.mark.parametrize("name", AT_448)
def test_sizes_of_the_published_networks_at_448_pixels(name):
    model = on_meta(model_config(name))
    for method, (parameters, gmacs) in (("block", AT_448[name][:2]), ("least_squares", AT_448[name][2:])):
        large = resize(model, image_size=448, method=method)
        assert sum(parameter.numel() for parameter in large.parameters()) == parameters
        assert count_macs(large.config) / 1e9 == pytest.approx(gmacs, abs=0.01)


# --- interpolation ---------------------------------------------------------------------------------------------------


def level(model):
    """Make every token that comes out of token mixing the same, for tokens that are alike: an exact test of scale."""
    with torch.no_grad():
        for number, block in enumerate(model.config.layers):
            for name, axes in block.token_axes.items():
                parameter = model.get_parameter(f"blocks.{number}.{name}")
                if axes[0] == "tokens out":
                    parameter.copy_(parameter[:1].expand_as(parameter))
    return model


@given(
    method=st.sampled_from(["auto", *INTERPOLATIONS]), rows=st.integers(1, 13), columns=st.integers(1, 11),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])  # of `config`, a frozen value
def test_a_constant_image_keeps_its_logits_at_any_size(config, method, rows, columns, seed):
    """Smaller or larger, square or not: no factor is left over from the number of tokens. Exact where all tokens give
    the same; then a scale that is wrong anywhere in the network cannot hide."""
    model = build(config).double().eval()
    randomise(model, seed)
    changed = resize(level(model), image_size=(4 * rows, 8 * columns), method=method)
    colour = torch.randn(1, 3, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = model(colour.expand(-1, -1, 24, 40))
        assert (changed(colour.expand(-1, -1, 4 * rows, 8 * columns)) - expected).abs().max() < EQUAL


@pytest.mark.parametrize("method", INTERPOLATIONS)
@pytest.mark.parametrize("grid", [(3, 3), (6, 4), (9, 8), (4, 10), (12, 10)], ids=str)
@plain_families
def test_tokens_that_are_alike_give_the_interpolated_tokens_that_they_gave(config, model, method, grid):
    """Hidden units stay what they were and what comes out is resampled, biases too."""
    model.double()
    changed = resize(model, image_size=(4 * grid[0], 8 * grid[1]), method=method)
    old, new = mixing(model, config), mixing(changed, config)
    token = torch.randn(1, 1, 9, dtype=torch.float64)  # nine channels
    before = mix(old, token.expand(-1, 30, -1))
    after = mix(new, token.expand(-1, math.prod(grid), -1))
    if "mixer" in config.blocks[0].kind:
        many = token.expand(-1, math.prod(grid), -1)
        hidden, changed_hidden = old.fc1(token.expand(-1, 30, -1).transpose(1, 2)), new.fc1(many.transpose(1, 2))
        assert (changed_hidden - hidden).abs().max() < EQUAL
    to_new = grid_maps((6, 5), grid, *INTERPOLATIONS[method]).to_new
    assert (after - to_new @ before).abs().max() < EQUAL
    assert before.std(1).min() > DIFFERENT


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("target", [(7, 9), (12, 10), (13, 6)], ids=str)
def test_interpolated_tokens_are_those_of_an_image_library(kernel, target):
    """PIL resamples the tokens of each channel like a picture."""
    tokens = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    picture = Image.fromarray(tokens).resize(target[::-1], Image.Resampling[kernel.upper()])
    found = grid_maps((6, 5), target, kernel, False).to_new @ torch.from_numpy(tokens).double().flatten()
    assert np.abs(found.numpy().reshape(target) - np.asarray(picture)).max() < 1e-6  # PIL computes in float32


def test_area_weighs_by_the_overlap_of_cells():
    """Three cells on five: edges at fifths and thirds. Reducing takes the mean over what a large cell covers."""
    up = grid_maps((3, 1), (5, 1), "area", False).to_new
    assert up.sub(torch.tensor([[3, 0, 0], [2, 1, 0], [0, 3, 0], [0, 1, 2], [0, 0, 3]]) / 3).abs().max() < 1e-7
    down = grid_maps((6, 6), (3, 2), "area", False).to_new
    image = torch.randn(6, 6, dtype=torch.float64)
    pooled = F.avg_pool2d(image[None, None], (2, 3)).flatten()
    assert (down @ image.flatten() - pooled).abs().max() < EQUAL


@pytest.mark.parametrize("method", ["nearest", "area"])
@pytest.mark.parametrize(("down", "across"), [(2, 2), (3, 1), (2, 3)])
def test_repeated_patches_give_the_same_tokens_repeated(model, method, down, across):
    """Exact through the whole network: the old tokens are recovered in every block. So for constant images, too."""
    model.double()
    images = torch.randn(2, 3, 24, 40, dtype=torch.float64)
    patches = images.reshape(2, 3, 6, 4, 5, 8)
    repeated = patches.repeat_interleave(down, 2).repeat_interleave(across, 4).reshape(2, 3, 24 * down, 40 * across)
    large = resize(model, image_size=(24 * down, 40 * across), method=method)
    with torch.no_grad():
        tokens = model.to_grid(model.forward_features(images))
        expected = tokens.repeat_interleave(down, 2).repeat_interleave(across, 3)
        assert (large.to_grid(large.forward_features(repeated)) - expected).abs().max() < EQUAL
        assert (large(repeated) - model(images)).abs().max() < EQUAL


@pytest.mark.parametrize("grid", [(7, 9), (12, 10)], ids=str)
@plain_families
def test_least_squares_mixes_interpolated_tokens_as_the_old_layer_mixed_them(config, model, grid):
    model.double()
    large = resize(model, image_size=(4 * grid[0], 8 * grid[1]), method="least_squares")
    to_new = grid_maps((6, 5), grid, "bicubic", False).to_new
    tokens = torch.randn(2, 30, 9, dtype=torch.float64)
    expected = to_new @ mix(mixing(model, config), tokens)
    assert (mix(mixing(large, config), to_new @ tokens) - expected).abs().max() < EQUAL


@pytest.mark.parametrize("method", ["block", *INTERPOLATIONS])
def test_folding_and_resizing_may_come_in_either_order(model, method):
    model.double()
    images = torch.randn(2, 3, 48, 80, dtype=torch.float64)
    one = resize(fold(model), image_size=(48, 80), method=method)
    other = fold(resize(model, image_size=(48, 80), method=method))
    assert one.config == other.config
    with torch.no_grad():
        assert (one(images) - other(images)).abs().max() < EQUAL


# --- what a block says of itself -------------------------------------------------------------------------------------


KINDS = typing.get_args(typing.get_args(BlockConfig)[0])
GIVEN = {"heads": 2, "blocks": (MixerConfig(token_hidden=8, channel_hidden=8), GMLPConfig(hidden=8))}
SMALL = [kind(**{name: GIVEN.get(name, 8) for name, field in kind.model_fields.items() if field.is_required()})
         for kind in KINDS]
SMALL += [MixerConfig(token_hidden=8, channel_hidden=8, activation="swiglu"),
          SpachConfig(mixing="mlp", token_hidden=8, channel_hidden=8)]
FOLDED = [block.with_(folded=True) for block in SMALL if "folded" in type(block).model_fields]


@pytest.mark.parametrize("block", [*SMALL, *FOLDED], ids=str)
def test_every_block_names_each_axis_that_goes_with_the_number_of_tokens(block):
    """Built for two grids, and side by side, each parameter changes along the named axes and along no other."""
    def shapes(config, grid):
        with torch.device("meta"):
            module = config.build(14, grid, [DropPath(0, True)] * config.branches)
        return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}

    old, new = shapes(block, (6, 5)), shapes(block, (7, 11))
    try:
        beside = shapes(block.beside(3), (6, 5))
    except BadSetting as error:  # it has no form for that, and says so
        assert block.kind in str(error)
        beside = old
    assert set(block.token_axes) <= old.keys()
    for name, shape in old.items():
        axes = block.token_axes.get(name, (None,) * len(shape))
        assert len(axes) == len(shape)
        for number, axis in enumerate(axes):
            tokens, hidden = axis in ("tokens in", "tokens out"), axis in ("hidden", "halves of hidden")
            assert new[name][number] == (77 if tokens else shape[number]), name
            assert beside[name][number] == (3 * shape[number] if hidden and beside != old else shape[number]), name
