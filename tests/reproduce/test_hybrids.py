"""The hybrids' experiments: equal cost for what is compared, and the words follow from the rows."""

from pathlib import Path

import numpy as np
import pytest
import torch

from allmlp.data.digits import ArrayImages
from allmlp.data.scenes import scene
from allmlp.errors import BadSetting
from allmlp.evaluate.cost_process import macs
from allmlp.inspection.flops import count_macs
from allmlp.models.stems import ConvolutionStem, PatchStem
from allmlp.models.variants import VARIANTS
from allmlp.reproduce import EXPERIMENTS, any_size, find, hybrids, small_models
from allmlp.reproduce.experiment import Job
from allmlp.reproduce.hybrid_networks import IDEAS, MIXER, NAMES, RESNET, SETS, VIT, network_of, sized
from allmlp.reproduce.small import PREPROCESS, mixer
from allmlp.reproduce.table import columns_of

EQUAL = 0.02  # of the plain Mixer's multiply-adds; ResNet's width has coarse steps


def job(folder: Path, **changes: object) -> Job:
    return Job(**{"scale": "laptop", "seeds": 3, "data": None, "data_dir": None, "download": False, "device": "cpu",
                  "folder": folder / "work", "reduced": False, **changes})


@pytest.mark.parametrize("data", ["digit-scenes", pytest.param("digits", marks=pytest.mark.slow)])
def test_every_network_takes_as_many_multiply_adds_as_the_plain_mixer(data):
    image = torch.zeros(1, 3, SETS[data].size_px, SETS[data].size_px)
    base = count_macs(sized(MIXER, SETS[data]))
    for name in NAMES:
        assert abs(macs(network_of(name, data).eval(), image) / base - 1) < EQUAL, name


def test_the_networks_are_the_ideas_that_their_names_say():
    configs = {name: sized(name, SETS["digit-scenes"]) for name in IDEAS}
    kinds = {name: [layer.kind for layer in config.layers] for name, config in configs.items()}
    assert kinds["Mixer, attention in turn"] == ["mixer", "attention"] * 2
    assert kinds["first Mixer, then attention"] == ["mixer"] * 2 + ["attention"] * 2
    assert kinds["depthwise convolution after Mixer"] == ["mixer", "convolution"] * 4
    assert configs["Mixer + attention, learned"].blocks[0].learned
    assert not configs["Mixer + attention, fixed"].blocks[0].learned
    assert configs["overlapping patches"].stem == PatchStem(overlap=2)
    assert [configs[f"convolutional stem, B = {block}"].patch_size[0] for block in ("P/2", "P", "2P")] == [4, 8, 16]
    assert configs["pyramid from P/2"].out_grid == (4, 4)


def test_each_network_learns_both_sets_with_every_seed(tmp_path):
    made = [(arm.what, arm.seed) for arm in hybrids.arms(job(tmp_path)) if not arm.what.startswith("speed")]
    assert len(made) == len(set(made)) == len(NAMES) * 2 * 3


@pytest.mark.parametrize("name", ["hybrids", "any-size", "small-models"])
def test_there_is_no_papers_scale(name, tmp_path):
    with pytest.raises(BadSetting, match="--scale paper: "):
        list(find(name).arms(job(tmp_path, scale="paper")))


def hybrid_rows() -> list[dict]:
    """Mixer 80 % in 1 ms; ResNet 90 % in 2; ViT 70 % in 3, within a wide spread of Mixer on digits."""
    rows: list[dict] = []
    for name, accuracy, latency in ((MIXER, 80, 1.0), (RESNET, 90, 2.0), (VIT, 70, 3.0)):
        for data in SETS:
            spread = 20 if data == "digits" else 0.1
            rows += [{"what": f"{name}: {data}", "seed": seed, "network": name, "images": data, "latency_ms": None,
                      "test_accuracy_percent": accuracy + spread * (seed - 1)} for seed in range(3)]
        rows.append({"what": "speed, PyTorch", "seed": 0, "network": name, "latency_ms": latency})
    return rows


def test_what_won_what_lost_and_the_front_are_read_off_the_rows():
    text = hybrids.found(hybrid_rows()).text
    better = "Better at equal multiply-adds, beyond the spread over seeds"
    assert f"{better}: ResNet (+10.0 ± 0.1 points). Worse: ViT (−10.0 ± 0.1 points)." in text
    assert f"On digits the plain Mixer has 80.0 ± 20.0 %. {better}: none. Worse: none." in text
    assert "in PyTorch: Mixer (1.00 ms), ResNet (2.00 ms)." in text


