"""The definition of our int8 arithmetic: what each step keeps of the numbers it replaces."""

from typing import Any

import numpy as np
import pytest
import torch

from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.errors import BadData
from allmlp.models.blocks import GMLPConfig, MixerConfig, ResMLPConfig
from allmlp.models.config import ModelConfig
from allmlp.models.fold import fold
from allmlp.models.model import Model
from allmlp.preprocess import to_network_input
from allmlp.quantize import reference
from allmlp.quantize.calibrate import calibrate
from allmlp.quantize.int8 import (
    LOWEST,
    MIDDLE,
    gelu,
    gelu_table,
    index_range,
    linear,
    migrate,
    operand,
    quantise_block,
    quantise_weight,
)
from allmlp.quantize.parts import Linear, Norm, take_apart
from allmlp.quantize.sensitivity import sensitivity
from allmlp.testing import randomise

BLOCKS: dict[str, Any] = {
    "mixer": MixerConfig(token_hidden=10, channel_hidden=64),
    "resmlp": ResMLPConfig(channel_hidden=64, layer_scale=0.1),
    "gmlp": GMLPConfig(hidden=64),
}


def network(name: str = "mixer", depth: int = 2) -> Model:
    model = Model(ModelConfig(image_size=(12, 16), patch_size=(4, 4), width=32, depth=depth, blocks=(BLOCKS[name],),
                              num_classes=10))  # fmt: skip
    randomise(model, seed=3)
    return model.eval()


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 12, 16, 3), dtype=np.uint8)


def int8_error(model: Model, images: np.ndarray, calibration: np.ndarray) -> float:
    """Root mean square error of int8 logits over the deviation of the exact ones."""
    parts = take_apart(model)
    blocks = tuple(quantise_block(block, ranges)
                   for block, ranges in zip(parts.blocks, calibrate(model, calibration), strict=True))
    exact = PyTorchPredictor(model)(images)
    return float(np.sqrt(np.square(reference.logits(parts, blocks, images) - exact).mean()) / exact.std())


def test_a_weight_is_kept_to_half_a_step_of_its_own_output():
    weight = np.random.default_rng(0).standard_normal((20, 30)) * 10.0 ** np.arange(-10, 10)[:, None]
    whole, scale = quantise_weight(weight)
    assert np.abs(whole).max(1).tolist() == [127] * 20  # every output uses the whole range, however small
    assert (np.abs(whole * scale[:, None] - weight) <= scale[:, None] / 2 * (1 + 1e-9)).all()


def test_an_output_without_weights_stays_zero():
    whole, scale = quantise_weight(np.zeros((1, 4)))
    assert not whole.any()
    assert np.isfinite(scale).all()


@pytest.mark.parametrize("kind", ["erf", "tanh"])
@pytest.mark.parametrize("low,high", [(-3.0, 2.0), (-20.0, 7.0), (-0.1, 0.1), (-40.0, -10.0)])
def test_the_table_is_gelu_to_a_step(low: float, high: float, kind: str):
    low, high = index_range(low, high)
    table, scale, zero_point = gelu_table(low, high, kind)
    arguments = np.linspace(low, high, 1000)
    index = np.rint((arguments - low) * 255 / (high - low)).astype(int)
    values = (table[index].astype(int) - zero_point) * scale
    half_an_index = 1.13 * (high - low) / 255 / 2  # GELU is nowhere steeper than 1.13
    assert np.abs(values - gelu(arguments, kind)).max() <= half_an_index + scale * 1.001
    assert LOWEST <= low < 0 < high


def test_moving_scales_into_the_weights_changes_no_product():
    random = np.random.default_rng(0)
    x, layer = random.standard_normal((9, 12)) * np.geomspace(0.1, 100, 12), Linear(random.standard_normal((7, 12)),
                                                                                     np.zeros(7))  # fmt: skip
    factor, scale, (moved,) = migrate(np.abs(x).max(0), layer)
    assert np.allclose((x / factor) @ moved.weight.T, x @ layer.weight.T)
    assert np.abs(x / factor).max() == pytest.approx(127 * scale)


