"""`allmlp train --devices N`: the same command in N processes of this machine, and their end as one.

torchrun does the same for several machines. Here an error stays one line, signals are passed on, and no process is left
when this one is killed: each of them listens to a pipe that closes with it.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

GRACE_SECONDS = 10.0  # for the others to end, once one has failed: they may be saying why
POLL_SECONDS = 0.05


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run `allmlp ARGUMENTS` in `count` processes; returns the exit code of the first, or of the first that was killed.

    Processes on CPUs share the cores (OMP_NUM_THREADS, where it is not set).
    """
    threads = str(max((os.cpu_count() or 1) // count, 1))
    with tempfile.TemporaryDirectory(prefix="allmlp-") as folder:
        common = {"OMP_NUM_THREADS": threads, "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
                  **os.environ, "ALLMLP_RENDEZVOUS": (Path(folder) / "rendezvous").as_uri(), "WORLD_SIZE": str(count)}
        children: list[subprocess.Popen] = []

        def pass_on(number: int, _frame: object) -> None:
            for child in children:
                child.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for rank in range(count):
                # A session of its own: Ctrl-C at a terminal reaches it through this process only, once.
                # -P: a secrets.py in the current folder is not Python's.
                children.append(subprocess.Popen(
                    [sys.executable, "-P", "-m", "allmlp", *arguments], stdin=subprocess.PIPE, start_new_session=True,
                    env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}))
            return _exit_code(children)
        finally:
            for child in children:
                child.kill()
                child.communicate()  # waits, and closes its pipe
            for number, handler in before.items():
                signal.signal(number, handler)


def _exit_code(children: Sequence[subprocess.Popen]) -> int:
    failed_at = None
    while any(child.poll() is None for child in children):
        if failed_at is None and any(child.returncode for child in children):
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() - failed_at > GRACE_SECONDS:
            break
        time.sleep(POLL_SECONDS)
    codes = [child.poll() for child in children]
    killed = next((rank for rank, code in enumerate(codes) if code is not None and code < 0), None)
    if killed is not None and codes[0] in (None, 0, codes[killed]):  # else the first has said what there is to say
        print(f"allmlp: process {killed} of {len(children)} was ended by {signal.Signals(-(codes[killed] or 0)).name}, "
              "and the others with it; what was saved last stands, go on with --resume", file=sys.stderr)
        return 1
    return codes[0] or next((code for code in codes if code), 0)
