"""Our int8 with static and with dynamic activations: what each loses on networks trained on digits, and how fast it is.

    python benchmarks/activations.py [--seeds 0,1,2] [--runs DIR] [--epochs N] [--csv FILE]

Both run in ONNX Runtime, the engine having the static ones only. Errors as in accuracy_price.py, whose networks these
are, as trained and with outlier channels planted: of the logits on the test split, root mean square over the deviation
of PyTorch's. Speeds: mixer_s16_224 with fresh weights, one image, one thread, the two and fp32 asked in turn; median
and quartiles of the rounds, and the median ratio to fp32 of the same round.
"""

import argparse
import statistics
import subprocess
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
from allmlp.quantize.calibrate import Choices
from allmlp.train.run_folder import machine
from rows import write

RESULTS = Path(__file__).parent.parent / "results" / "activations.csv"
KINDS: tuple[Literal["static", "dynamic"], ...] = ("static", "dynamic")
COLUMNS = ("network", "seed", "weights", "activations", "rms_error", "top1_difference", "images", "ms", "ms_low",
           "ms_high", "over_fp32", "rounds", "processor", "versions", "commit", "command")  # fmt: skip


def int8(model: Model, calibration: np.ndarray, activations: Literal["static", "dynamic"] | None) -> Any:
    """A predictor in ONNX Runtime on one thread; fp32 for None."""
    manifest = Manifest(backend="onnx", precision="fp32", preprocess=model.preprocess, num_classes=model.num_classes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.onnx")
        if activations is None:
            onnx.export(model, path)
        else:
            onnx.export(model, path, "int8", calibration, "ours", choices=Choices(activations=activations))
        return onnx.load(path, manifest, threads=1)


def errors(family: str, seed: int, runs: Path, epochs: int | None) -> list[dict[str, Any]]:
    data, rows = open_data("digits"), []
    trained = network("digits", family, seed, runs, epochs)
    for weights, model in (("trained", trained), ("planted", planted(trained, seed))):
        calibration = pictures(data.splits["train"], model.preprocess, CALIBRATION)
        test = data.splits["test"]
        images = pictures(test, model.preprocess, len(test))
        exact = PyTorchPredictor(model)(images)
        for kind in KINDS:
            got = int8(model, calibration, kind)(images)
            right = [(logits.argmax(1) == test.labels).mean() for logits in (got, exact)]
            rows.append({"network": f"{family}_p2_8", "seed": seed, "weights": weights, "activations": kind,
                         "rms_error": float(np.sqrt(np.square(got - exact).mean()) / exact.std()),
                         "top1_difference": 100 * float(right[0] - right[1]), "images": len(images)})  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def speeds(rounds: int = 40) -> list[dict[str, Any]]:
    model = allmlp.create_model("mixer_s16_224", num_classes=10).eval()
    image = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)
    predictors = {kind: int8(model, image, kind) for kind in (None, *KINDS)}
    seconds: dict[str | None, list[float]] = {kind: [] for kind in predictors}
    for _ in range(rounds + 3):
        for kind, predict in predictors.items():
            started = time.perf_counter()
            predict(image[:1])
            seconds[kind].append(1000 * (time.perf_counter() - started))
    rows = []
    for kind in KINDS:
        its, fp32 = seconds[kind][3:], seconds[None][3:]
        low, middle, high = statistics.quantiles(its, n=4)
        rows.append({"network": "mixer_s16_224", "seed": 0, "weights": "fresh", "activations": kind, "ms": middle,
                     "ms_low": low, "ms_high": high, "rounds": rounds,
                     "over_fp32": statistics.median(a / b for a, b in zip(fp32, its, strict=True))})  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy_price"), metavar="DIR")
    parser.add_argument("--epochs", type=int, metavar="N", help="of training, where a network is not there (recipe's)")
    parser.add_argument("--csv", type=Path, default=RESULTS, metavar="FILE")
    options = parser.parse_args()
    rows = speeds()
    for seed in map(int, options.seeds.split(",")):
        for family in FAMILIES:
            rows += errors(family, seed, options.runs, options.epochs)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    about = {"processor": machine()["processor"], "versions": f"onnxruntime {version('onnxruntime')}",
             "commit": commit.strip(), "command": "python benchmarks/activations.py"
             + (f" --epochs {options.epochs}" if options.epochs else "")}  # fmt: skip
    write(options.csv, COLUMNS, [{column: (row | about).get(column, "") for column in COLUMNS} for row in rows])


if __name__ == "__main__":
    main()
