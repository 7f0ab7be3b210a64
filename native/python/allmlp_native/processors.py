"""What a process may use on Linux: of processors those in its mask, and the time that its control groups have; memory.

The time is what `docker run --cpus` and Kubernetes' limits set. With more threads than that, all are stopped together
for most of each period, however few of them have work.
"""

import math
import os
from collections.abc import Iterator

MOST_BYTES = 2**64 - 1


def cores() -> int:
    """How many processors this process may use: those that it may run on, but no more than it gets the time of."""
    may_run_on = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(may_run_on, share()))


def share(root: str = "") -> float:
    """Of so many processors the control groups leave this process the time; infinite where they set no limit.

    `root`: the folder in which the system's files lie. Groups of both versions count, and those above them; a
    container may see its own group as the topmost one, and be told a path that is not there.
    """
    least = math.inf
    for folder, first_version in _groups("cpu", root):
        limit = (_words(f"{folder}/cpu.cfs_quota_us") + _words(f"{folder}/cpu.cfs_period_us") if first_version
                 else _words(f"{folder}/cpu.max"))  # fmt: skip
        if len(limit) == 2 and all(word.isdecimal() for word in limit) and int(limit[1]):  # else "max", or -1
            least = min(least, int(limit[0]) / int(limit[1]))
    return least


def memory(root: str = "") -> int:
    """Bytes that this process can at most have: the machine's, or its control groups', and what can be swapped out.

    2^64 - 1 where the system does not say. `root`: as above.
    """
    has = {words[0]: int(words[1]) * 1024 for line in _words(f"{root}/proc/meminfo", "\n")
           if len(words := line.split()) == 3 and words[1].isdecimal()}  # fmt: skip
    least = has.get("MemTotal:", MOST_BYTES)
    for folder, first_version in _groups("memory", root):
        limit = _words(f"{folder}/memory.limit_in_bytes" if first_version else f"{folder}/memory.max")
        if len(limit) == 1 and limit[0].isdecimal():
            least = min(least, int(limit[0]))
    return min(least + has.get("SwapTotal:", 0), MOST_BYTES)


def _groups(controller: str, root: str) -> Iterator[tuple[str, bool]]:
    """The folders of this process's groups, and of those above them; whether they are of version 1."""
    for line in _words(f"{root}/proc/self/cgroup", "\n"):
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        while True:
            yield f"{root}/sys/fs/cgroup{f'/{controller}' if controllers else ''}{group}", bool(controllers)
            if not group.strip("/"):
                break
            group = group.rpartition("/")[0]


def _words(path: str, separator: str | None = None) -> list[str]:
    """What a file of the system says; nothing where it is not there."""
    try:
        with open(path) as file:
            return file.read().strip().split(separator)
    except (OSError, UnicodeDecodeError):
        return []
