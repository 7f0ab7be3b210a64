"""What training needs in the memory of one device, in bytes.

    weights     4 per weight; in bf16 autocast 2 more, a copy for the products, from the forward to the backward pass
    moments     8 per weight (Adam, AdamW, LAMB), 4 (SGD with momentum)
    average     4 per weight, where the recipe averages
    gradients   4 per weight
    activations what the forward pass keeps for the backward pass (`activations.py`), times the images of a device, and
                the images themselves, as bytes, as float32 and normalised
    workspace   while the backward pass is in a block: two of its widest tensors and two of its outputs

The peak is at the start of the backward pass, when no gradient exists yet, or at its end, when the gradients do and the
activations of one block: max(activations, gradients + a block) + workspace. Gradients kept between the parts of a
batch, and those in DDP's buckets, are there at the start too; with checkpointing the last block's activations are as
well.

Sharding (FSDP) divides weights, moments, average and gradients by the number of devices (not bf16's copies, which the
backward pass waits for), and has two of the largest layers whole at a time and the gradient of one, in float32. On top
comes what the software takes (`RESERVE_BYTES`): an assumption, not measured.
"""

import math
from dataclasses import dataclass
from typing import Literal

from allmlp.models.config import ModelConfig
from allmlp.plan.activations import kept_bytes, largest_block_bytes, residual_bytes, widest
from allmlp.plan.counts import counts
from allmlp.plan.machines import NUMBER_BYTES, Machine, Precision

Sharding = Literal["none", "fsdp"]

RESERVE_BYTES, RESERVE_SHARE = 2**30, 0.05  # the driver's context and libraries; memory between blocks in use


@dataclass(frozen=True)
class Memory:
    """Bytes on one device. `peak` is not their sum: see above."""

    weights: int
    moments: int
    average: int
    gradients: int
    activations: int
    workspace: int
    gathered: int
    peak: int


def training_memory(
    config: ModelConfig, images: int, precision: Precision, *, moments: int = 2, average: bool = False,
    devices: int = 1, sharding: Sharding = "none", checkpointing: bool = False, accumulates: bool = False,
) -> Memory:
    """For `images` at a time on a device; `moments`: numbers per weight that the optimizer keeps."""
    weights = counts(config).weights
    shards = devices if sharding == "fsdp" else 1
    share = math.ceil(4 * weights / shards)
    copies = 2 * weights if precision == "bf16" else 0
    pixels = config.in_channels * math.prod(config.image_size)
    batch = images * pixels * (5 if precision == "fp32" else 9)  # the normalised images that the stem keeps are below
    kept = images * kept_bytes(config, precision, checkpointing)
    block = images * largest_block_bytes(config, precision)
    plane = residual_bytes(config.layers[0], precision) * math.prod(config.grid) * config.width
    workspace = 2 * images * (NUMBER_BYTES[precision] * widest(config) + plane)
    gathered = 3 * 4 * counts(config).largest_layer if shards > 1 else 0
    stays = accumulates or (devices > 1 and shards == 1)
    at_start = kept + (block if checkpointing else 0) + (share if stays else 0)
    standing = share * (1 + moments + average) + copies + batch + gathered + workspace
    peak = standing + max(at_start, share + block)
    return Memory(share + copies, share * moments, share * average, share, kept + batch, workspace, gathered, peak)


def fits(memory: Memory, machine: Machine) -> bool:
    return memory.peak + RESERVE_BYTES <= machine.memory_bytes * (1 - RESERVE_SHARE)


def inference_peak(config: ModelConfig, images: int, precision: Precision) -> int:
    """Weights, the batch, a block's tokens (its input, between its halves, after the norm), and an activation with its
    input."""
    plane = math.prod(config.grid) * config.width
    pixels = config.in_channels * math.prod(config.image_size)
    numbers = images * (pixels + 3 * plane + 2 * widest(config))
    return 4 * counts(config).weights + NUMBER_BYTES[precision] * numbers
