"""SIGTERM, as from `timeout` or a scheduler, and SIGHUP, as from a terminal that is closed, end a command as Ctrl-C
does: what it had begun to write is removed."""

import contextlib
import signal
import threading
import types
from collections.abc import Iterator


@contextlib.contextmanager
def cleanly_ended() -> Iterator[None]:
    """For a command, as a decorator: exit code 143 or 129. What is ignored stays so, as `nohup` wants it. Outside the
    main thread nothing can be caught and nothing is."""
    def end(number: int, _frame: types.FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in signals}
    for number in signals:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number in signals:
            signal.signal(number, before[number])
