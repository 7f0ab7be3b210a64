"""Contenders that take turns: every one is a process of its own, and one of them works at a time.

A process prepares, says "ready", has a turn for each line on its stdin, and says how many seconds a call took. Ratios
are taken within a round, in which everybody has a turn.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping


def start(program: str, what: list, title: str) -> subprocess.Popen:
    """`program` as a contender, told by `--contend` with `what`; waits until it is ready."""
    process = subprocess.Popen([sys.executable, program, "--contend", json.dumps(what)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise SystemExit(f"{title} could not be prepared")
    return process


def wait_for_turns(turn: Callable[[], float]) -> None:
    """In a contender's process, once it is prepared: answer each line on stdin with the seconds of a call."""
    print("ready", flush=True)
    for _ in sys.stdin:
        print(turn(), flush=True)


def ask(process: subprocess.Popen) -> float:
    """Have a contender have its turn; the seconds of a call."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("turn\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def seconds_of(waiting: Mapping[str, subprocess.Popen], rounds: int, title: str, hold: bool) -> dict[str, list[float]]:
    """Seconds of a call by contender, one for each round; every other round goes backwards. `hold`: wait for a line on
    stdin before each."""
    seconds: dict[str, list[float]] = {contender: [] for contender in waiting}
    for number in range(rounds):
        if hold:
            input(f"{title}: round {number + 1} of {rounds} starts with a line here\n")
        for contender in list(waiting) if number % 2 == 0 else list(waiting)[::-1]:
            seconds[contender].append(ask(waiting[contender]))
    return seconds


def ratio(theirs: list[float], ours: list[float]) -> str:
    """How many times as fast as they: the median over rounds."""
    return f"{statistics.median(their / our for their, our in zip(theirs, ours, strict=True)):.3f}"


def spread_percent(times: list[float]) -> str:
    return f"{100 * (max(times) - min(times)) / statistics.median(times):.1f}"


def machine_columns() -> dict[str, str]:
    """What a row says of the machine, the versions and the day."""
    from allmlp.train.run_folder import machine

    about = machine()
    return {"processor": about["processor"], "instructions": instructions(), "torch": about["versions"]["torch"],
            "timm": about["versions"]["timm"], "commit": about["commit"], "date": time.strftime("%Y-%m-%d")}


def instructions() -> str:
    """What tells processors of one name apart: the vector instructions that PyTorch uses, and those for bf16."""
    import torch

    widest = torch.backends.cpu.get_cpu_capability()
    return f"{widest} BF16" if torch.cpu._is_avx512_bf16_supported() else widest
