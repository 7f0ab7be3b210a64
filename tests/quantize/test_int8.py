"""The definition of our int8 arithmetic: what each step keeps of the numbers it replaces."""

from typing import Any

import numpy as np
import pytest
import torch

from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.errors import BadData, BadSetting
from allmlp.models.blocks import GMLPConfig, MixerConfig, ResMLPConfig
from allmlp.models.config import ModelConfig
from allmlp.models.fold import fold
from allmlp.models.model import Model
from allmlp.preprocess import to_network_input
from allmlp.quantize import calibrate as calibration
from allmlp.quantize import reference, rounding
from allmlp.quantize.calibrate import calibrate, images_at_once
from allmlp.quantize.choices import BEST, Choices
from allmlp.quantize.int8 import MIDDLE, fitted, linear, migrate, operand, quantise_weight
from allmlp.quantize.network import quantise
from allmlp.quantize.parts import Linear, Norm
from allmlp.quantize.rounding import compensated
from allmlp.quantize.sensitivity import sensitivity
from allmlp.quantize.tables import LOWEST, Table, gelu, gelu_table, index_range, to_entry
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


def int8_error(model: Model, images: np.ndarray, calibration: np.ndarray, choices: Choices = BEST) -> float:
    """Root mean square error of int8 logits over the deviation of the exact ones."""
    int8 = quantise(model, calibration, choices)
    exact = PyTorchPredictor(model)(images)
    difference = reference.logits(int8, images) - exact
    return float(np.sqrt(np.square(difference).mean()) / exact.std())


def test_a_weight_is_kept_to_half_a_step_of_its_own_output():
    weight = np.random.default_rng(0).standard_normal((20, 30)) * 10.0 ** np.arange(-10, 10)[:, None]
    whole, scale = quantise_weight(weight)
    assert np.abs(whole).max(1).tolist() == [127] * 20  # every output uses the whole range, however small
    assert (np.abs(whole * scale[:, None] - weight) <= scale[:, None] / 2 * (1 + 1e-9)).all()


def test_an_output_without_weights_stays_zero():
    whole, scale = quantise_weight(np.zeros((1, 4)))
    assert not whole.any()
    assert np.isfinite(scale).all()


def looked_up(table: Table, arguments: np.ndarray) -> np.ndarray:
    entries = table.entries[to_entry((arguments - table.low) / table.step)]
    return (entries.astype(int) - table.zero_point) * table.scale


@pytest.mark.parametrize("kind", ["erf", "tanh"])
@pytest.mark.parametrize("low,high", [(-3.0, 2.0), (-20.0, 7.0), (-0.1, 0.1), (-40.0, -10.0)])
def test_the_table_is_gelu_to_a_step(low: float, high: float, kind: str):
    low, high = index_range(low, high)
    table = gelu_table(low, high, kind)
    arguments = np.linspace(low, high, 1000)
    values = looked_up(table, arguments)
    half_an_index = 1.13 * table.step / 2  # GELU is nowhere steeper than 1.13
    assert np.abs(values - gelu(arguments, kind)).max() <= half_an_index + table.scale * 1.001
    assert LOWEST <= low < 0 < high


@pytest.mark.parametrize("kind", ["erf", "tanh"])
@pytest.mark.parametrize("low,high", [(-2.0, 6.0), (-1.0, 9.0), (-3.0, 20.0)])
def test_a_table_goes_on_where_gelu_is_its_argument_and_rounds_that_once(low: float, high: float, kind: str):
    table = gelu_table(low, high, kind)
    assert table.step == table.scale
    assert table.entries[256] == table.entries[255] + 1
    assert (np.diff(table.entries[255:].astype(int)) == (table.entries[256:] > table.entries[255:-1])).all()
    assert table.entries[511] == 255
    arguments = np.linspace(table.low + 255 * table.step, high, 1000)
    values = looked_up(table, arguments)
    assert np.abs(values - arguments).max() <= table.scale * 0.5001  # at their end indices had twice the step and more
    assert np.abs(values - gelu(arguments, kind)).max() <= table.scale


def test_a_wide_range_of_small_arguments_has_no_table_that_goes_on():
    table = gelu_table(-4.5, 3.0, "erf")
    assert table.step == pytest.approx(7.5 / 255)
    assert (table.entries[255:] == 255).all()


