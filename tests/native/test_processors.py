"""How many threads the engine takes by itself: as many as it gets processors, or the time of; and how much memory."""

import importlib
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

allmlp_native = pytest.importorskip("allmlp_native", reason="the engine is not built: make native")
processors = importlib.import_module("allmlp_native.processors")

# What the kernel's files hold, by where they lie, and the time of how many processors that is.
SYSTEMS = {
    "no groups": ({}, math.inf),
    "no limit": ({"proc/self/cgroup": "0::/user.slice\n",
                  "sys/fs/cgroup/user.slice/cpu.max": "max 100000\n"}, math.inf),
    "container": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
    "group above": ({"proc/self/cgroup": "0::/a.slice/b/c\n", "sys/fs/cgroup/a.slice/cpu.max": "200000 100000\n",
                     "sys/fs/cgroup/a.slice/b/cpu.max": "300000 100000\n",
                     "sys/fs/cgroup/a.slice/b/c/cpu.max": "max 100000\n"}, 2),
    "version 1": ({"proc/self/cgroup": "5:cpuset:/\n4:cpu,cpuacct:/a\n0::/\n",
                   "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "250000\n",
                   "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "50000\n",
                   "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                   "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 5),
    "version 1, container": ({"proc/self/cgroup": "4:cpu,cpuacct:/docker/0123\n",
                              "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
                              "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
    "nonsense": ({"proc/self/cgroup": "0\n\n::\n4:cpu\n", "sys/fs/cgroup/cpu.max": "\n"}, math.inf),
}  # fmt: skip


def written(files: dict[str, str], folder: Path) -> str:
    """The root of a system that has these files."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return str(folder)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_time_that_control_groups_leave_is_read(system: str, tmp_path: Path):
    files, share = SYSTEMS[system]
    assert processors.share(written(files, tmp_path)) == share


# The same for memory, in bytes.
MEMINFO = {"proc/meminfo": "MemTotal:   8000000 kB\nMemFree:  5 kB\nHugePages_Total:   0\nSwapTotal:   1000 kB\n"}
MEMORIES = {
    "unknown": ({}, 2**64 - 1),
    "machine": (MEMINFO, 8_001_000 * 1024),
    "container": ({**MEMINFO, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000000\n"}, 2_024_000),
    "group above": ({**MEMINFO, "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "3000000\n",
                     "sys/fs/cgroup/a/b/memory.max": "max\n"}, 4_024_000),
    "version 1": ({**MEMINFO, "proc/self/cgroup": "4:cpu:/\n3:memory:/a\n",
                   "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                   "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "5000000\n"}, 6_024_000),
    "nonsense": ({"proc/meminfo": "MemTotal: much kB\n\n", "proc/self/cgroup": "0::/\n",
                  "sys/fs/cgroup/memory.max": "-1 7\n"}, 2**64 - 1),
}  # fmt: skip


@pytest.mark.parametrize("system", MEMORIES)
def test_the_memory_that_a_process_can_have_is_read(system: str, tmp_path: Path):
    files, memory = MEMORIES[system]
    assert processors.memory(written(files, tmp_path)) == memory


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no masks of processors")
def test_a_process_takes_no_more_threads_than_it_may_run_on():
    program = "import os, allmlp_native; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); " \
              "print(allmlp_native.cores())"  # fmt: skip
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "1\n"
