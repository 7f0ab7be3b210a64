"""Whether an exported network does what the network did: run in a process of its own on real images, beside PyTorch."""

import contextlib
import operator
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from allmlp.backends.manifest import Verification
from allmlp.backends.others import Others, remark_on_others
from allmlp.backends.process import PredictorProcess
from allmlp.errors import BadData

MOST_CLEAR_MISTAKES = 5.0  # percent of images where the export names a class that PyTorch clearly does not prefer
LEAST_ROUNDS, MOST_ROUNDS, SECONDS = 5, 30, 3.0
AT_ONCE = 1024  # images that the process is given at a time: they pass by a file, and lie in its memory


@dataclass(frozen=True)
class Evidence:
    """Images to compare on, uint8 `(N, H, W, 3)` of the network's size, none of them used for calibration.

    `labels` int64 `(N,)` as the network numbers its classes, where it has them: then accuracies are compared too.
    `logits`: PyTorch's in fp32; `predict`: what gives them, to be timed. `source`: what to call the images.
    Raises `BadData` for logits that are not finite.
    """

    images: np.ndarray
    labels: np.ndarray | None
    source: str
    logits: np.ndarray
    predict: Callable[[np.ndarray], np.ndarray]

    def __post_init__(self) -> None:
        if not np.isfinite(self.logits).all():
            raise BadData(f"{self.source}: the network's own logits are not finite in PyTorch, so that no export can "
                          "be compared with them; its training diverged or its weights are damaged: take an earlier "
                          "checkpoint")


def verify(folder: Path, evidence: Evidence, limit: float, *, threads: int | None = None,
           max_drop: float | None = None, fp32: Path | None = None) -> Verification:
    """Run the export in `folder` and compare. Raises `BadCheckpoint` where its process fails.

    `max_drop`: of accuracy, in points, paired; `fp32`: the same backend's export in fp32, to be no slower than.
    """
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(PredictorProcess(folder, threads))
        processes = [process]
        logits = np.concatenate([process.logits(evidence.images[first : first + AT_ONCE])
                                 for first in range(0, len(evidence.images), AT_ONCE)])
        callers = {"export": process.seconds, "pytorch": lambda: _seconds(evidence)}
        if fp32 is not None:
            processes.append(stack.enter_context(PredictorProcess(fp32, threads)))
            processes[1].logits(evidence.images[:1])
            callers["fp32"] = processes[1].seconds
        clock = Others(processes)
        latencies = _in_turn(callers)
        others = clock.percent()
    found, mistakes = _compare(logits, evidence, limit)
    times = {name: 1000 * statistics.median(seconds) for name, seconds in latencies.items()}
    failures = []
    if not np.isfinite(logits).all():
        failures.append("its logits are not finite")
    elif not found["rms_error"] <= limit:
        failures.append(f"its logits differ by {100 * found['rms_error']:.2g} % of their deviation, more than "
                        f"{100 * limit:g} %")
    if mistakes > MOST_CLEAR_MISTAKES:
        failures.append(f"on {mistakes:.1f} % of the images it names another class than PyTorch where that was clear, "
                        f"more than {MOST_CLEAR_MISTAKES:g} %")
    if max_drop is not None and found["accuracy_drop"] > max_drop:
        failures.append(f"it loses {found['accuracy_drop']:.2f} points of accuracy, more than the {max_drop:g} asked "
                        "for")
    remarks = [process.about["remark"], remark_on_others(others)]
    if fp32 is not None:
        ratio = statistics.median(map(operator.truediv, latencies["export"], latencies["fp32"]))
        if ratio > 1:
            failures.append(f"it is slower than fp32: {ratio:.4g} times as long, in the median of rounds"
                            f" ({times['export']:.3g} ms per image, {times['fp32']:.3g} ms)")
    return Verification(
        source=evidence.source, images=len(evidence.images), **found, limit=limit, max_drop=max_drop,
        latency_ms=times["export"], pytorch_latency_ms=times["pytorch"], fp32_latency_ms=times.get("fp32"),
        rounds=len(latencies["export"]), threads=threads, load_seconds=process.about["load_seconds"],
        without_torch=not process.about["torch"], others_percent=others,
        remark="; ".join(remark for remark in remarks if remark) or None,
        failures=tuple(failures),
    )  # fmt: skip


def _seconds(evidence: Evidence) -> float:
    started = time.perf_counter()
    evidence.predict(evidence.images[:1])
    return time.perf_counter() - started


def _in_turn(callers: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Seconds of each, one after another in every round, the first round left out: a busy machine is so to all."""
    found: dict[str, list[float]] = {name: [] for name in callers}
    started = time.perf_counter()
    for number in range(MOST_ROUNDS + 1):
        for name, call in callers.items():
            found[name].append(call())
        if number >= LEAST_ROUNDS and time.perf_counter() - started > SECONDS:
            break
    return {name: seconds[1:] for name, seconds in found.items()}


def _compare(logits: np.ndarray, evidence: Evidence, limit: float) -> tuple[dict[str, float], float]:
    """The figures, and the percentage of clear mistakes: where PyTorch has its own choice ahead by twice the limit."""
    exact = evidence.logits.astype(np.float64)
    if exact.ndim == 4:  # of pixels, each of which counts as an image
        exact, logits = (np.moveaxis(each, 1, -1).reshape(-1, exact.shape[1]) for each in (exact, logits))
    difference = np.nan_to_num(logits.astype(np.float64) - exact, nan=1e30, posinf=1e30, neginf=-1e30)
    spread = float(exact.std()) or 1.0
    chosen, expected = logits.argmax(1), exact.argmax(1)
    found = {
        "max_difference": float(np.abs(difference).max()),
        "largest_error": float(np.abs(difference).max()) / spread,
        "rms_error": float(np.sqrt(np.square(difference).mean())) / spread,
        "top1_agreement_percent": 100 * float((chosen == expected).mean()),
    }
    if evidence.labels is not None:
        # Of whole numbers: a difference of rounded rates would exceed a largest drop that it is equal to.
        right, right_before = (int((each == evidence.labels).sum()) for each in (chosen, expected))
        found["accuracy_percent"] = 100 * right / len(exact)
        found["accuracy_drop"] = 100 * (right_before - right) / len(exact)
    rows = np.arange(len(exact))
    behind = exact[rows, expected] - exact[rows, chosen]
    return found, 100 * float((behind > 2 * limit * spread).mean())
