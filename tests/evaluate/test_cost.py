"""What a network costs, measured in processes of their own: beside counts from elsewhere, and memory that is known."""

import os
from functools import partial

import numpy as np
import pytest
import timm
import torch
from torch import nn

from allmlp.errors import BadSetting
from allmlp.evaluate.cost import Cost, measure_cost, measure_costs
from allmlp.evaluate.cost_process import peak_memory_mib
from allmlp.inspection.flops import count_macs, count_parameters
from allmlp.models.variants import VARIANTS, create_model

QUICK = {"rounds": 2, "seconds": 0.02}
MIB = 2**20


class Heavy(nn.Module):
    """Holds `weights_mib`, and another `per_image_mib` for each image while it runs."""

    def __init__(self, weights_mib: int, per_image_mib: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(weights_mib * MIB // 4))
        self.per_image_mib = per_image_mib

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(x), self.per_image_mib * MIB // 4).sum(1) + x.mean((1, 2, 3))


def vit() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=10)


def test_one_network_is_measured_in_a_process_of_its_own():
    held = np.ones(600 * MIB // 8)  # a process that took over the peak of this one would show it
    cost = measure_cost(partial(create_model, "mixer_p2_8"), batch_sizes=(8, 4), **QUICK)
    config = VARIANTS["mixer_p2_8"]
    assert (cost.parameters, cost.macs) == (count_parameters(config), count_macs(config))
    assert held[-1] == 1
    assert cost.idle_memory_mib
    assert cost.peak_memory_mib
    assert cost.idle_memory_mib < peak_memory_mib() - 300
    assert cost.idle_memory_mib < cost.peak_memory_mib == cost.speeds[1].peak_memory_mib
    best = max(cost.speeds, key=lambda speed: speed.images_per_second)
    assert [speed.batch_size for speed in cost.speeds] == [4, 8]
    assert (cost.images_per_second, cost.batch_size) == (best.images_per_second, best.batch_size)
    assert all(speed.slowest <= speed.images_per_second <= speed.fastest for speed in cost.speeds)
    assert 0 < cost.latency_ms_p50 <= cost.latency_ms_p90


@pytest.fixture(scope="module")
def pair() -> dict[str, Cost]:
    return measure_costs({"attention": vit, "heavy": partial(Heavy, weights_mib=100, per_image_mib=40)}, (32, 32),
                         batch_sizes=(4, 1), **QUICK)


@pytest.mark.slow
def test_attention_is_counted_as_two_products(pair):
    tokens, width, hidden, depth = 17, 192, 768, 2
    block = tokens * width * (3 * width + width + 2 * hidden) + 2 * tokens * tokens * width
    assert pair["attention"].macs == 16 * 192 * width + depth * block + width * 10


@pytest.mark.slow
def test_peak_memory_grows_by_what_is_held_and_by_what_a_batch_needs(pair):
    one, four = pair["heavy"].speeds
    light = pair["attention"].speeds[0]
    assert one.peak_memory_mib - light.peak_memory_mib == pytest.approx(140, abs=30)  # attention's own code, some 20
    assert four.peak_memory_mib - one.peak_memory_mib == pytest.approx(120, abs=10)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "says"), [
    (vit, "image size is not known"),
    (partial(create_model, "mixer_p2_9"), "mixer_p2_8"),
    (partial(os._exit, 9), "the network: its process ended"),
], ids=["no size", "a mistake in another process", "a process that is killed"])  # fmt: skip
def test_what_cannot_be_measured_is_one_line(make, says):
    with pytest.raises(BadSetting, match=says):
        measure_cost(make, **QUICK)


def test_what_cannot_be_asked_for_is_one_line():
    with pytest.raises(BadSetting, match="give a function of a module"):
        measure_cost(lambda: vit())
    with pytest.raises(BadSetting, match="0 threads"):
        measure_cost(vit, threads=0)
