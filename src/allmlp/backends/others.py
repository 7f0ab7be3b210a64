"""What other programs have of the processors while something is measured, which its reader should know."""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

LEAST_ELAPSED = 1.0  # seconds
MOST_OTHERS = 6.0  # percent of the processors: beyond it latencies have a remark


class Measured(Protocol):
    cpu_seconds: float  # of processors that a process took by now


class Others:
    """What other programs have of the processors from now on, while `processes` and this one are measured."""

    def __init__(self, processes: Iterable[Measured]) -> None:
        self._processes = tuple(processes)
        self._busy, self._own, self._started = busy_seconds(), self._own_seconds(), time.perf_counter()

    def _own_seconds(self) -> float:
        return time.process_time() + sum(process.cpu_seconds for process in self._processes)

    def percent(self) -> float | None:
        """Until now; None where the system does not say, or too little time has passed."""
        if self._busy is None or (busy := busy_seconds()) is None:
            return None
        return others_percent(busy - self._busy, self._own_seconds() - self._own, time.perf_counter() - self._started)


def others_percent(busy: float, own: float, elapsed: float, processors: int | None = None) -> float | None:
    """Of the processors of this machine (or so many), what others had in `elapsed` seconds: `busy` processor seconds
    went by, `own` of them with those who are measured. None for so short a time that the system's clock, which counts
    hundredths, would decide."""
    if elapsed < LEAST_ELAPSED:
        return None
    return min(100.0, 100 * max(0.0, busy - own) / elapsed / (processors or os.cpu_count() or 1))


def remark_on_others(percent: float | None) -> str | None:
    """What those who read the figures should know."""
    if percent is None or percent <= MOST_OTHERS:
        return None
    return (f"other processes had {percent:.0f} % of the processors while latencies were measured; measure them again "
            "on a machine that is idle")


def busy_seconds() -> float | None:
    """Processor seconds that all processes of the machine took so far, and those that its host kept from it; None where
    the system does not say."""
    with contextlib.suppress(OSError):
        user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return None
