"""A contender's process, as engine_peers.py and start.py see it, and how much of the machine others took meanwhile."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from allmlp.backends.others import busy_seconds

HERE = Path(__file__).parent
PROGRAM = HERE / "contenders.py"


class Failed(Exception):
    """A contender cannot be prepared, or its process ended; says what it said last."""


@dataclass(frozen=True)
class Burst:
    """One turn: images per second over all its calls, and how many percent of the processors others had meanwhile
    (None where the system does not say)."""

    images_per_second: float
    others_percent: float | None


class Process:
    """A contender that waits for questions; ends with the `with` block. `ready_seconds`: from the start of the process
    to its first answer. Raises `Failed`."""

    def __init__(self, name: str, folder: Path, threads: int, python: str = sys.executable):
        self.name, self.batch, self.ready_seconds = name, 0, 0.0
        self.memory_mb: float | None = None
        self._cpu_seconds = 0.0
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed with the process
        self._scratch = tempfile.TemporaryDirectory()
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            [python, str(PROGRAM), name, str(folder), str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log, text=True, env=environment(threads))

    def answers(self, batch: int) -> np.ndarray:
        """Logits `(batch, K)` of the first `batch` images; `burst` takes as many from now on."""
        path = Path(self._scratch.name, "logits.npy")
        self._ask({"batch": batch, "logits": str(path)})
        self.ready_seconds = self.ready_seconds or time.perf_counter() - self._started
        self.batch = batch
        return np.load(path)

    def burst(self, seconds: float) -> Burst:
        """Run batches for so long, one at least."""
        before, own, started = busy_seconds(), self._cpu_seconds, time.perf_counter()
        times = self._ask({"seconds": seconds})["times"]
        elapsed, others = time.perf_counter() - started, None
        if before is not None and (after := busy_seconds()) is not None:
            others = 100 * max(0.0, after - before - (self._cpu_seconds - own)) / elapsed / (os.cpu_count() or 1)
        return Burst(self.batch * len(times) / sum(times), others)

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.name}: its process ended with {self._process.wait()}: {last_line(self._log)}")
        said = json.loads(line)
        self.memory_mb, self._cpu_seconds = said["memory_mb"], said["cpu_seconds"]
        return said

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()
        self._scratch.cleanup()


def prepare(name: str, folder: Path, python: str = sys.executable) -> None:
    """Have a process of its own write what the contender runs from. Raises `Failed`."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        command = [python, str(PROGRAM), "--prepare", name, str(folder)]
        if code := subprocess.run(command, stdout=log, stderr=log, env=environment()).returncode:
            raise Failed(f"{name}: preparing it ended with {code}: {last_line(log)}")


def lacks(packages: tuple[str, ...], python: str) -> list[str]:
    """Which of the packages an interpreter does not find."""
    code = f"import importlib.util as u; print(*[name for name in {packages!r} if u.find_spec(name) is None])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment(),
                          check=True).stdout.split()


def versions(packages: tuple[str, ...], python: str) -> str:
    code = ("from importlib.metadata import version as v\n"
            f"print(*[f'{{name}} {{v(name.replace(\"_\", \"-\"))}}' for name in {packages!r}], sep=', ')")
    return subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment()).stdout.strip()


def environment(threads: int | None = None) -> dict[str, str]:
    """This one's, with the programs here and allmlp on the path of whatever interpreter runs them."""
    import allmlp

    paths = [str(HERE.parent), str(Path(allmlp.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)) if threads else {}
    return {**os.environ, **limits, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def last_line(log: Any) -> str:
    log.seek(0)
    said = [line for line in log.read().splitlines() if line.strip()]
    return said[-1][:300] if said else "it said nothing (killed, perhaps for memory)"
