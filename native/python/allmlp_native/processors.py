"""How many processors a process may use on Linux: those in its mask, and the time that its control groups have.

The second is what `docker run --cpus` and Kubernetes' limits set. With more threads than that, all are stopped together
for most of each period, however few of them have work.
"""

import math
import os


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
    for line in _words(f"{root}/proc/self/cgroup", "\n"):
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        while True:
            folder = f"{root}/sys/fs/cgroup{'/cpu' if controllers else ''}{group}"
            limit = (_words(f"{folder}/cpu.cfs_quota_us") + _words(f"{folder}/cpu.cfs_period_us") if controllers
                     else _words(f"{folder}/cpu.max"))  # fmt: skip
            if len(limit) == 2 and all(word.isdecimal() for word in limit) and int(limit[1]):  # else "max", or -1
                least = min(least, int(limit[0]) / int(limit[1]))
            if not group.strip("/"):
                break
            group = group.rpartition("/")[0]
    return least


def _words(path: str, separator: str | None = None) -> list[str]:
    """What a file of the system says; nothing where it is not there."""
    try:
        with open(path) as file:
            return file.read().strip().split(separator)
    except (OSError, UnicodeDecodeError):
        return []
