"""SIGTERM, as from `timeout` or a scheduler, ends a command as Ctrl-C does: what it had begun to write is removed."""

import contextlib
import signal
import threading
import types
from collections.abc import Iterator


@contextlib.contextmanager
def cleanly_ended() -> Iterator[None]:
    """For a command, as a decorator: exit code 143. Outside the main thread nothing can be caught and nothing is."""
    def end(number: int, _frame: types.FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
