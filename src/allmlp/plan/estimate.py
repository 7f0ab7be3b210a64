"""What a job takes on a machine, and the smallest machine that it fits on."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from allmlp.errors import BadSetting
from allmlp.plan.counts import counts
from allmlp.plan.job import Job
from allmlp.plan.machines import MACHINES, Machine
from allmlp.plan.memory import Memory, Sharding, fits, training_memory
from allmlp.plan.throughput import CHECKPOINTED, TRAINING, forward_seconds, update_seconds

MOST_TRIED = 1_024  # devices; powers of two up to here
PAPER_LOCAL_BATCH = 8  # images of a core in a step: 4,096 on 512 cores (`check.py`)


@dataclass(frozen=True)
class Layout:
    """How a job is spread over devices."""

    machine: Machine
    devices: int = 1
    sharding: Sharding = "none"
    checkpointing: bool = False


@dataclass(frozen=True)
class Estimate:
    """`flops`: of the whole training. `local_images`: at a time on one device."""

    layout: Layout
    memory: Memory
    fits: bool
    local_images: int
    step_seconds: float
    images_per_second: float  # all devices together
    hours: float
    flops: float

    @property
    def device_days(self) -> float:
        return self.layout.devices * self.hours / 24


def estimate(job: Job, layout: Layout) -> Estimate:
    """Raises `BadSetting` for arithmetic that the machine lacks, and for more devices than images in a step."""
    machine, devices = layout.machine, layout.devices
    if devices * job.parts > job.batch_size:
        raise BadSetting(f"a batch of {job.batch_size:,} images in {job.parts} part(s) leaves some of {devices:,} "
                         "devices without an image; take fewer devices or a larger --batch-size")
    each = math.ceil(job.batch_size / devices)
    local = math.ceil(each / job.parts)
    memory = training_memory(job.config, local * job.views, job.precision, moments=job.moments,
                             average=job.average, devices=devices, sharding=layout.sharding,
                             checkpointing=layout.checkpointing, accumulates=job.parts > 1)
    shards = devices if layout.sharding == "fsdp" else 1
    passes = _passes(job, layout.checkpointing)
    step = (each * passes * forward_seconds(job.config, machine, job.precision)
            + update_seconds(job.config, machine, job.average, shards))
    return Estimate(layout, memory, fits(memory, machine), local, step, job.batch_size / step, job.steps * step / 3600,
                    counts(job.config).flops * passes * job.epochs * job.images)


def paper_core_days(job: Job) -> float:
    """TPUv3-core-days, as MLP-Mixer counts the cost of a training: in bfloat16, without checkpointing."""
    core = MACHINES["tpu-v3"]
    each = (_passes(job, False) * forward_seconds(job.config, core, "bf16")
            + update_seconds(job.config, core, job.average) / min(PAPER_LOCAL_BATCH, job.batch_size))
    return job.epochs * job.images * each / 86_400


def layouts(layout: Layout) -> list[Layout]:
    """The same devices without and with sharding and checkpointing, from the fastest to the one that needs least."""
    shardings: tuple[Sharding, ...] = ("none", "fsdp") if layout.devices > 1 else ("none",)
    return [replace(layout, sharding=sharding, checkpointing=checkpointing)
            for checkpointing in (False, True) for sharding in shardings]


def smallest(job: Job, machine: Machine, sharding: Sharding = "none", checkpointing: bool = False) -> Estimate | None:
    """The fewest devices of a kind (a power of two) that the job fits on; None where none do up to `MOST_TRIED`."""
    for devices in _numbers(job):
        found = estimate(job, Layout(machine, devices, sharding, checkpointing))
        if found.fits:
            return found
    return None


def smallest_of_all(job: Job, sharding: Sharding = "none", checkpointing: bool = False) -> list[Estimate]:
    """`smallest` of every kind that has the job's arithmetic, the one with the least memory in all first."""
    found = [smallest(job, machine, sharding, checkpointing) for machine in MACHINES.values()
             if (machine.bf16_flops if job.precision == "bf16" else machine.fp32_flops)]
    return sorted((each for each in found if each is not None),
                  key=lambda each: (each.layout.devices * each.layout.machine.memory_bytes, each.hours))


def parts_that_fit(job: Job, layout: Layout) -> int | None:
    """The fewest parts of a batch (gradient accumulation, with the same result) in which the job fits on the layout;
    None where it does not even with one image at a time."""
    for parts in range(job.parts, job.batch_size // layout.devices + 1):
        if job.batch_size % parts == 0 and estimate(replace(job, parts=parts), layout).fits:
            return parts
    return None


def _numbers(job: Job) -> Iterator[int]:
    devices = 1
    while devices <= min(MOST_TRIED, job.batch_size // job.parts):
        yield devices
        devices *= 2


def _passes(job: Job, checkpointing: bool) -> float:
    return job.views * job.repeats * (CHECKPOINTED if checkpointing else TRAINING) + job.answers