# --- any size --------------------------------------------------------------------------------------------------------


def test_the_network_of_any_size_costs_what_the_plain_mixer_costs_and_takes_all_five_sizes():
    model = any_size.pooled(0).eval()
    assert abs(count_macs(model.config) / count_macs(mixer(64, 4).config) - 1) < 0.05
    assert all(model(torch.zeros(2, 3, *size)).shape == (2, 10) for size in any_size.SIZES)


def test_batches_change_their_size_while_it_learns_and_only_then():
    seen = []

    class Notes(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(images.shape[2:]))
            return images

    learner = any_size.AtSeveralSizes(Notes(), seed=0)
    for _ in range(60):
        learner.train()(torch.zeros(1, 3, 32, 32))
    assert set(seen) == set(any_size.SIZES)
    images = torch.rand(1, 3, 32, 32)
    assert learner.eval()(images) is images


def test_an_image_at_another_shape_is_the_whole_image():
    picture, _ = scene(np.eye(8, dtype=np.uint8) * 255, 0, 0)
    wide = any_size.Resized(ArrayImages(picture[None], np.array([0]), ("0",), ["0"]), (32, 64))
    assert (len(wide), wide.image(0).shape, wide.name(0)) == (1, (32, 64, 3), "0")
    pairs = wide.image(0).astype(float).reshape(32, 32, 2, 3).mean(2)
    assert np.corrcoef(pairs.ravel(), picture.astype(float).ravel())[0, 1] > 0.97


def test_what_each_way_reaches_is_read_off_the_rows():
    rows = [{"what": what, "seed": seed, **{column: 50 + 10 * number + (column == any_size.COLUMNS[0]) * 5 + seed
                                           for column in any_size.COLUMNS}}
            for number, what in enumerate(any_size.WAYS) for seed in range(2)]
    text = any_size.found(rows).text
    assert text.startswith("pooled grid, learnt at 32 x 32: 55.5 ± 0.7 % at 32 x 32, 50.5 on average over the 4 other")
    assert "plain Mixer, weights resized: 95.5 ± 0.7 % at 32 x 32, 90.5 on average" in text


# --- small models ----------------------------------------------------------------------------------------------------


def test_the_family_is_that_of_the_names_and_stands_beside_the_same_networks_with_patches():
    made = small_models.networks()
    family = [name for name in VARIANTS if name.startswith("mixer_stem_")]
    assert len(family) == 6
    for name in family:
        plain = made[name.replace("mixer_stem_", "mixer_")].config
        assert made[name].config == VARIANTS[name].with_(num_classes=10)
        assert plain.with_(stem=ConvolutionStem()) == made[name].config
        assert made[name].preprocess == PREPROCESS.with_(image_size=plain.image_size)


def test_what_the_family_gains_is_read_off_the_rows_and_one_seed_is_called_one():
    rows: list[dict] = []
    for name, network in small_models.networks().items():
        accuracy = 90 + 5 * network.has_stem
        seeds = range(small_models.MOST_SEEDS.get(network.size_px, 3))
        rows += [{"what": name, "seed": seed, "network": name, "latency_ms": None, "size_px": network.size_px,
                  "test_accuracy_percent": accuracy + seed} for seed in seeds]
        rows.append({"what": f"speed, {network.size_px} px, PyTorch", "seed": 0, "network": name,
                     "latency_ms": 2.0 - network.has_stem * (network.size_px == 96)})
    rows += [{"what": "recipe scenes", "seed": 0, "test_accuracy_percent": 98.0}]
    text = small_models.found(rows).text
    assert "mixer_stem_p8_32 96.0 ± 1.0 % in 2.00 ms, beside 91.0 % with patches in 2.00 ms (+5.0 ± 1.4" in text
    assert "beyond the spread)" in text
    assert "(+5.0 ± 0.0 points, one seed)" in text
    assert "on the front at 96 pixels: mixer_stem_p16_96, mixer_stem_n16_96" in text
    assert text.endswith("mixer_stem_n8_32 reaches 98.0 ± 0.0 %.")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_column_of_an_experiment_has_the_name_of_one_that_every_table_has(name):
    columns = columns_of(find(name))
    assert len(columns) == len(set(columns))
