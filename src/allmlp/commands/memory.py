"""Whether the images of a batch fit into this machine's memory, asked before anything is done."""

import os
from pathlib import Path

from allmlp.errors import BadSetting

CONTAINERS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # cgroup 2 and 1
LOGITS_BYTES = 8  # of a logit: it is computed in parts, then joined
COMPARED_BYTES = 48  # of a logit that an export's is compared with: both, and what is computed of them in float64


def free_memory() -> int | None:
    """Bytes that programs may still take, where the system says: on Linux, also in a container; elsewhere all that the
    machine has."""
    told = []
    try:
        line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
        told.append(1024 * int(line.split()[1]))
    except (OSError, StopIteration, ValueError):
        if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= {*os.sysconf_names}:
            told.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in CONTAINERS:
        try:
            told.append(int(Path(path).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min(told, default=None)


def check_batch(batch: int, image_size: tuple[int, int], num_logits: int, processes: int, flag: str = "--batch",
                here: bool = True) -> None:
    """Raises `BadSetting` for a batch whose uint8 images and logits do not fit into the memory that is free.

    `processes` hold them, all at a time, and this one too, where `here`. What a network needs inside is not counted: it
    computes large batches in parts."""
    height, width = image_size
    each, there = (3 * height * width + LOGITS_BYTES * num_logits) * (processes + here), free_memory()
    if there is not None and batch * each > there:
        raise BadSetting(f"{flag} {batch}: images of {height}x{width} and what the network says of them take "
                         f"{batch * each / 1e9:,.3g} GB in {processes} process{'es' * (processes > 1)}"
                         f"{' and this one' * here}, and {there / 1e9:,.3g} GB are free; accepted: up to "
                         f"{there // each}")


def check_images(count: int, image_size: tuple[int, int], num_logits: int) -> None:
    """Raises `BadSetting` for so many uint8 images to compare an export on that they and their logits do not fit into
    the memory that is free."""
    height, width = image_size
    each, there = 3 * height * width + COMPARED_BYTES * num_logits, free_memory()
    if there is not None and count * each > there:
        raise BadSetting(f"{count:,} images of {height}x{width} to compare the export on, and their logits, take "
                         f"{count * each / 1e9:,.3g} GB, and {there / 1e9:,.3g} GB are free; give --images N, up to "
                         f"{there // each}")