def test_entries_are_the_nearest_ties_to_even_and_there_are_512():
    assert to_entry(np.array([-3.0, 0.5, 1.5, 255.4, 511.2, 1e9])).tolist() == [0, 0, 2, 255, 511, 511]


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


@pytest.mark.parametrize("choices", [Choices("minmax", 0.5, fit=False), Choices("percentile", 0.0), BEST], ids=str)
@pytest.mark.parametrize("name", BLOCKS)
def test_int8_logits_are_close_to_the_exact_ones(name: str, choices: Choices):
    model = network(name)
    assert int8_error(model, pictures(8), pictures(64, seed=1), choices) < 0.03


def test_weights_rounded_for_their_sums_lose_less_on_operands_not_seen():
    random = np.random.default_rng(0)
    mixing = random.standard_normal((40, 40))  # inputs that know of each other, as activations do
    seen, others = (np.clip(np.rint(random.standard_normal((600, 40)) @ mixing * 4 + 128), 0, 255).astype(np.uint8)
                    for _ in range(2))
    layer = Linear(random.standard_normal((30, 40)) * 0.05, random.standard_normal(30))

    def exact(operands: np.ndarray) -> np.ndarray:
        return (operands.astype(np.float64) - MIDDLE) @ layer.weight.T + layer.bias

    nearest, fit = linear(layer, 1.0, MIDDLE), fitted(layer, 1.0, MIDDLE, seen, exact(seen))
    assert np.array_equal(nearest.scale, fit.scale)
    losses = [np.square(reference.apply(others, one) - exact(others)).mean() for one in (nearest, fit)]
    assert losses[1] < 0.8 * losses[0]


