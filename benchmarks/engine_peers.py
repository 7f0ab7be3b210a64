"""Our engine beside PyTorch, torch.compile, ONNX Runtime, OpenVINO and JAX: images per second of whole networks.

    python benchmarks/engine_peers.py --prepare FOLDER [--models …] [--batches …] [--threads …] [--contenders …]
    python benchmarks/engine_peers.py FOLDER [--models …] [--batches …] [--threads …] [--rounds 5] [--missing]
    python benchmarks/engine_peers.py --table [--results FILE]

`--prepare` writes what every contender runs from (exports, a cache of compiled code): minutes, at any time. The
second line measures and wants a machine with nothing else to do; without a folder the program does both. For one
network and number of threads all contenders are alive, each in a process of its own with nothing but its own runtime
in it. Each is asked for logits first, which are compared with PyTorch's in fp32; then, in every round, each runs
batches for some tenths of a second in turn. A burst is repeated, up to three times, while other processes had more than
6 % of the processors; the least disturbed counts. Rows go to results/engine_peers.csv after every network, number of
threads and batch size.

All have the same random weights (variance 1 / fan-in; biases, norms and LayerScale uniform in [-1, 1)) and take the
same uint8 images, crops of two photographs, which they normalise themselves; int8 is calibrated on others.

- allmlp engine: a model file of each precision
- timm eager: timm's network, whose GELU is the exact one where our large Mixers have Google's approximation by tanh
  (hence an error of 6e-4); bf16 is autocast
- torch.compile frozen: the same, compiled by Inductor with frozen weights for each batch size; int8 is PT2E (torchao),
  quantised while the process gets ready
- ONNX Runtime: our export in fp32; int8 of the graph that torch.onnx writes, dynamic or QDQ, by its own quantisers
- OpenVINO: our export; bf16 by its hint, int8 by NNCF
- JAX: the equations, jitted (peers/plain_jax.py)

Columns: `ratio_to_best_peer`: median over the rounds of the images per second over those of the fastest peer of equal
precision (of a peer: of the fastest of the others, so that the best is above 1), `ratio_to_timm_fp32` likewise;
`share_of_peak`: 2 x multiply-adds over the measured peak of the precision's multiply instruction, the highest seen in
the rounds; `spread_percent`: largest minus smallest round over the median; `ready_seconds`: from the start of the
process to its first answer (compiled graphs come from a cache); `peak_memory_mb`: of the process, so far; `error`: root
mean square of the difference of logits from PyTorch's in fp32, over what those deviate from their mean over the 64
images; `others_percent`: of the processors, that other processes had in the worst burst that counts.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from allmlp.backends.others import MOST_OTHERS
from peers.contenders import CONTENDERS
from peers.engine_table import table
from peers.process import Burst, Failed, Process, lacks, prepare, versions
from rows import read, write

RESULTS = Path(__file__).parent.parent / "results" / "engine_peers.csv"
MODELS = ("mixer_s16_224", "mixer_b16_224", "mixer_s32_224", "resmlp_24_224", "gmlp_s16_224", "mixer_l16_224")
CELL = ("model", "batch", "threads")
COLUMNS = (*CELL, "contender", "precision", "images_per_second", "spread_percent", "ratio_to_best_peer", "best_peer",
           "ratio_to_timm_fp32", "share_of_peak", "peak_memory_mb", "ready_seconds", "file_mb", "error",
           "others_percent", "rounds", "burst_seconds", "versions", "processor", "cores", "commit", "date", "command")
REFERENCE = "timm-fp32"
IMAGES, CALIBRATION = 64, 16
REPEATS = 3  # of a burst beside which others had more of the processors than MOST_OTHERS


# --- preparing -------------------------------------------------------------------------------------------------------


def prepare_network(model: str, folder: Path, chosen: Mapping[str, str], batches: Sequence[int],
                    threads: Sequence[int]) -> None:
    """Write weights, images and PyTorch's logits; then what each contender runs from, by the interpreter it has."""
    if not (folder / "about.json").exists():
        write_network(model, folder)
    for name, python in chosen.items():
        started = time.perf_counter()
        try:
            prepare(name, folder, python)
            if CONTENDERS[name].compiles:
                for count in threads:
                    with Process(name, folder, count, python) as process:
                        for batch in batches:
                            process.answers(batch)
        except Failed as error:
            print(f"without {error}", file=sys.stderr, flush=True)
        else:
            print(f"{model} {name}: prepared in {time.perf_counter() - started:.0f} s", flush=True)


