r"""How fast the engine is, in images per second and as a share of what the instructions allow.

    python native/bench.py mixer_s16_224 --threads 1 2 --batch 1 16

results/engine_share.csv, in some ten minutes once the models are written, by a line like this for each network and
precision, so that none runs in a process where others ran before (of L/16 batch 1 and 16):

    python native/bench.py mixer_s16_224 --precision fp32 --threads 2 1 --batch 1 16 64 --seconds 2 \
      --folder runs/engine --csv results/engine_share.csv

A name is built with fresh weights (needs allmlp) and exported; a file is taken as it is. The share is 2 x multiply-adds
per second over the measured peak of the multiply instruction, which is measured again right before and right after each
run, so that a change of clock or a busy neighbour counts for both. A run is one call, or as many as take 50 ms: the
peak is the best of ten times 2 ms, and a single call of 4 ms would meet the clock at its highest less often. Each line
is the best of many short rounds: other programs only ever make a round slower. On a machine that is never free,
--cpu-time counts the time that the process had a processor, over its threads; it flatters where threads sleep, and is
exact for one thread.
"""

import argparse
import csv
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import allmlp_native
import numpy as np

COLUMNS = ("model", "precision", "level", "threads", "batch", "images_per_second", "ms_per_batch", "peak_gops",
           "share_of_peak", "rounds", "commit", "date", "processor", "versions", "command")
SHORTEST = 0.05  # seconds of a round
SAME = ("model", "precision", "level", "threads", "batch", "commit")  # rows that agree in these are one measurement


def exported(name: str, precision: str, folder: Path) -> Path:
    """The model file of a network with fresh weights."""
    import torch

    import allmlp
    from allmlp.backends.native import export
    from allmlp.quantize.calibrate import Choices

    torch.manual_seed(0)
    path = folder / f"{name}.{precision}.allmlp"
    if path.is_file():
        return path
    model = allmlp.create_model(name, num_classes=1000).eval()
    calibration = np.random.default_rng(0).integers(0, 256, (2, *model.config.image_size, 3), dtype=np.uint8)
    # Fitting the rounding takes minutes for a large network and changes no speed.
    choices = Choices("minmax", migrate=0, fit=False)
    export(model, path, precision, calibration, choices=choices)  # type: ignore[arg-type]
    return path


def measure(model: allmlp_native.Model, batch: int, seconds: float, cpu_time: bool) -> tuple[float, float, float, int]:
    """(best seconds for one batch, share of the peak, that peak, rounds): the share that one round in ten exceeds.

    Rounds follow one another until `seconds` have passed, at least one.
    """
    images = np.random.default_rng(1).integers(0, 256, (batch, *model.image_size, 3), dtype=np.uint8)
    model(images[: model.threads])
    begin = time.perf_counter()
    model(images)
    calls = math.ceil(SHORTEST / (time.perf_counter() - begin))

    def peak() -> float:
        return allmlp_native.peak(model.precision, model.threads, model.level, seconds=0.002, repeats=5)

    def now() -> float:
        return time.process_time() / model.threads if cpu_time else time.perf_counter()

    rows = []
    begin = time.perf_counter()
    while not rows or time.perf_counter() - begin < seconds:
        before = peak()
        start = now()
        for _ in range(calls):
            model(images)
        took = (now() - start) / calls
        highest = max(before, peak())
        rows.append((2 * model.multiply_adds * batch / took / highest, highest, took))
    share, highest, _ = sorted(rows)[len(rows) * 9 // 10]
    return min(row[2] for row in rows), share, highest, len(rows)


def machine() -> dict[str, str]:
    """What a row says about where it was measured."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True,
                            text=True, check=False).stdout.strip()  # fmt: skip
    info = Path("/proc/cpuinfo")
    said = dict(line.replace("\t", "").split(": ", 1) for line in info.read_text().splitlines() if ": " in line) \
        if info.is_file() else {}
    name = said.get("model name", platform.machine())
    if "cpu family" in said:  # in virtual machines several generations have one name
        name += f" (family {said['cpu family']}, model {said.get('model')})"
    return {
        "commit": commit or "unknown",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": f"{name}, {os.cpu_count()} cores",
        "versions": f"allmlp_native {allmlp_native.__version__}, numpy {np.__version__}, "
                    f"python {platform.python_version()}",
        "command": " ".join(["python", "native/bench.py", *sys.argv[1:]]),
    }  # fmt: skip


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows that a file has; none if it is not there. A last line without its end, of a run cut off, is no row, and
    is taken off. Ends the program for a file that something else wrote, and leaves it as it is."""
    if not path.is_file():
        return []
    content, header = path.read_bytes(), f"{','.join(COLUMNS)}\n".encode()
    if content[: len(header)] != header[: len(content)]:
        sys.exit(f"{path}: no rows of this program; give another file, or none that is there")
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    return list(csv.DictReader(whole.decode().splitlines()))


def append(path: Path, row: dict[str, object]) -> None:
    """One row more, on disk when this returns."""
    new = not path.is_file() or path.stat().st_size == 0
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["mixer_s16_224"], help="names or model files")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16", "int8"])
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, allmlp_native.cores()}))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--level", default="auto", help="instruction set; see allmlp_native.kernels()")
    parser.add_argument("--seconds", type=float, default=6, help="for each line")
    parser.add_argument("--cpu-time", action="store_true", help="count the processor's time, not the clock's")
    parser.add_argument("--csv", type=Path, help="append each line to this file; what is there for this commit is "
                        "not measured again, so that a run that was cut off goes on")
    parser.add_argument("--folder", type=Path, help="where exported models are kept for the next run")
    options = parser.parse_args()
    about = machine()
    done = {tuple(row[name] for name in SAME) for row in rows_of(options.csv)} if options.csv else set()
    print(f"{'model':24} {'precision':9} {'level':8} threads batch  images/s  ms/batch  share of peak")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.models:
            for precision in options.precision if not Path(name).is_file() else [""]:
                path = Path(name) if Path(name).is_file() else exported(name, precision, folder)
                for threads in options.threads:
                    model = allmlp_native.Model(path, threads, options.level)
                    for batch in options.batch:
                        row = {"model": path.name.split(".")[0], "precision": model.precision, "level": model.level,
                               "threads": str(threads), "batch": str(batch), **about}
                        if tuple(row[column] for column in SAME) in done:
                            continue
                        seconds, share, peak, rounds = measure(model, batch, options.seconds, options.cpu_time)
                        row |= {"images_per_second": f"{batch / seconds:.1f}", "ms_per_batch": f"{seconds * 1e3:.3f}",
                                "peak_gops": f"{peak / 1e9:.1f}", "share_of_peak": f"{share:.4f}",
                                "rounds": str(rounds)}  # fmt: skip
                        if options.csv:
                            append(options.csv, row)
                        print(f"{row['model']:24} {model.precision:9} {model.level:8} {threads:7} {batch:5} "
                              f"{batch / seconds:9.1f} {seconds * 1e3:9.2f} {share:13.1%}", flush=True)


if __name__ == "__main__":
    main()
