"""The papers' tables as we keep them, and what is read off the rows of `see-like-cnns` and `throughput`."""

from collections import Counter

import numpy as np
import pytest
import timm

from allmlp.inspection.flops import count_parameters
from allmlp.models.variants import VARIANTS
from allmlp.reproduce import throughput
from allmlp.reproduce.published_systems import JFT, SYSTEMS, TIMM, System
from allmlp.reproduce.see_found import early_to_late, found, matrix, of_seeds
from allmlp.reproduce.see_like_cnns import as_cell, renormalised, thumbnail
from allmlp.reproduce.tables import size_of
from allmlp.weights.catalogue import CATALOGUE

RESMLP_PARAMETERS = {"S12": 15_350_872, "S24": 30_020_680, "B24/16": 115_736_776, "S12/14": 15_607_912,
                     "S12/8": 22_051_624, "B24/8": 129_138_280}  # computed from the paper's equations


def test_every_row_of_the_tables_has_a_name_of_its_own():
    assert len({system.label for system in SYSTEMS}) == len(SYSTEMS)
    assert Counter(system.table for system in SYSTEMS) == {"Mixer T2": 10, "Mixer T3": 26, "ResMLP T3": 20}


def test_networks_and_weights_that_a_row_names_exist():
    for system in SYSTEMS:
        for name in filter(None, (system.network, system.weights_name)):
            if name.startswith(TIMM):
                architecture, dot, _ = name.removeprefix(TIMM).partition(".")
                assert timm.is_model(architecture)
                assert not dot or name.removeprefix(TIMM) in timm.list_pretrained(f"{architecture}.*")
            else:
                assert name in (CATALOGUE if "." in name else VARIANTS)


def test_no_weights_of_jft_are_claimed_and_the_papers_own_have_its_accuracy():
    for system in SYSTEMS:
        assert (system.weights_name is None) == (system.weights == "none public")
        if system.data == JFT:
            assert system.weights_name is None
        if system.weights == "same weights":
            assert system.weights_name is not None
            accuracies = CATALOGUE[system.weights_name].accuracies
            assert any(accuracy.top1 == system.imagenet for accuracy in accuracies), system.label


def test_speeds_and_costs_of_mixers_come_with_their_rows():
    rows = {system.label: system for system in SYSTEMS}
    large = rows["Mixer T3: Mixer-L/16, ImageNet-21k, 300 epochs, 448 px"]
    assert (large.images_per_second, large.core_days) == (105, 410)
    assert rows["Mixer T3: ViT-B/16, ImageNet, 300 epochs, 224 px"].images_per_second == 861
    assert rows["ResMLP T3: S12, ImageNet"].images_per_second == 1415.1
    assert all(system.images_per_second for system in SYSTEMS if system.table == "Mixer T3")


@pytest.mark.parametrize("name, parameters", RESMLP_PARAMETERS.items())
def test_resmlps_rows_have_the_published_size(name: str, parameters: int):
    system = next(system for system in SYSTEMS if system.table == "ResMLP T3" and system.name == name)
    found_parameters, macs = size_of(system)
    assert found_parameters == parameters == count_parameters(VARIANTS[str(system.network)])
    assert round(parameters / 1e6, 1) == system.millions
    assert macs is not None
    assert macs / 1e9 == pytest.approx(system.gmacs, rel=0.05)


def test_a_row_at_another_size_is_counted_there():
    small, large, unknown = (System("Mixer T3", "test", JFT, px, network="timm:test_vit") for px in (48, 96, None))
    assert (size_of(large)[1] or 0) > 3 * (size_of(small)[1] or 0) > 0
    assert size_of(unknown)[1] is None
    assert (size_of(unknown)[0] or 0) > 0


def test_maps_survive_their_cells():
    values = np.random.default_rng(0).random((3, 5))
    rows = [{"what": "Mixer", "seed": 0, "similarity": as_cell(row)} for row in values]
    assert np.allclose(matrix([*rows, {"what": "Mixer", "seed": 0, "similarity": None}], "Mixer", "similarity"), values,
                       rtol=1e-2)
    assert early_to_late(np.arange(36.0).reshape(6, 6)) == np.mean([4, 5, 10, 11])
    assert thumbnail(np.arange(64 * 64.0).reshape(64, 64)).shape == (32, 32)
    assert thumbnail(np.arange(64 * 64.0).reshape(64, 64))[0, 0] == np.mean([0, 1, 64, 65])


def test_the_same_depth_is_compared_however_many_layers_there_are():
    rows = [{"what": "ViT", "seed": 1, "similarity_to_mixer": as_cell(np.eye(9)[2 * i])} for i in range(5)]
    assert of_seeds(rows, "ViT") == [1.0]


def test_a_preprocessing_is_exchanged_for_another():
    import torch

    from allmlp.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, to_network_input

    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    one = Preprocess(image_size=(8, 8))
    other = one.with_(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    assert torch.allclose(renormalised(to_network_input(images, one), one, other), to_network_input(images, other),
                          atol=1e-5)


def rows_of_seeing(vit_like_mixer: float) -> list[dict]:
    rows = []
    for what, field, ratio in (("Mixer", 9.0, 3.0), ("ViT", 8.0, 4.0), ("ResNet", 2.0, 1.0)):
        flat = np.eye(6) if what == "ResNet" else np.full((6, 6), 0.9)
        near = {"Mixer": None, "ViT": vit_like_mixer, "ResNet": 0.3}[what]
        rows += [{"what": what, "seed": 0, "layer": f"l{i}", "depth": i / 5, "field_px": field, "skip_ratio": ratio,
                  "similarity": as_cell(flat[i]),
                  "similarity_to_mixer": None if near is None else as_cell(np.full(6, near))} for i in range(6)]
        rows.append({"what": what, "seed": 0, "layer": None, "field_px": field, "skip_ratio": ratio, "similarity": None,
                     "similarity_to_mixer": None, "test_accuracy_percent": 80.0})
    return rows


def test_what_is_found_follows_from_the_rows():
    assert found(rows_of_seeing(0.8)).verdict == "as claimed"
    assert "(as claimed, on one seed, without a spread: ViT's are more alike" in found(rows_of_seeing(0.8)).text
    other = found(rows_of_seeing(0.1))
    assert other.verdict == "in part"
    assert "not as claimed: Mixer is more like ViT" in other.text


def test_the_networks_of_one_size_are_of_one_order():
    for size in throughput.SIZES:
        counts = [sum(parameter.numel() for parameter in throughput.network_of(f"{family}-{size}").parameters())
                  for family in throughput.FAMILIES]
        assert max(counts) < 4 * min(counts)


def test_a_network_slower_and_less_accurate_than_another_is_not_on_the_front():
    rows = [{"what": name, "seed": seed, "network": name, "test_accuracy_percent": accuracy + seed}
            for name, accuracy in (("Mixer-S", 80.0), ("ViT-S", 70.0)) for seed in range(2)]
    rows += [{"what": "speed", "seed": 0, "network": name, "test_accuracy_percent": None, "images_per_second": speed,
              "slowest": 0.8 * speed, "fastest": 1.1 * speed} for name, speed in (("Mixer-S", 200), ("ViT-S", 100))]
    seen = throughput.found(rows)
    assert seen.verdict == "as claimed"
    assert "nobody beats Mixer-S in both" in seen.text
    assert "S 2.00" in seen.text
