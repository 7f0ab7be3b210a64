"""Real processes, started by the command line: they come to what one comes to, and end together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allmlp.errors import BadSetting
from allmlp.files import load_tensors
from allmlp.recipe import Recipe
from allmlp.train.distributed import ALONE
from allmlp.train.engine import Engine

TOLERANCE = 1e-6  # float32 sums in another order, through 30 steps of SGD; Adam divides noise by noise
RECIPE = ("--batch-size", "100", "--seed", "3", "--set", "optimizer.name=sgd", "--set", "optimizer.learning_rate=0.05",
          "--set", "augment.mixup=0.2", "--set", "augment.cutmix=1.0", "--set", "gradient_accumulation=2",
          "--set", "stochastic_depth=0.1", "--set", "ema_decay=0.9")
ENDLESS = ("--epochs", "100000", "--save-every", "0.2", *RECIPE)


def test_sharding_needs_several_processes():
    with pytest.raises(BadSetting, match="--devices N or torchrun"):
        Engine(sharding="fsdp").check(Recipe(name="any", model="mixer_p2_8"), ALONE)


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "allmlp", "train", *map(str, arguments)]
    return subprocess.Popen([*command, "--quiet", "--device", "cpu", "--threads", "1"], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and what stands on stderr."""
    process = start(*arguments)
    _, said = process.communicate(timeout=240)
    return process.returncode, said


def difference(one: Path, other: Path) -> float:
    """The largest of weights, averages, moments and losses."""
    ours, theirs = (load_tensors(folder / "state.safetensors")[0] for folder in (one, other))
    rows = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            for folder in (one, other)]
    losses = [abs(mine[key] - yours[key]) for mine, yours in zip(*rows, strict=True)
              for key in ("train_loss", "eval_loss")]
    return max(losses + [(ours[name] - theirs[name]).abs().max().item() for name in ours])


def alive(process: str) -> bool:
    """Whether it runs; one that ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_state(folder: Path) -> None:
    until = time.monotonic() + 120
    while not (folder / "state.safetensors").exists():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert run("digits", "--epochs", 2, "--output", folder, *RECIPE) == (0, "")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("how", [(), ("--sharding", "fsdp", "--activation-checkpointing")], ids=["DDP", "FSDP"])
def test_two_processes_come_to_what_one_comes_to(tmp_path, alone, how):
    assert run("digits", "--epochs", 2, "--output", tmp_path / "run", "--devices", 2, *RECIPE, *how) == (0, "")
    assert difference(tmp_path / "run", alone) < TOLERANCE
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes_and_another_sharding(tmp_path, alone):
    code, _ = run("digits", "--epochs", 2, "--output", tmp_path / "run", *RECIPE, "--time-limit", 1e-6)
    assert code == 0
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 0  # inside the first epoch
    code, said = run("--resume", tmp_path / "run", "--devices", 3, "--sharding", "fsdp", "--time-limit", 1e-6)
    assert (code, said.count("\n")) == (0, 1)
    assert run("--resume", tmp_path / "run", "--devices", 2)[0] == 0
    assert difference(tmp_path / "run", alone) < TOLERANCE


@pytest.mark.slow
def test_an_error_in_one_process_ends_all_with_one_line_that_says_how_to_go_on(tmp_path):
    """A picture is broken that the second process reads, after the run began."""
    draws = np.random.default_rng(0)
    for i in range(60):
        path = tmp_path / "data" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    process = start(tmp_path / "data", "--model", "mixer_p2_8", "--output", tmp_path / "run", "--devices", 2, *ENDLESS,
                    "--set", "augment.random_erasing=0.5")  # random, so that images are read again and again
    wait_for_state(tmp_path / "run")
    for path in (tmp_path / "data").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.count("\n") == 1
    assert f"go on with: allmlp train --resume {tmp_path / 'run'}" in said
    assert "--skip-bad --overwrite" in said


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1], ids=["first", "second"])
def test_a_process_that_is_killed_ends_the_others_and_the_run_can_go_on(tmp_path, victim):
    process = start("digits", "--output", tmp_path / "run", "--devices", 2, *ENDLESS)
    wait_for_state(tmp_path / "run")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[victim]), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.count("\n") == 1
    assert "--resume" in said
    assert not any(map(alive, children))
    assert run("--resume", tmp_path / "run", "--time-limit", 1e-6)[0] == 0


@pytest.mark.slow
def test_a_scheduler_that_ends_the_run_gets_it_saved_and_143(tmp_path):
    process = start("digits", "--output", tmp_path / "run", "--devices", 2, *ENDLESS)
    wait_for_state(tmp_path / "run")
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said.startswith("stopped by SIGTERM after step")
    assert said.count("\n") == 1


@pytest.mark.slow
def test_no_process_is_left_when_the_one_that_started_them_is_killed(tmp_path):
    process = start("digits", "--output", tmp_path / "run", "--devices", 2, *ENDLESS)
    wait_for_state(tmp_path / "run")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.communicate(timeout=60)
    until = time.monotonic() + 10
    while any(map(alive, children)):
        assert time.monotonic() < until
        time.sleep(0.05)
