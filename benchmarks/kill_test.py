"""Does a run that is killed again and again end as one that was not, bit for bit?

    python benchmarks/kill_test.py [--kills 20] [--devices 1] [--seed 0] [--no-results]

A run on scikit-learn's digits, with everything that is random switched on and a save after every step, is started with
the command line, ended by `kill -9` at a random moment, and resumed, until it has been killed `--kills` times; then it
may finish. One moment in five is drawn from the first seconds, when it starts and opens its files; the others come
after 2 to 15 steps, drawn too: half of them up to half a second later, when it trains, measures and writes in turn,
half within 5 ms of the beginning of a write, most often of a checkpoint. What it was doing is read off what it left: a
temporary file is a write that was cut short. The run it must equal is never killed, and saves once a minute. With
`--devices N` one of N processes, drawn at random, is killed, and the others must end by themselves.

Compared are the bytes of every tensor of state, best and last checkpoint (weights, average, moments), what the
checkpoints say of themselves, and the rows of the history except for what clocks decide. Exit code 1 where they differ.
A row goes to results/kill_test.csv, beside those of other numbers of processes.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from allmlp.files import load_tensors
from allmlp.train.run_folder import machine
from rows import read, write

RESULTS = Path(__file__).parent.parent / "results" / "kill_test.csv"
COLUMNS = ("devices", "kills", "while_starting", "while_training", "while_saving", "cut_short", "resumed_at_steps",
           "steps", "epochs", "identical", "seconds", "seed", "processor", "torch", "commit", "date", "command")
STEPS_PER_EPOCH = 12  # of the recipe below, on 1,437 images
RECIPE = ["--model", "mixer_p2_8", "--batch-size", "128", "--seed", "3", "--val-fraction", "0.2",
          "--set", "augment.mixup=0.2", "--set", "augment.cutmix=1.0", "--set", "gradient_accumulation=2",
          "--set", "stochastic_depth=0.1", "--set", "ema_decay=0.9"]
WAIT_SECONDS = 300.0  # for a run that should start, or end


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-results", action="store_true")
    options = parser.parse_args()
    draws, started = random.Random(options.seed), time.monotonic()
    epochs = 1 + options.kills  # more steps than are taken between the kills, most often
    with tempfile.TemporaryDirectory() as folder:
        killed, whole = Path(folder) / "killed", Path(folder) / "whole"
        phases, left, resumed_at = Counter(), Counter(), []
        while sum(phases.values()) < options.kills:
            begun = (killed / "recipe.json").exists()
            phase, tail = kill_once(killed, begun, epochs, options.devices, draws)
            if phase == "finished":
                print(f"the run was over after {sum(phases.values())} kills; nothing is shown by that", file=sys.stderr)
                return 1
            phases[phase] += 1
            left.update(tail)
            resumed_at.append(step_of(killed))
            print(f"kill {sum(phases.values())}: {phase} {' '.join(tail)} step {resumed_at[-1]}", file=sys.stderr)
        finish(["--resume", str(killed), "--devices", str(options.devices)])
        finish(new(whole, epochs, options.devices))
        different = differences(killed, whole)
    print("identical" if not different else "different: " + ", ".join(different))
    if not options.no_results:
        about = machine()
        write_row({
            "devices": options.devices, "kills": options.kills, "while_starting": phases["starting"],
            "while_training": phases["training"], "while_saving": phases["saving"],
            "cut_short": " ".join(f"{name}:{count}" for name, count in sorted(left.items())),
            "resumed_at_steps": " ".join(map(str, resumed_at)), "steps": epochs * STEPS_PER_EPOCH, "epochs": epochs,
            "identical": not different, "seconds": round(time.monotonic() - started), "seed": options.seed,
            "processor": about["processor"], "torch": about["versions"]["torch"], "commit": about["commit"],
            "date": time.strftime("%Y-%m-%d"), "command": " ".join(["python benchmarks/kill_test.py", *sys.argv[1:]]),
        })  # fmt: skip
    return 1 if different else 0


def command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "allmlp", "train", *arguments, "--threads", "1", "--quiet", "--device", "cpu"]


def new(output: Path, epochs: int, devices: int) -> list[str]:
    return ["digits", "--output", str(output), "--epochs", str(epochs), "--devices", str(devices), *RECIPE]


def kill_once(output: Path, begun: bool, epochs: int, devices: int, draws: random.Random) -> tuple[str, list[str]]:
    """Start or resume the run, kill it; returns what it was doing and the writes that were cut short."""
    arguments = ["--resume", str(output), "--devices", str(devices)] if begun else new(output, epochs, devices)
    before, begun_at = state_written(output), time.monotonic()
    process = subprocess.Popen(command([*arguments, "--save-every", "0"]), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    saves = 0 if draws.random() < 0.2 else draws.randint(2, 15)
    seen = before
    while saves and process.poll() is None:
        if state_written(output) != seen:
            seen, saves = state_written(output), saves - 1
        if time.monotonic() - begun_at > WAIT_SECONDS:
            raise SystemExit("the run does not come to its first saves")
        time.sleep(0.0005)
    if seen == before:
        time.sleep(draws.uniform(0, 5))
    elif draws.random() < 0.5:  # aim at a write
        name = draws.choice(["last", "state", "best", ""])
        until = time.monotonic() + 1
        while not list(output.glob(f".{name}*.tmp")) and time.monotonic() < until:
            pass
        time.sleep(draws.uniform(0, 0.005))
    else:
        time.sleep(draws.uniform(0, 0.5))
    started = state_written(output) != before
    victims = children_of(process.pid) if devices > 1 else []
    os.kill(draws.choice(victims) if victims else process.pid, signal.SIGKILL)
    if process.wait(WAIT_SECONDS) == 0:
        return "finished", []
    cut_short = [path.name[1:].split(".")[0] for path in output.glob(".*.tmp")]
    if not started:
        return "starting", []  # what lies there is of the kill before
    return ("saving", cut_short) if cut_short else ("training", [])


def state_written(output: Path) -> int | None:
    """When the state was written last, in nanoseconds."""
    try:
        return (output / "state.safetensors").stat().st_mtime_ns
    except OSError:
        return None


def children_of(process: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def step_of(output: Path) -> int:
    """The step that the run will go on from. The state must be whole at any time."""
    if not (output / "state.safetensors").exists():
        return 0
    return json.loads(load_tensors(output / "state.safetensors")[1]["allmlp-run"])["step"]


def finish(arguments: list[str]) -> None:
    subprocess.run(command(arguments), check=True, stdout=subprocess.DEVNULL)


def differences(killed: Path, whole: Path) -> list[str]:
    """What is not the same in two runs."""
    found = []
    for name in ("state", "best", "last"):
        (ours, about), (theirs, other_about) = (load_tensors(run / f"{name}.safetensors") for run in (killed, whole))
        found += [f"{name}: {key}" for key in ours.keys() ^ theirs.keys()]
        found += [f"{name}: {key}" for key in ours.keys() & theirs.keys()
                  if ours[key].numpy().tobytes() != theirs[key].numpy().tobytes()]
        if name != "state" and about != other_about:
            found.append(f"{name}: what it says of itself")
    if history(killed) != history(whole):
        found.append("metrics.jsonl")
    return found


def history(run: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")} for row in rows]


def write_row(row: dict) -> None:
    """In place of an earlier row of its kind."""
    write(RESULTS, COLUMNS, [*(old for old in read(RESULTS) if old["devices"] != str(row["devices"])), row])


if __name__ == "__main__":
    sys.exit(main())
