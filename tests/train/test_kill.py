"""`kill -9` at random moments changes nothing; `benchmarks/kill_test.py --kills 20` is the whole of it."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_test.py"


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "kills"), [(1, 3), (2, 2)])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(devices, kills):
    command = [sys.executable, SCRIPT, "--kills", str(kills), "--devices", str(devices), "--no-results"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=290)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "identical\n"