def test_a_norm_that_writes_bytes_writes_what_the_norm_gives():
    random = np.random.default_rng(0)
    x_SC = random.standard_normal((50, 16)).astype(np.float32)
    norm = Norm(1e-6, random.uniform(0.5, 2, 16), random.standard_normal(16))
    exact = reference.normalise(x_SC, norm)
    scale = np.abs(exact).max(0) / 127
    written = reference.to_byte(reference.normalise(x_SC, operand(norm, scale))).astype(int)
    assert (np.abs((written - MIDDLE) * scale - exact) <= scale * 0.501).all()


def test_sums_are_exact_integers():
    random = np.random.default_rng(0)
    layer = linear(Linear(random.standard_normal((5, 40)), np.zeros(5)), 1.0, 77)
    bytes_ = random.integers(0, 256, (3, 40)).astype(np.uint8)
    expected = [[sum((int(u) - 77) * int(w) for u, w in zip(row, weights, strict=True)) for weights in layer.weight]
                for row in bytes_]  # fmt: skip
    assert reference.accumulate(bytes_, layer).tolist() == expected


@pytest.mark.parametrize("name", BLOCKS)
def test_int8_logits_are_close_to_the_exact_ones(name: str):
    model = network(name)
    assert int8_error(model, pictures(8), pictures(64, seed=1)) < 0.03


def test_ranges_are_those_of_the_activations():
    model, images = network(), pictures(20)
    ranges = calibrate(model, images, percentile=100)
    folded = fold(model)
    names = ["blocks.1.norm1", "blocks.1.mlp_tokens.fc1", "blocks.1.norm2", "blocks.1.mlp_channels.fc1"]
    with torch.no_grad():
        _, inside = folded.forward_intermediates(to_network_input(images, model.preprocess), names)
    norm1, tokens, norm2, channels = (inside[name].numpy() for name in names)
    assert np.allclose(ranges[1].tokens_in, np.abs(norm1).max((0, 1)), rtol=1e-5)
    assert np.allclose(ranges[1].channels_in, np.abs(norm2).max((0, 1)), rtol=1e-5)
    assert np.allclose(ranges[1].tokens_hidden, (tokens.min(), tokens.max()), rtol=1e-5)
    assert np.allclose(ranges[1].channels_hidden, (channels.min(), channels.max()), rtol=1e-5)


def test_a_percentile_cuts_what_is_seen_once():
    model, images = network(), pictures(16)
    whole, cut = (calibrate(model, images, percentile)[0].channels_hidden for percentile in (100, 99))
    assert whole[0] < cut[0] < cut[1] < whole[1]


def test_calibration_needs_images():
    with pytest.raises(BadData, match="at least one image"):
        calibrate(network(), pictures(0))


def test_a_channel_that_is_a_hundred_times_larger_costs_the_others_nothing():
    model = network()
    images, calibration = pictures(16), pictures(64, seed=1)
    before = int8_error(model, images, calibration)
    with torch.no_grad():  # the same function: what norm2 makes larger, the layer behind it makes smaller
        for block in model.blocks:
            block.get_parameter("norm2.weight")[5] *= 100
            block.get_parameter("norm2.bias")[5] *= 100
            block.get_parameter("mlp_channels.fc1.weight")[:, 5] /= 100
    assert int8_error(model, images, calibration) < 1.2 * before


def test_the_block_that_int8_hurts_most_is_found():
    model = network(depth=4)
    with torch.no_grad():  # one hidden unit far outside the others' range takes their precision
        model.blocks[2].get_parameter("mlp_channels.fc1.bias")[0] = 300
        model.blocks[2].get_parameter("mlp_channels.fc2.weight")[:, 0] = 0
    costs = sensitivity(model, calibrate(model, pictures(64, seed=1), percentile=100), pictures(8))
    assert len(costs) == 4
    assert int(np.argmax(costs)) == 2
    assert all(0 < cost < 1 for cost in costs)
