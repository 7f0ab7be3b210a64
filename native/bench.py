"""How fast the engine is, in images per second and as a share of what the instructions allow.

    python native/bench.py mixer_s16_224 --threads 1 2 --batch 1 16

A name is built with fresh weights (needs allmlp) and exported; a file is taken as it is. The share is 2 x multiply-adds
per second over the measured peak of the multiply instruction, which is measured again right before and right after each
run, so that a change of clock or a busy neighbour counts for both. Each line is the best of many short rounds: other
programs only ever make a round slower. On a machine that is never free, --cpu-time counts the time that the process had
a processor, over its threads; it flatters where threads sleep, and is exact for one thread.
"""

import argparse
import tempfile
import time
from pathlib import Path

import allmlp_native
import numpy as np


def exported(name: str, precision: str, folder: Path) -> Path:
    """The model file of a network with fresh weights."""
    import torch

    import allmlp
    from allmlp.backends.native import export

    torch.manual_seed(0)
    model = allmlp.create_model(name, num_classes=1000).eval()
    calibration = np.random.default_rng(0).integers(0, 256, (2, *model.config.image_size, 3), dtype=np.uint8)
    path = folder / f"{name}.{precision}.allmlp"
    export(model, path, precision, calibration)  # type: ignore[arg-type]
    return path


def measure(model: allmlp_native.Model, batch: int, rounds: int, cpu_time: bool) -> tuple[float, float]:
    """(seconds for one batch, share of the peak), of the round with the best share."""
    images = np.random.default_rng(1).integers(0, 256, (batch, *model.image_size, 3), dtype=np.uint8)
    model(images)

    def peak() -> float:
        return allmlp_native.peak(model.precision, model.threads, model.level, seconds=0.002, repeats=5)

    def now() -> float:
        return time.process_time() / model.threads if cpu_time else time.perf_counter()

    rows = []
    for _ in range(rounds):
        before = peak()
        start = now()
        model(images)
        seconds = now() - start
        rows.append((2 * model.multiply_adds * batch / seconds / max(before, peak()), seconds))
    share = sorted(row[0] for row in rows)
    return min(row[1] for row in rows), share[len(share) * 9 // 10]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["mixer_s16_224"], help="names or model files")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16", "int8"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, allmlp_native.cores()])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--level", default="auto", help="instruction set; see allmlp_native.kernels()")
    parser.add_argument("--seconds", type=float, default=6, help="for each line")
    parser.add_argument("--cpu-time", action="store_true", help="count the processor's time, not the clock's")
    options = parser.parse_args()
    print(f"{'model':24} {'precision':9} {'level':8} threads batch  images/s  ms/batch  share of peak")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            for precision in options.precision if not Path(name).is_file() else [""]:
                path = Path(name) if Path(name).is_file() else exported(name, precision, Path(folder))
                for threads in options.threads:
                    model = allmlp_native.Model(path, threads, options.level)
                    for batch in options.batch:
                        first = time.perf_counter()
                        measure(model, batch, 1, options.cpu_time)
                        rounds = max(5, int(options.seconds / (time.perf_counter() - first)))
                        seconds, share = measure(model, batch, rounds, options.cpu_time)
                        print(f"{path.name.split('.')[0]:24} {model.precision:9} {model.level:8} {threads:7} {batch:5} "
                              f"{batch / seconds:9.1f} {seconds * 1e3:9.2f} {share:13.1%}", flush=True)


if __name__ == "__main__":
    main()
