"""How fast networks answer: each in a process of its own, all alive, asked in turn: a busy machine is so to all.

Columns have timm's names where timm has them (its `benchmark.py`): `infer_samples_per_sec` images per second and
`infer_step_time` milliseconds per batch, both of the median round.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from allmlp.backends import manifest as manifests
from allmlp.backends import native
from allmlp.backends.process import PredictorProcess

COLUMNS: tuple[str, ...] = (
    "model", "infer_samples_per_sec", "infer_step_time", "infer_batch_size", "infer_img_size", "backend", "precision",
    "threads", "p50_ms", "p95_ms", "p99_ms", "rounds", "load_seconds", "peak_memory_mb", "file_mb", "without_torch",
)  # fmt: skip
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Contest:
    """`models`: what `load_predictor` takes. Every model is run with each number of `threads` and each batch size, for
    `rounds` rounds or until a batch size has taken `seconds`, whichever is first, but `LEAST_ROUNDS` at least."""

    models: Sequence[str]
    batch_sizes: Sequence[int] = (1, 16)
    threads: Sequence[int] = (1,)
    rounds: int = 50
    seconds: float = 20.0


def run(contest: Contest, images: Callable[[tuple[int, int], int], np.ndarray]) -> Iterator[Mapping[str, Any]]:
    """A row for each model, number of threads and batch size. `images(size, count)`: uint8 `(count, H, W, 3)`.

    Raises `BadCheckpoint` for a model that does not load or run.
    """
    with contextlib.ExitStack() as stack:
        runners = {}
        for model, threads in itertools.product(contest.models, contest.threads):
            process = stack.enter_context(PredictorProcess(model, threads))
            process.logits(images(tuple(process.about["image_size"]), max(contest.batch_sizes)))
            runners[model, threads] = process
        for batch in contest.batch_sizes:
            rounds: dict[tuple[str, int], list[float]] = {key: [] for key in runners}
            started = time.perf_counter()
            for number in range(contest.rounds + 1):
                for key, process in runners.items():
                    rounds[key].append(process.seconds(batch))
                if number >= LEAST_ROUNDS and time.perf_counter() - started > contest.seconds:
                    break
            for (model, threads), seconds in rounds.items():
                yield row(model, threads, batch, runners[model, threads].about, seconds[1:])  # the first warms up


def row(model: str, threads: int, batch: int, about: Mapping[str, Any], seconds: Sequence[float]) -> dict[str, Any]:
    """`seconds`: of the rounds."""
    milliseconds = 1000 * np.array(seconds)
    p50, p95, p99 = (float(value) for value in np.percentile(milliseconds, (50, 95, 99)))
    backend, precision = kind(model)
    height, width = about["image_size"]
    memory = about.get("memory_bytes")
    return {
        "model": model, "infer_samples_per_sec": 1000 * batch / p50, "infer_step_time": p50, "infer_batch_size": batch,
        "infer_img_size": height if height == width else f"{height}x{width}", "backend": backend,
        "precision": precision, "threads": threads, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99,
        "rounds": len(seconds), "load_seconds": about["load_seconds"],
        "peak_memory_mb": None if memory is None else memory / 1e6, "file_mb": size(model),
        "without_torch": not about["torch"],
    }  # fmt: skip


def kind(model: str) -> tuple[str, str]:
    """Backend and precision; of an engine's bare file the precision is not known here."""
    if manifests.is_export(model):
        manifest = manifests.read(model)
        return manifest.backend, manifest.precision
    return ("native", "") if native.is_model_file(model) else ("pytorch", "fp32")


def size(model: str) -> float | None:
    """Megabytes of the file, or of what an exported folder lists; None for what lies elsewhere."""
    if manifests.is_export(model):
        return sum(file.bytes for file in manifests.read(model).files.values()) / 1e6
    return Path(model).stat().st_size / 1e6 if os.path.isfile(model) else None