def test_a_layer_of_more_inputs_than_are_rounded_together_is_rounded_in_stretches(monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(0)
    operands = random.standard_normal((300, 50)) @ random.standard_normal((50, 50))
    weight, scale = random.standard_normal((8, 50)), np.full(8, 0.02)
    together = compensated(weight, scale, operands)
    monkeypatch.setattr(rounding, "MOST_INPUTS", 20)
    apart = compensated(weight, scale, operands)
    stretches = (slice(0, 17), slice(17, 34), slice(34, 50))
    assert np.array_equal(apart, np.concatenate(
        [compensated(weight[:, some], scale, operands[:, some]) for some in stretches], axis=1))

    def loss(whole: np.ndarray) -> float:
        return float(np.square(operands @ (whole * scale[:, None] - weight).T).mean())

    assert loss(together) < loss(apart) < loss(np.clip(np.rint(weight / scale[:, None]), -127, 127))


def test_images_are_looked_at_in_parts_that_memory_allows_and_the_ranges_stay(monkeypatch: pytest.MonkeyPatch):
    model, images = network(), pictures(20)
    expected = calibrate(model, images)
    assert images_at_once(model.config, 16) == 16
    monkeypatch.setattr(calibration, "MOST_NUMBERS", 5 * 12 * 64)  # tokens times hidden: an image has 576 numbers
    monkeypatch.setattr(calibration, "MOST_COUNTED", 100)
    assert images_at_once(model.config, 16) == 5
    for found, before in zip(calibrate(model, images), expected, strict=True):
        assert np.allclose(found.tokens_in, before.tokens_in, rtol=1e-5)
        assert np.allclose(found.channels_in, before.channels_in, rtol=1e-5)
        assert np.allclose(found.channels_hidden, before.channels_hidden, rtol=1e-5)
    monkeypatch.setattr(calibration, "MOST_NUMBERS", 10)
    assert images_at_once(model.config, 16) == 1
    assert int8_error(model, pictures(8), images) < 0.1  # fitted to one image only


def test_a_layer_gives_on_average_what_it_gave_before():
    random = np.random.default_rng(0)
    operands = random.integers(0, 256, (500, 20)).astype(np.uint8)
    layer = Linear(random.standard_normal((6, 20)), np.zeros(6))
    wanted = (operands.astype(np.float32) - MIDDLE) @ layer.weight.T.astype(np.float32) + 7
    got = reference.apply(operands, fitted(layer, 1.0, MIDDLE, operands, wanted))
    assert np.allclose(got.mean(0), wanted.mean(0), atol=1e-3)


def test_ranges_are_those_of_the_activations():
    model, images = network(), pictures(20)
    ranges = calibrate(model, images, Choices("minmax", headroom=1))
    folded = fold(model)
    names = ["blocks.1.norm1", "blocks.1.mlp_tokens.fc1", "blocks.1.norm2", "blocks.1.mlp_channels.fc1"]
    with torch.no_grad():
        _, inside = folded.forward_intermediates(to_network_input(images, model.preprocess), names)
    norm1, tokens, norm2, channels = (inside[name].numpy() for name in names)
    assert np.allclose(ranges[1].tokens_in, np.abs(norm1).max((0, 1)), rtol=1e-5)
    low, high = norm2.min((0, 1)), norm2.max((0, 1))
    assert np.allclose(ranges[1].channels_in, (high - low) / 2, rtol=1e-5)
    assert np.allclose(ranges[1].channels_centre, (high + low) / 2, rtol=1e-4, atol=1e-6)
    assert not np.any(ranges[1].tokens_centre)  # a Mixer's token mixing has no place for one
    assert np.allclose(ranges[1].tokens_hidden, (tokens.min(), tokens.max()), rtol=1e-5)
    assert np.allclose(ranges[1].channels_hidden, (channels.min(), channels.max()), rtol=1e-5)


def test_a_value_seen_once_is_cut_by_percentile_and_by_mse_but_not_by_minmax():
    model = network()
    images = pictures(200)
    with torch.no_grad():  # one hidden unit that is seldom far beyond the others
        model.blocks[0].get_parameter("mlp_channels.fc1.weight")[0] *= 8
    whole, percentile, mse = (calibrate(model, images, Choices(name))[0].channels_hidden
                              for name in ("minmax", "percentile", "mse"))
    assert percentile[1] < whole[1]
    assert mse[1] < whole[1]


def test_channels_of_token_mixing_have_room_for_what_calibration_did_not_see():
    model, images = network("resmlp"), pictures(200)
    few, many = (calibrate(model, images[:count], Choices("minmax", headroom=1)) for count in (16, 200))
    roomy = calibrate(model, images[:16], Choices("minmax", headroom=1.5))
    assert np.mean(few[0].tokens_in < many[0].tokens_in) > 0.5  # a few images show less than many
    assert np.mean(roomy[0].tokens_in < many[0].tokens_in) < 0.1
    assert np.allclose(roomy[0].tokens_in, 1.5 * few[0].tokens_in)
    assert np.array_equal(roomy[0].channels_in, few[0].channels_in)


@pytest.mark.parametrize("wrong,message", [({"calibration": "entropy"}, "accepted: minmax, percentile, mse"),
                                           ({"migrate": 1.5}, "migrate 1.5; accepted: 0 to 1"),
                                           ({"headroom": 0.5}, "headroom 0.5; accepted: 1 to 4")])
def test_choices_that_there_are_not_are_refused(wrong: dict[str, Any], message: str):
    with pytest.raises(BadSetting, match=message):
        Choices(**wrong)


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


def test_a_channel_far_from_zero_costs_the_others_nothing():
    model = network("mixer")
    images, calibration = pictures(16), pictures(64, seed=1)
    before = int8_error(model, images, calibration)
    with torch.no_grad():  # the same function: what the norm adds, the layer behind it takes away
        for block in model.blocks:
            block.get_parameter("norm2.bias")[5] += 50
            behind = block.get_parameter("mlp_channels.fc1.weight")[:, 5]
            block.get_parameter("mlp_channels.fc1.bias").sub_(50 * behind)
    assert int8_error(model, images, calibration) < 1.2 * before


def test_the_layer_that_int8_hurts_most_is_found():
    model = network(depth=4)
    with torch.no_grad():  # one hidden unit far outside the others' range takes their precision
        model.blocks[2].get_parameter("mlp_channels.fc1.bias")[0] = 300
        model.blocks[2].get_parameter("mlp_channels.fc2.weight")[:, 0] = 0
    found = sensitivity(quantise(model, pictures(64, seed=1), Choices("minmax", fit=False)), pictures(8))
    assert [row.layer for row in found[:3]] == ["stem", "blocks.0.tokens", "blocks.0.channels"]
    assert len(found) == 9
    assert max(found, key=lambda row: row.rms_error).layer == "blocks.2.channels"
    assert all(0 < row.rms_error < 1 and 0 <= row.top1_agreement_percent <= 100 for row in found)
