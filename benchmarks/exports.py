"""Every export beside PyTorch: parity, latency, size and time to get ready, per format, precision and family.

    python benchmarks/exports.py [--to onnx,native,…] [--precisions fp32,…] [--threads 1] [--images 8]
    python benchmarks/exports.py --table      the rows as the table of docs/export.md

The smallest network of each family at 224 x 224 and at 192 x 256, in every precision. Its weights are random
with variance 1 / fan-in (`testing.randomise`): they use every path, and what int8 costs a trained network has to be
measured on one (`allmlp export --max-drop`). Images are crops of scikit-learn's two photographs, some to calibrate,
others to compare. Each row is what `allmlp export` verifies: the export in a process of its own, latencies of one image
in turn with PyTorch's in fp32. `rms_error` and `largest_error` are over the deviation of PyTorch's logits.
Rows go to results/exports.csv, in place of those of the same network, size, format, precision and quantiser.
"""

import argparse
import datetime
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_sample_images

from allmlp.backends import BACKENDS
from allmlp.backends.export import Wish, export
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.backends.verify import Evidence
from allmlp.errors import AllMLPError
from allmlp.models.model import Model
from allmlp.testing import randomise
from allmlp.train.run_folder import machine
from allmlp.weights.pretrained import create_model
from rows import read, write

RESULTS = Path(__file__).parent.parent / "results" / "exports.csv"
NETWORKS = ("mixer_t16_224", "resmlp_12_p32_224", "gmlp_ti16_224")
SIZES = ((224, 224), (192, 256))
KEY = ("network", "image_size", "format", "precision", "quantiser")
COLUMNS = (*KEY, "passed", "failures", "remark", "rms_error", "largest_error", "limit", "top1_agreement_percent",
           "latency_ms", "pytorch_latency_ms", "ratio_to_pytorch", "load_seconds", "without_torch", "megabytes",
           "images", "rounds", "threads", "processor", "cores", "load", "versions", "commit", "date",
           "command")  # fmt: skip
CALIBRATION = 16


def crops(count: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """uint8 `(count, *size, 3)`, cut at random from photographs of 640 x 427."""
    draw = np.random.default_rng(seed)
    scenes = load_sample_images().images
    found = []
    for number in range(count):
        scene = scenes[number % len(scenes)]
        top, left = (int(draw.integers(whole - part + 1)) for whole, part in zip(scene.shape, size, strict=False))
        found.append(scene[top : top + size[0], left : left + size[1]])
    return np.stack(found)


def wishes(formats: list[str], precisions: list[str], threads: int) -> Iterator[Wish]:
    for name in formats:
        for precision in precisions:
            if precision in BACKENDS[name].limits:
                for quantiser in BACKENDS[name].quantisers if precision == "int8" else (None,):
                    yield Wish(name, precision, quantiser, threads=threads)  # type: ignore[arg-type]


def row(model: Model, wish: Wish, evidence: Evidence, calibration: np.ndarray) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        done = export(model, Path(folder, "export"), wish, evidence, calibration)
    found = done.manifest.verification
    assert found is not None
    return {"passed": found.passed, "failures": "; ".join(found.failures), "remark": found.remark or "",
            "rms_error": found.rms_error,
            "largest_error": found.largest_error, "limit": found.limit,
            "top1_agreement_percent": found.top1_agreement_percent, "latency_ms": found.latency_ms,
            "pytorch_latency_ms": found.pytorch_latency_ms,
            "ratio_to_pytorch": found.pytorch_latency_ms / found.latency_ms, "load_seconds": found.load_seconds,
            "without_torch": found.without_torch, "rounds": found.rounds,
            "megabytes": sum(file.bytes for file in done.manifest.files.values()) / 1e6,
            "versions": " ".join(f"{name} {number}" for name, number in done.manifest.versions.items())}  # fmt: skip


def table(rows: list[dict[str, str]]) -> str:
    """Markdown: per format and precision, what a network's logits lose, and how long one image takes."""
    networks = list(dict.fromkeys((row["network"], row["image_size"]) for row in rows))
    networks.sort(key=lambda network: network[1] == "192x256")
    titles = [f"{name.rsplit('_', 1)[0]}, {size.replace('x', ' × ')}" for name, size in networks]
    lines = [f"| | {' | '.join(titles)} |", "|---|" + "---:|" * len(networks)]
    for name in dict.fromkeys((row["format"], row["precision"], row["quantiser"]) for row in rows):
        cells = {(row["network"], row["image_size"]): row for row in rows
                 if (row["format"], row["precision"], row["quantiser"]) == name}
        lines.append(f"| {' '.join(filter(None, name))} | "
                     + " | ".join(cell(cells[network]) if network in cells else "" for network in networks) + " |")
    return "\n".join(lines)


def cell(row: dict[str, str]) -> str:
    if row["passed"] != "True":
        return "refused"
    error = np.format_float_positional(100 * float(row["rms_error"]), 2, fractional=False, trim="-")
    return f"{error} %; {float(row['latency_ms']):.3g} ms, {float(row['ratio_to_pytorch']):.2f} ×"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", default=",".join(BACKENDS), help="(default: all)")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--precisions", default="fp32,bf16,int8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--table", action="store_true", help="print the rows as the table of docs/export.md")
    options = parser.parse_args()
    if options.table:
        print(table(read(RESULTS)))
        return
    torch.set_num_threads(options.threads)
    here = machine()
    for network in options.networks.split(","):
        for size in SIZES:
            model = create_model(network, image_size=size)
            randomise(model, seed=0)
            images, predictor = crops(options.images, size, seed=1), PyTorchPredictor(model.eval())
            evidence = Evidence(images, None, "crops of two photographs", predictor(images), predictor)
            for wish in wishes(options.to.split(","), options.precisions.split(","), options.threads):
                said = {"network": network, "image_size": f"{size[0]}x{size[1]}", "format": wish.backend,
                        "precision": wish.precision, "quantiser": wish.quantiser or "", "images": options.images,
                        "threads": options.threads, "processor": here["processor"], "cores": here["cores"],
                        "load": f"{os.getloadavg()[0]:.1f}", "commit": here["commit"],
                        "date": datetime.date.today().isoformat(),
                        "command": f"python benchmarks/exports.py --threads {options.threads}"}  # fmt: skip
                try:
                    said |= row(model, wish, evidence, crops(CALIBRATION, size, seed=0))
                except AllMLPError as error:
                    said |= {"passed": False, "failures": str(error)}
                print(*(said.get(name, "") for name in (*KEY, "passed", "rms_error", "latency_ms", "failures")))
                kept = [old for old in read(RESULTS) if any(old[name] != str(said[name]) for name in KEY)]
                write(RESULTS, COLUMNS, [*kept, said])


if __name__ == "__main__":
    main()
