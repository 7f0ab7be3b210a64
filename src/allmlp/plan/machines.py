"""Machines to plan for: what one device can do at best.

A device is what a process drives: a GPU, a TPU chip, and of TPU v3 one of the two cores of a chip, because the papers
count "TPUv3 cores". Numbers are the makers', dense (without 2:4 sparsity), in FLOP/s, bytes/s and bytes:

    v100      Tesla V100 SXM2 data sheet: 125 TFLOP/s in half precision (no bfloat16), 15.7 in fp32, 900 GB/s, 32 GB
    a100      A100 80GB SXM data sheet: 312, 19.5, 2,039 GB/s
    h100      H100 SXM data sheet: 1,979 with sparsity, so 989.5; 67; 3.35 TB/s; 80 GB
    h200      H200 SXM data sheet: as H100; 4.8 TB/s; 141 GB
    b200      HGX B200 data sheet: 4.5 PFLOP/s with sparsity, so 2,250; 75; 8 TB/s; 180 GB
    l4        L4 data sheet: 242 with sparsity, so 121; 30.3; 300 GB/s; 24 GB
    t4        T4 data sheet: 65 in half precision (no bfloat16), 8.1, 320 GB/s, 16 GB
    rtx4090   Ada architecture white paper: 165.2 (fp32 accumulation), 82.6, 1,008 GB/s, 24 GB
    tpu-v3    cloud.google.com/tpu/docs/v3: a chip 123 TFLOP/s, 900 GB/s, 32 GiB; a core half of that
    tpu-v4 …  cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}: 275, 197, 459, 918 TFLOP/s; 1,200, 819, 2,765, 1,640 GB/s;
              32, 16, 95, 32 GB

fp32 means true float32 products, PyTorch's default; TensorFloat-32 is not assumed. TPUs multiply in bfloat16 only.
"""

import re
from dataclasses import dataclass
from typing import Literal

from allmlp.errors import BadSetting, unknown_name

Precision = Literal["fp32", "bf16"]
NUMBER_BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2}


@dataclass(frozen=True)
class Machine:
    """One device. A peak of None: it has no such arithmetic."""

    name: str
    bf16_flops: float | None
    fp32_flops: float | None
    bandwidth: float  # bytes per second, of its own memory
    memory_bytes: float
    software: Literal["pytorch", "xla"]

    def flops(self, precision: Precision) -> float:
        """The peak. Raises `BadSetting` where the device cannot multiply so."""
        peak = self.bf16_flops if precision == "bf16" else self.fp32_flops
        if peak is None:
            other = "fp32" if precision == "bf16" else "bf16"
            raise BadSetting(f"{self.name} has no {precision} arithmetic; take --precision {other}")
        return peak


def _gpu(name: str, bf16: float | None, fp32: float, bandwidth: float, memory_gb: float) -> Machine:
    half = None if bf16 is None else bf16 * 1e12
    return Machine(name, half, fp32 * 1e12, bandwidth * 1e9, memory_gb * 1e9, "pytorch")


def _tpu(name: str, bf16: float, bandwidth: float, memory_gib: float) -> Machine:
    return Machine(name, bf16 * 1e12, None, bandwidth * 1e9, memory_gib * 2**30, "xla")


MACHINES = {machine.name: machine for machine in (
    _gpu("t4", None, 8.1, 320, 16),
    _gpu("v100", None, 15.7, 900, 32),
    _gpu("l4", 121, 30.3, 300, 24),
    _gpu("rtx4090", 165.2, 82.6, 1008, 24),
    _gpu("a100", 312, 19.5, 2039, 80),
    _gpu("h100", 989.5, 67, 3350, 80),
    _gpu("h200", 989.5, 67, 4800, 141),
    _gpu("b200", 2250, 75, 8000, 180),
    _tpu("tpu-v3", 61.5, 450, 16),
    _tpu("tpu-v4", 275, 1200, 32),
    _tpu("tpu-v5e", 197, 819, 16),
    _tpu("tpu-v5p", 459, 2765, 95),
    _tpu("tpu-v6e", 918, 1640, 32),
)}

MOST_DEVICES = 16_384


def parse_machine(text: str) -> tuple[Machine, int]:
    """"h100:8" as the machine and how many; without a number, one. Raises `UnknownName` and `BadSetting`."""
    name, colon, number = text.lower().partition(":")
    if name not in MACHINES:
        raise unknown_name("machine", name, MACHINES)
    if (colon and not re.fullmatch(r"[1-9]\d{0,4}", number)) or int(number or 1) > MOST_DEVICES:
        raise BadSetting(f"--machine {text!r}: give KIND:N with N devices, 1 to {MOST_DEVICES:,}, e.g. {name}:8")
    return MACHINES[name], int(number or 1)