def write_network(name: str, folder: Path) -> None:
    import allmlp
    from allmlp.backends.pytorch import PyTorchPredictor
    from allmlp.inspection.flops import count_macs
    from allmlp.testing import randomise
    from exports import crops

    folder.mkdir(parents=True, exist_ok=True)
    model = allmlp.create_model(name).eval()
    randomise(model, seed=0)
    np.savez(folder / "weights.npz", **{key: tensor.numpy() for key, tensor in model.state_dict().items()})
    images, calibration = (crops(count, model.config.image_size, seed)
                           for count, seed in ((IMAGES, 1), (CALIBRATION, 0)))
    np.save(folder / "images.npy", images)
    np.save(folder / "calibration.npy", calibration)
    np.save(folder / "logits.npy", PyTorchPredictor(model, max_batch=16)(images))
    (folder / "about.json").write_text(json.dumps({
        "model": name, "macs": count_macs(model.config), "mean": model.preprocess.mean, "std": model.preprocess.std,
        "gelu": model.config.layers[0].activation}))  # type: ignore[union-attr] - all of these networks have one


# --- measuring -------------------------------------------------------------------------------------------------------


def measure(folder: Path, chosen: Mapping[str, str], batches: Sequence[int], threads: int, rounds: int,
            seconds: float):
    """Yields a row for each contender, batch size by batch size; `chosen`: names and their interpreters."""
    said, exact = json.loads((folder / "about.json").read_text()), np.load(folder / "logits.npy")
    with contextlib.ExitStack() as stack:
        alive: dict[str, Process] = {}
        for name, python in chosen.items():  # one after the other: none disturbs another's start
            if not (folder / CONTENDERS[name].file).exists():
                print(f"{said['model']}: without {name}, which is not prepared", file=sys.stderr)
                continue
            alive[name] = stack.enter_context(Process(name, folder, threads, python))
            answered(alive, name, batches[0])
        for batch in batches:
            errors = {name: error_of(logits, exact) for name in list(alive)
                      if (logits := answered(alive, name, batch)) is not None}
            found, peaks = take_rounds(alive, threads, rounds, seconds)
            rates = {name: [burst.images_per_second for burst in bursts] for name, bursts in found.items()}
            yield [{
                "model": said["model"], "batch": batch, "threads": threads, "contender": CONTENDERS[name].title,
                "precision": CONTENDERS[name].precision, **compared(name, rates),
                "share_of_peak": share(2 * said["macs"], rates[name], peaks.get(CONTENDERS[name].precision)),
                "peak_memory_mb": alive[name].memory_mb, "ready_seconds": alive[name].ready_seconds,
                "file_mb": megabytes(folder / CONTENDERS[name].file), "error": errors[name],
                "others_percent": max((burst.others_percent or 0.0 for burst in bursts), default=None),
                "rounds": len(bursts), "burst_seconds": seconds,
                "versions": versions(CONTENDERS[name].packages, chosen[name]),
            } for name, bursts in found.items()]


def answered(alive: dict[str, Process], name: str, batch: int) -> np.ndarray | None:
    """Logits of the first images; a contender that fails is told, and takes part no longer."""
    try:
        return alive[name].answers(batch)
    except Failed as error:
        print(f"without {error}", file=sys.stderr)
        del alive[name]
        return None


def take_rounds(alive: dict[str, Process], threads: int, rounds: int, seconds: float
                ) -> tuple[dict[str, list[Burst]], dict[str, float]]:
    """The bursts of each contender, and the highest peak of each precision, operations per second."""
    found: dict[str, list[Burst]] = {name: [] for name in alive}
    peaks: dict[str, float] = {}

    def look_at_peaks() -> None:
        for precision, peak in measured_peaks(threads).items():
            peaks[precision] = max(peak, peaks.get(precision, 0.0))

    for number in range(rounds):
        look_at_peaks()
        for name in list(found) if number % 2 == 0 else list(found)[::-1]:
            tries = [alive[name].burst(seconds)]
            while (tries[-1].others_percent or 0.0) > MOST_OTHERS and len(tries) < REPEATS:
                tries.append(alive[name].burst(seconds))
            found[name].append(min(tries, key=lambda burst: burst.others_percent or 0.0))
    look_at_peaks()  # JAX is busy for a tenth of a second after it answers: two rounds may both begin so
    return found, peaks


def measured_peaks(threads: int) -> dict[str, float]:
    try:
        import allmlp_native
    except ImportError:
        return {}
    return {precision: allmlp_native.peak(precision, threads) for precision in ("fp32", "bf16", "int8")}


def share(operations: int, rates: Sequence[float], peak: float | None) -> float | None:
    return operations * statistics.median(rates) / peak if peak else None


