"""What holds for every test: one thread, no network, and options for the slow ones."""

import os
import signal
import socket
import time

import pytest
from hypothesis import settings

# Before anything imports torch, and for the processes that tests start: networks as small as the tests' only lose by a
# second thread, and sums come out in one order on every machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

# Ctrl-C is sent to programs that tests start. A shell that starts the tests in its background has it ignored, which
# they would inherit; and only the main thread of a worker may ask for it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run: a failure elsewhere can be repeated here. No deadline: machines are shared.
settings.register_profile("allmlp", deadline=None, derandomize=True)
settings.load_profile("allmlp")

STARTED = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--budget", type=float, metavar="SECONDS", help="skip the tests whose turn comes later than this")


def pytest_runtest_setup(item: pytest.Item) -> None:
    budget = item.config.getoption("--budget")
    if budget is not None and time.monotonic() - STARTED > budget:
        pytest.skip(f"its turn came after the budget of {budget:g} s")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs CUDA")


@pytest.fixture(autouse=True)
def _offline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that is not marked `network` cannot reach any, by mistake or by a library's kindness."""
    if request.node.get_closest_marker("network"):
        return
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"  # a path: a socket on this machine
        if host not in ("localhost", "127.0.0.1", "::1"):
            self.close()
            raise AssertionError(f"a test without the marker `network` connects to {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", refuse)
