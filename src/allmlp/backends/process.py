"""A predictor in a process of its own: as a user would run it, with nothing of the exporting program left in memory.

The process reads one JSON object per line and answers with one. Images and logits go by files of numpy's plain kind.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from allmlp.errors import AllMLPError, BadCheckpoint, CannotWrite


class PredictorProcess:
    """`model`: what `load_predictor` takes. `about`: {"load_seconds", "torch": whether it has loaded PyTorch,
    "image_size": (height, width), "remark": what a person should know, "memory_bytes": the most it had by the
    last `logits`, where the system says; of the engine's file "precision", "multiply_adds", those "by_precision"}.
    `cpu_seconds`: of processors that it took by its last answer. Raises `BadCheckpoint` with what the process said, and
    `CannotWrite`."""

    def __init__(self, model: str | os.PathLike, threads: int | None = None):
        self.folder = tempfile.TemporaryDirectory()
        self.name = os.fspath(model)
        environment = dict(os.environ)
        if threads:
            environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        self.remarks = Path(self.folder.name, "stderr").open("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            # -P: else a secrets.py in the current folder would be taken for Python's
            [sys.executable, "-P", "-m", "allmlp.backends.process", self.name, str(threads or 0)], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.remarks, text=True, encoding="utf-8",
        )  # fmt: skip
        self.cpu_seconds = 0.0
        self.about: dict[str, Any] = {}
        try:
            self.about = self._answer()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 `(N, H, W, 3)` to float32 `(N, K)`; the images stay there for `seconds`."""
        given, answered = (Path(self.folder.name, name) for name in ("images.npy", "logits.npy"))
        try:
            np.save(given, images)
        except OSError as error:
            raise CannotWrite(f"{given}: {len(images)} images cannot be written there for the process that runs "
                              f"{self.name}: {error.strerror or error}; free some space, or set TMPDIR") from None
        self.about |= self._ask({"images": str(given), "logits": str(answered)})
        return np.load(answered, allow_pickle=False)

    def seconds(self, batch: int = 1) -> float:
        """How long one call with the first `batch` images takes."""
        return float(self._ask({"time": batch})["seconds"])

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.remarks.seek(0)
            said = [text for text in self.remarks.read().splitlines() if text.strip()]
            self.close()
            how = f"ended with {code}"
            if code < 0:
                name = signal.Signals(-code).name
                how = f"was ended by {name}{', perhaps for want of memory' * (name == 'SIGKILL')}"
            raise BadCheckpoint(f"{self.name}: its process {how}" + (f": {said[-1][:300]}" if said else ""))
        answer = json.loads(line)
        if "error" in answer:
            self.close()
            raise BadCheckpoint(answer["error"])
        self.cpu_seconds = answer.pop("cpu_seconds")
        return answer

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout, self.remarks):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.process.wait()  # its input has ended
        self.folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is not None:  # nobody waits for what it is at
            self.process.kill()
        self.close()


def serve(arguments: Sequence[str], questions: IO[str], answers: IO[str]) -> None:
    """What the process does: load, then answer until the questions end."""
    def answer(**said: Any) -> None:
        answers.write(json.dumps({"cpu_seconds": time.process_time(), **said}) + "\n")
        answers.flush()

    try:
        started = time.perf_counter()
        from allmlp.backends import load_predictor
        from allmlp.backends.native import NativePredictor

        predictor = load_predictor(arguments[0], "cpu", threads=int(arguments[1]) or None, task=None)
        if int(arguments[1]) and "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(int(arguments[1]))
        images = np.zeros((1, *predictor.preprocess.image_size, 3), np.uint8)
        predictor(images)  # the first answer is part of getting ready
        answer(load_seconds=time.perf_counter() - started, torch="torch" in sys.modules,
               image_size=predictor.preprocess.image_size, remark=getattr(predictor, "remark", None),
               **({"precision": predictor.model.precision, "multiply_adds": predictor.model.multiply_adds,
                   "by_precision": predictor.model.multiply_adds_by_precision}
                  if isinstance(predictor, NativePredictor) else {}))
        for line in questions:
            question = json.loads(line)
            if "time" in question:
                batch = images[: question["time"]]
                started = time.perf_counter()
                predictor(batch)
                answer(seconds=time.perf_counter() - started)
            else:
                images = np.load(question["images"], allow_pickle=False)
                np.save(question["logits"], predictor(images))
                answer(torch="torch" in sys.modules, memory_bytes=_peak_memory())
    except AllMLPError as error:
        answer(error=str(error))


def _peak_memory() -> int | None:
    """The most memory this process has had, where Linux says (others count the process that started this one too)."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), None)


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries that talk on stdout do not disturb the answers
    serve(sys.argv[1:], sys.stdin, channel)
