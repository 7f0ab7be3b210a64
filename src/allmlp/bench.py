"""How fast networks answer: each in a process of its own, all alive, asked in turn: a busy machine is so to all.

Columns have timm's names where timm has them (its `benchmark.py`): `infer_samples_per_sec` images per second and
`infer_step_time` milliseconds per batch, both of the median round; `infer_gmacs`; `top1` in percent. `peak_percent`:
two operations per multiply-add, over what the multiply instruction of the precision could do at most, measured here;
of a file for the engine, whose layers may differ, over what those of its precisions could do, each for its part.
`others_percent`: of the processors, what other programs had while models of that batch size were measured.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from allmlp.backends import manifest as manifests
from allmlp.backends import native
from allmlp.backends.others import Others
from allmlp.backends.process import PredictorProcess
from allmlp.errors import AllMLPError, MissingPackage

COLUMNS: tuple[str, ...] = (
    "model", "infer_samples_per_sec", "infer_step_time", "infer_batch_size", "infer_img_size", "infer_gmacs", "backend",
    "precision", "threads", "p50_ms", "p95_ms", "p99_ms", "rounds", "peak_percent", "load_seconds", "peak_memory_mb",
    "file_mb", "without_torch", "top1", "top1_images", "others_percent",
)  # fmt: skip
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Entry:
    """What takes part. `path`: what `load_predictor` takes; `name`: what rows call it; `made`: backend and precision,
    where it was exported to be measured. `multiply_adds` for one image, where known (the engine's files say it
    themselves). `top1`: percent of `top1_images`, where it was measured."""

    path: str
    name: str
    multiply_adds: int | None = None
    made: str | None = None
    top1: float | None = None
    top1_images: int | None = None


@dataclass(frozen=True)
class Contest:
    """Every model is run with each number of `threads` and each batch size, for `rounds` rounds or until a batch size
    has taken `seconds`, whichever is first, but `LEAST_ROUNDS` at least."""

    models: Sequence[Entry]
    batch_sizes: Sequence[int] = (1, 16)
    threads: Sequence[int] = (1,)
    rounds: int = 50
    seconds: float = 20.0


def run(contest: Contest, images: Callable[[tuple[int, int], int], np.ndarray],
        failed: Callable[[Entry, AllMLPError], None]) -> Iterator[Mapping[str, Any]]:
    """A row for each model, number of threads and batch size. `images(size, count)`: uint8 `(count, H, W, 3)`.

    The peak of the multiply instruction is measured before and after the rounds of a batch size; the higher counts.
    `failed` is told of a model that does not load or run, and why; the others go on without it.
    """
    with contextlib.ExitStack() as stack:
        runners: dict[tuple[Entry, int], PredictorProcess] = {}

        def leave_out(model: Entry, error: AllMLPError) -> None:
            for key in [key for key in runners if key[0] == model]:
                del runners[key]
            failed(model, error)

        for model in contest.models:
            try:
                for threads in contest.threads:
                    process = runners[model, threads] = stack.enter_context(PredictorProcess(model.path, threads))
                    process.logits(images(tuple(process.about["image_size"]), max(contest.batch_sizes)))
            except AllMLPError as error:
                leave_out(model, error)
        shares = {model: shares_of(model.path, process.about) for (model, _), process in runners.items()}
        wanted = {(precision, threads) for model, threads in runners for precision in shares[model]}
        for batch in contest.batch_sizes:
            before = {each: peak(*each) for each in wanted}
            rounds: dict[tuple[Entry, int], list[float]] = {key: [] for key in runners}
            started, clock = time.perf_counter(), Others(runners.values())
            for number in range(contest.rounds + 1):
                for key, process in [*runners.items()]:
                    try:
                        if key in runners:  # not left out in this round, on another number of threads
                            rounds[key].append(process.seconds(batch))
                    except AllMLPError as error:
                        leave_out(key[0], error)
                if number >= LEAST_ROUNDS and time.perf_counter() - started > contest.seconds:
                    break
            others = clock.percent()
            peaks = {each: max(known, peak(*each) or known) if known else None for each, known in before.items()}
            for model, threads in runners:
                seconds = rounds[model, threads]
                parts = [(share, peaks[precision, threads]) for precision, share in shares[model].items()]
                yield row(model, threads, batch, runners[model, threads].about, seconds[1:],  # the first warms up
                          attainable(parts), others)


def row(model: Entry, threads: int, batch: int, about: Mapping[str, Any], seconds: Sequence[float],
        most: float | None = None, others: float | None = None) -> dict[str, Any]:
    """`seconds`: of the rounds. `most`: operations per second that the processor could do, `others`: percent of the
    processors that other programs had; where known."""
    milliseconds = 1000 * np.array(seconds)
    p50, p95, p99 = (float(value) for value in np.percentile(milliseconds, (50, 95, 99)))
    backend, precision = kind(model.path, about)
    height, width = about["image_size"]
    memory, macs = about.get("memory_bytes"), model.multiply_adds or about.get("multiply_adds")
    return {
        "model": model.name, "infer_samples_per_sec": 1000 * batch / p50, "infer_step_time": p50,
        "infer_batch_size": batch, "infer_img_size": height if height == width else f"{height}x{width}",
        "infer_gmacs": macs and macs / 1e9, "backend": backend, "precision": precision, "threads": threads,
        "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "rounds": len(seconds),
        "peak_percent": 100 * 2 * macs * batch / (p50 / 1000) / most if macs and most else None,
        "load_seconds": about["load_seconds"], "peak_memory_mb": None if memory is None else memory / 1e6,
        "file_mb": size(model.path), "without_torch": not about["torch"], "top1": model.top1,
        "top1_images": model.top1_images, "others_percent": others,
    }  # fmt: skip


def shares_of(path: str, about: Mapping[str, Any]) -> dict[str, float]:
    """How much of the multiply-adds each precision has; nothing where layers differ and nobody says by how much."""
    if counts := about.get("by_precision"):
        return {precision: count / sum(counts.values()) for precision, count in counts.items()}
    mixed = manifests.is_export(path) and manifests.read(path).float_layers
    return {} if mixed else {kind(path, about)[1]: 1.0}


def attainable(parts: Sequence[tuple[float, float | None]]) -> float | None:
    """Operations per second that could be done at most where each part has its (share of the operations, peak).

    None where a peak is not known, or there are no parts."""
    if not parts or not all(peak for _, peak in parts):
        return None
    return 1 / sum(share / peak for share, peak in parts if peak)


def peak(precision: str, threads: int) -> float | None:
    """Operations per second of multiplications in registers; None where the engine, which measures it, is not there,
    or takes or gets no so many threads."""
    try:
        return native.engine().peak(precision, threads)
    except (MissingPackage, ValueError, RuntimeError):
        return None


def kind(path: str, about: Mapping[str, Any]) -> tuple[str, str]:
    """Backend and precision."""
    if manifests.is_export(path):
        manifest = manifests.read(path)
        return manifest.backend, manifest.precision
    return ("native", about["precision"]) if native.is_model_file(path) else ("pytorch", "fp32")


def size(path: str) -> float | None:
    """Megabytes of the file, or of what an exported folder lists; None for what lies elsewhere."""
    if manifests.is_export(path):
        return sum(file.bytes for file in manifests.read(path).files.values()) / 1e6
    if native.is_model_file(path):
        return os.path.getsize(path) / 1e6
    from allmlp.checkpoint import find_checkpoint  # which brings torch, and a folder of exports needs none

    try:
        return find_checkpoint(path).stat().st_size / 1e6
    except (AllMLPError, OSError):  # published weights by name
        return None
