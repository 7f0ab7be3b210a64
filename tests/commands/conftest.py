"""The command line run in this process, and a small trained run to use it on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from allmlp.cli import main


@pytest.fixture
def cli(capsys):
    """`cli("models")` -> (exit code, stdout, stderr)."""

    def run(*arguments: object):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def stopped():
    """`stopped(number, begun, "train", …)` -> (exit code, stderr) of a process that gets the signal once `begun()`."""

    def run(number: signal.Signals, begun: Callable[[], bool], *arguments: object, **environment: str):
        process = subprocess.Popen([sys.executable, "-m", "allmlp", *map(str, arguments)], stderr=subprocess.PIPE,
                                   text=True, env={**os.environ, "COLUMNS": "200", **environment},
                                   preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))  # despite nohup
        deadline = time.monotonic() + 60
        while not begun() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        try:
            _, err = process.communicate(timeout=180)
        finally:
            process.kill()  # does nothing to a process that has ended
        assert "Traceback" not in err
        return process.returncode, err

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run folder: four epochs on digits."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "digits", "--epochs", "4", "--output", str(folder), "--quiet", "--threads", "1"]) == 0
    return folder


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory):
    """The digits as folders of PNG files."""
    folder = tmp_path_factory.mktemp("digits") / "png"
    assert main(["data", "write", "digits", str(folder)]) == 0
    return folder
