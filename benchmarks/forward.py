"""Inference in PyTorch: our networks beside timm's, eager and compiled.

    python benchmarks/forward.py [--models mixer_s16_224 …] [--precisions fp32 bf16] [--batch-sizes 1 16]
        [--rounds 15] [--threads 2]

Every contender is a process of its own; one of them works at a time. In each round every contender has its turn: calls
for 0.15 seconds that do not count, since its memory has been idle, and for 0.15 seconds of which the median does: turns
so short that a host that is slow for seconds is slow for all. Ratios are taken within a round. The same normalised
images for all, random weights, evaluation mode, `torch.inference_mode`; bf16: weights and images. `compiled` is
`torch.compile` of the whole network. timm's Mixers have GELU's erf form, ours the published tanh form. Rows go to
results/forward.csv, in place of those that the same kind of processor gave before.
"""

import argparse
import json
import shlex
import statistics
import sys
import time
from pathlib import Path

from rows import read, write
from turns import machine_columns, ratio, seconds_of, spread_percent, start, wait_for_turns

RESULTS = Path(__file__).parent.parent / "results" / "forward.csv"
COLUMNS = ("model", "batch_size", "precision", "contender", "images_per_second", "spread_percent", "times_timm_eager",
           "times_best_of_timm", "rounds", "threads", "processor", "instructions", "torch", "timm", "commit", "date",
           "command")
MODELS = ("mixer_s16_224", "mixer_b16_224", "resmlp_24_224", "gmlp_s16_224", "mixer_s32_224", "mixer_l16_224")
CONTENDERS = ("timm eager", "timm compiled", "ours eager", "ours compiled")
WARM_SECONDS, TURN_SECONDS = 0.15, 0.15


def contend(contender: str, name: str, batch_size: int, precision: str, threads: int) -> None:
    """Take turns of some calls."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    who, how = contender.split()
    if who == "ours":
        from allmlp.models.variants import create_model

        model = create_model(name, seed=0)
    else:
        import timm

        model = timm.create_model(name)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = model.eval().to(dtype)
    images = torch.randn(batch_size, 3, 224, 224).to(dtype)
    network = torch.compile(model) if how == "compiled" else model

    def turn() -> float:
        with torch.inference_mode():
            times, start = [], time.perf_counter()
            while not times or time.perf_counter() < start + WARM_SECONDS + TURN_SECONDS:
                before = time.perf_counter()
                network(images)
                if before >= start + WARM_SECONDS:
                    times.append(time.perf_counter() - before)
        return statistics.median(times)

    turn()  # compiling
    wait_for_turns(turn)


def measure(name: str, batch_size: int, precision: str, chosen: argparse.Namespace) -> list[dict]:
    title = f"{name} {precision} batch {batch_size}"
    contenders = [contender for contender in CONTENDERS if contender in ("timm eager", *chosen.contenders)]
    waiting = {contender: start(__file__, [contender, name, batch_size, precision, chosen.threads],
                                f"{contender}, {title},") for contender in contenders}
    seconds = seconds_of(waiting, chosen.rounds, title, chosen.hold)
    for process in waiting.values():
        process.communicate()
    best = min((contender for contender in contenders if contender.startswith("timm")),
               key=lambda contender: statistics.median(seconds[contender]))
    rows = []
    for contender, times in seconds.items():
        rows.append({
            "model": name, "batch_size": batch_size, "precision": precision, "contender": contender,
            "images_per_second": f"{batch_size / statistics.median(times):.2f}",
            "spread_percent": spread_percent(times),
            "times_timm_eager": ratio(seconds["timm eager"], times),
            "times_best_of_timm": ratio(seconds[best], times),
        })
        print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description="Time inference in PyTorch beside timm's.")
    options.add_argument("--models", nargs="+", default=list(MODELS[:4]), choices=MODELS)
    options.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    options.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 16])
    options.add_argument("--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS,
                         help="beside timm eager; all of them unless given")
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--hold", action="store_true", help="wait for a line on stdin before each round")
    options.add_argument("--contend", type=json.loads, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.contend:
        contend(*chosen.contend)
        return

    fixed = {"rounds": chosen.rounds, "threads": chosen.threads, **machine_columns(),
             "command": shlex.join(["python", "benchmarks/forward.py", *sys.argv[1:]])}
    old = read(RESULTS)
    for name in chosen.models:
        for precision in chosen.precisions:
            for batch_size in chosen.batch_sizes:
                rows = [row | fixed for row in measure(name, batch_size, precision, chosen)]
                key = (name, str(batch_size), precision, fixed["processor"], fixed["instructions"])
                old = [row for row in old if (row["model"], str(row["batch_size"]), row["precision"],
                                              row["processor"], row["instructions"]) != key] + rows
                write(RESULTS, COLUMNS, old)


if __name__ == "__main__":
    main()