def compared(name: str, rates: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """`rates`: images per second of every contender in every round."""
    own = statistics.median(rates[name])
    peers = [other for other in rates if other != name and CONTENDERS[other].peer
             and CONTENDERS[other].precision == CONTENDERS[name].precision]
    best = max(peers, key=lambda other: statistics.median(rates[other]), default=None)
    return {"images_per_second": own, "spread_percent": 100 * (max(rates[name]) - min(rates[name])) / own,
            "ratio_to_best_peer": best and ratio(rates[name], rates[best]),
            "best_peer": best and CONTENDERS[best].title,
            "ratio_to_timm_fp32": ratio(rates[name], rates[REFERENCE]) if REFERENCE in rates else None}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def error_of(logits: np.ndarray, exact: np.ndarray) -> float:
    """`logits`: of the first images. `exact`: of all, in fp32; what they have in common says nothing about images."""
    exact = exact.astype(np.float64)
    difference = logits - exact[: len(logits)]
    return float(np.sqrt(np.square(difference).mean() / np.square(exact - exact.mean(0)).mean()))


def megabytes(path: Path) -> float:
    """Of the file, and of the weights beside it where they lie there."""
    return sum(part.stat().st_size for part in (path, path.with_suffix(".bin")) if part.exists()) / 1e6


# --- the program -----------------------------------------------------------------------------------------------------


def interpreters(wanted: Sequence[str], other: str | None) -> dict[str, str]:
    """The contenders that can run, each with the first interpreter that has its packages; the others are told."""
    found: dict[str, str] = {}
    for name, contender in CONTENDERS.items():
        if not any(name == part or name.startswith(f"{part}-") for part in wanted):
            continue
        missing: list[str] = []
        for python in filter(None, (sys.executable, other)):
            if not (missing := lacks(contender.packages, python)):
                found[name] = python
                break
        else:
            print(f"without {name}: {', '.join(missing)} is not installed", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="what --prepare wrote")
    parser.add_argument("--prepare", type=Path, metavar="FOLDER")
    parser.add_argument("--table", action="store_true", help="print the rows as the tables of docs/speed.md")
    parser.add_argument("--models", nargs="+", default=MODELS[:2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--threads", nargs="+", type=int, default=[2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.6, help="of a burst (default: 0.6)")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help="or how names begin: " + ", ".join(CONTENDERS),
                        default=["engine", "timm", "compile", "onnxruntime", "openvino", "jax"])
    parser.add_argument("--one-precision", action="store_true",
                        help="contenders of one precision at a time (and timm's fp32), for networks that fill memory")
    parser.add_argument("--missing", action="store_true", help="leave out what the results have rows of")
    parser.add_argument("--peer-python", metavar="PATH", help="an interpreter for contenders that this one lacks")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.table:
        print(table(read(options.results)))
        return
    if max(options.batches) > IMAGES:
        parser.error(f"--batches: at most {IMAGES}")
    if unready := [model for model in options.models
                   if options.folder and not (options.folder / model / "about.json").exists()]:
        parser.error(f"{options.folder}: {', '.join(unready)} not prepared; use --prepare {options.folder} first")
    chosen = interpreters(options.contenders, options.peer_python)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or options.prepare or Path(temporary)
        for model in options.models:
            if not options.folder:
                prepare_network(model, folder / model, chosen, options.batches, options.threads)
            if not options.prepare:
                run(options, folder / model, chosen)


def run(options: argparse.Namespace, folder: Path, chosen: Mapping[str, str]) -> None:
    """Measure one network and put its rows in place of earlier ones."""
    from allmlp.train.run_folder import machine

    here = machine()
    where = {"processor": here["processor"], "cores": here["cores"], "commit": here["commit"],
             "date": time.strftime("%Y-%m-%d"), "command": " ".join(["python benchmarks/engine_peers.py",
                                                                    *sys.argv[1:]])}
    groups = [chosen]
    if options.one_precision:
        groups = [{name: python for name, python in chosen.items() if CONTENDERS[name].precision == precision
                   or name == REFERENCE} for precision in ("fp32", "bf16", "int8")]
    for threads in options.threads:
        done = {key_of(row) for row in read(options.results)} if options.missing else set()
        for group in groups:
            batches = [batch for batch in options.batches if not done.issuperset(
                (folder.name, str(batch), str(threads), CONTENDERS[name].title, CONTENDERS[name].precision)
                for name in group)]
            for rows in measure(folder, group, batches, threads, options.rounds, options.seconds) if batches else ():
                keys = {key_of(row) for row in rows}
                write(options.results, COLUMNS, [*(old for old in read(options.results) if key_of(old) not in keys),
                                                 *(row | where for row in rows)])
                for row in rows:
                    print(" ".join(f"{row[name]!s:<22}" if name == "contender" else f"{row[name]:>8.4g}"
                                   if isinstance(row[name], float) else f"{row[name] or '':>5}" for name in
                                   (*CELL, "contender", "precision", "images_per_second", "ratio_to_best_peer",
                                    "share_of_peak", "peak_memory_mb", "ready_seconds", "error", "others_percent")),
                          flush=True)


def key_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in (*CELL, "contender", "precision"))


if __name__ == "__main__":
    main()
