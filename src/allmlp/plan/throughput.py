"""How long an image takes: arithmetic at a share of the peak, plus memory traffic. Both shares come from measurements.

    forward  = 2 · MACs / (arithmetic · peak FLOP/s)  +  passes · bytes written / bandwidth        seconds per image
    training = 3 · forward, with activation checkpointing 4 · forward                             seconds per image
    update   = 28 bytes per weight / bandwidth, 36 with a moving average                           seconds per step

MACs are `inspection.flops`'s, "bytes written" every layer's output once (`activations.written`). The backward pass does
two products for each one of the forward pass, and moves in proportion. The update reads weight, gradient and two
moments and writes all but the gradient, in float32.

`arithmetic` and `passes` are solved from two rows of a paper's table, per kind of software, and used for every machine
that runs it; that they carry over is an assumption which only `allmlp plan --check` puts numbers on:
- "xla" from Mixer-S/16 and Mixer-L/16 on TPUv3 (MLP-Mixer Table 3): XLA fuses what is elementwise into the products;
- "pytorch" from ResMLP-S12 and ResMLP-B24/16 on a V100 in float32 (ResMLP Table 1): eager PyTorch fuses nothing.

Not counted: loading and augmenting images, exchanging gradients, evaluation, starting kernels (small networks and
batches are slower than said).
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from allmlp.models.config import ModelConfig
from allmlp.plan.counts import counts
from allmlp.plan.machines import MACHINES, NUMBER_BYTES, Machine, Precision
from allmlp.plan.published import MIXER_SPEED, RESMLP_SPEED, SpeedRow

TRAINING, CHECKPOINTED = 3.0, 4.0  # forward passes that a training step is worth, per image
UPDATE_BYTES, AVERAGE_BYTES = 28, 8  # per weight: seven float32 numbers, and two for the moving average


@dataclass(frozen=True)
class Efficiency:
    """`arithmetic`: the share of the peak that products reach. `passes`: how often memory is passed over, at the full
    bandwidth, for each number written."""

    arithmetic: float
    passes: float


CALIBRATED_ON = {"xla": ("Mixer-S/16", "Mixer-L/16"), "pytorch": ("ResMLP-S12", "ResMLP-B24/16")}
MEASURED_ON: dict[str, tuple[str, Precision, tuple[SpeedRow, ...]]] = {
    "xla": ("tpu-v3", "bf16", MIXER_SPEED), "pytorch": ("v100", "fp32", RESMLP_SPEED),
}


@cache
def efficiency(software: Literal["pytorch", "xla"]) -> Efficiency:
    """Calibrated on two rows of what was measured with this software."""
    machine, precision, rows = MEASURED_ON[software]
    first, second = (row for row in rows if row.name in CALIBRATED_ON[software])
    return calibrate(first, second, MACHINES[machine], precision)


def calibrate(first: SpeedRow, second: SpeedRow, machine: Machine, precision: Precision) -> Efficiency:
    """The efficiency with which the model gives both rows exactly: two linear equations."""
    ideal = np.array([_ideal_seconds(row.config, machine, precision) for row in (first, second)])
    slowness, passes = np.linalg.solve(ideal, [1 / first.images_per_second, 1 / second.images_per_second])
    return Efficiency(float(1 / slowness), float(passes))


def forward_seconds(
    config: ModelConfig, machine: Machine, precision: Precision, found: Efficiency | None = None
) -> float:
    """Seconds of one image's forward pass in a large batch. Raises `BadSetting` for arithmetic that is not there."""
    found = found or efficiency(machine.software)
    products, memory = _ideal_seconds(config, machine, precision)
    return products / found.arithmetic + memory * found.passes


def update_seconds(config: ModelConfig, machine: Machine, average: bool, shards: int = 1) -> float:
    """Seconds of one optimizer step on one device that holds 1/`shards` of the weights."""
    return counts(config).weights * (UPDATE_BYTES + AVERAGE_BYTES * average) / shards / machine.bandwidth


def _ideal_seconds(config: ModelConfig, machine: Machine, precision: Precision) -> tuple[float, float]:
    """Products at the peak; every output written once at the full bandwidth."""
    work = counts(config)
    return work.flops / machine.flops(precision), work.written * NUMBER_BYTES[precision] / machine.bandwidth
