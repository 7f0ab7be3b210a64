"""Our int8 with static and with dynamic activations: what each loses on networks trained on digits, and how fast it is.

    python benchmarks/activations.py [--only errors|speeds] [--seeds 0,1,2] [--runs DIR] [--epochs N] [--files DIR]
        [--rounds 7] [--csv FILE]

Both run in ONNX Runtime, the engine having the static ones only. Errors as in accuracy_price.py, whose networks these
are, as trained and with outlier channels planted: of the logits on the test split, root mean square over the deviation
of PyTorch's. Speeds: mixer_s16_224 with fresh weights, one image, one and two threads. The two and fp32 are processes,
since idle threads of ONNX Runtime wait busily, and have their turns as in turns.py, half a second each; median and
quartiles of the rounds, and the median ratio to fp32 of the same round. What is not measured keeps its rows.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

import allmlp
from accuracy_price import CALIBRATION, FAMILIES, network, planted
from allmlp.backends import onnx
from allmlp.backends.manifest import Manifest
from allmlp.backends.packages import version
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.commands.export import pictures
from allmlp.data import open_data
from allmlp.models.model import Model
from allmlp.quantize.choices import Choices
from allmlp.train.run_folder import machine
from rows import read, write
from turns import ratio, seconds_of, start, wait_for_turns

RESULTS = Path(__file__).parent.parent / "results" / "activations.csv"
TURN_SECONDS = 0.5
KINDS: tuple[Literal["static", "dynamic"], ...] = ("static", "dynamic")
COLUMNS = ("network", "seed", "weights", "activations", "rms_error", "top1_difference", "images", "ms", "ms_low",
           "ms_high", "over_fp32", "rounds", "threads", "processor", "versions", "commit", "command")  # fmt: skip


def manifest(model: Model) -> Manifest:
    return Manifest(backend="onnx", precision="fp32", preprocess=model.preprocess, num_classes=model.num_classes)


def write_int8(model: Model, path: Path, calibration: np.ndarray, activations: Literal["static", "dynamic"]) -> None:
    onnx.export(model, path, "int8", calibration, "ours", choices=Choices(activations=activations))


def errors(family: str, seed: int, runs: Path, epochs: int | None) -> list[dict[str, Any]]:
    data, rows = open_data("digits"), []
    trained = network("digits", family, seed, runs, epochs)
    for weights, model in (("trained", trained), ("planted", planted(trained, seed))):
        calibration = pictures(data.splits["train"], model.preprocess, CALIBRATION)
        test = data.splits["test"]
        images = pictures(test, model.preprocess, len(test))
        exact = PyTorchPredictor(model)(images)
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "m.onnx")
                write_int8(model, path, calibration, kind)
                got = onnx.load(path, manifest(model), threads=1)(images)
            right = [(logits.argmax(1) == test.labels).mean() for logits in (got, exact)]
            rows.append({"network": f"{family}_p2_8", "seed": seed, "weights": weights, "activations": kind,
                         "rms_error": float(np.sqrt(np.square(got - exact).mean()) / exact.std()),
                         "top1_difference": 100 * float(right[0] - right[1]), "images": len(images)})  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def contend(file: str, threads: int) -> None:
    """Take turns of some calls."""
    predict = onnx.load(Path(file), manifest(fresh()), threads)
    image = pixels()[:1]

    def turn() -> float:
        times, started = [], time.perf_counter()
        while not times or time.perf_counter() < started + 2 * TURN_SECONDS:
            before = time.perf_counter()
            predict(image)
            if before >= started + TURN_SECONDS:  # the first half does not count: its memory has been idle
                times.append(time.perf_counter() - before)
        return statistics.median(times)

    wait_for_turns(turn)


def fresh() -> Model:
    return allmlp.create_model("mixer_s16_224", num_classes=10).eval()


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)


def speeds(rounds: int, folder: Path) -> list[dict[str, Any]]:
    files = {kind: folder / f"{kind}.onnx" for kind in ("fp32", *KINDS)}
    if not files["fp32"].exists():
        onnx.export(fresh(), files["fp32"])
    for kind in KINDS:
        if not files[kind].exists():
            write_int8(fresh(), files[kind], pixels(), kind)
    rows = []
    for threads in (1, 2):
        waiting = {kind: start(__file__, [str(file), threads], kind) for kind, file in files.items()}
        seconds = seconds_of(waiting, rounds, "", hold=False)
        for process in waiting.values():
            process.communicate()
        for kind in KINDS:
            low, middle, high = (1000 * value for value in statistics.quantiles(seconds[kind], n=4))
            rows.append({"network": "mixer_s16_224", "seed": 0, "weights": "fresh", "activations": kind, "ms": middle,
                         "ms_low": low, "ms_high": high, "rounds": rounds, "threads": threads,
                         "over_fp32": ratio(seconds["fp32"], seconds[kind])})  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["errors", "speeds"])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy_price"), metavar="DIR")
    parser.add_argument("--epochs", type=int, metavar="N", help="of training, where a network is not there (recipe's)")
    parser.add_argument("--files", type=Path, default=Path("runs/activations"), metavar="DIR",
                        help="of the networks whose speed is measured, written where they are not there")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="at least 2")
    parser.add_argument("--csv", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--contend", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contend:
        contend(*options.contend)
        return
    kept, rows = read(options.csv) if options.only else [], []
    if options.only != "errors":
        options.files.mkdir(parents=True, exist_ok=True)
        rows += speeds(options.rounds, options.files)
        kept = [row for row in kept if row["weights"] != "fresh"]
    if options.only != "speeds":
        kept = [row for row in kept if row["weights"] == "fresh"]
        for seed in map(int, options.seeds.split(",")):
            for family in FAMILIES:
                rows += errors(family, seed, options.runs, options.epochs)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    about = {"processor": machine()["processor"], "versions": f"onnxruntime {version('onnxruntime')}",
             "commit": commit.strip(), "command": shlex.join(["python", "benchmarks/activations.py", *sys.argv[1:]])}
    rows = [{column: (row | about).get(column, "") for column in COLUMNS} for row in rows]
    write(options.csv, COLUMNS, rows + kept)


if __name__ == "__main__":
    main()
