"""Ctrl-C and SIGTERM ask a run to stop after the step under way; a second one stops at once."""

import signal
import threading
import types
from collections.abc import Callable
from typing import Any, Self


class StopRequest:
    """As a context: catches SIGINT and SIGTERM. `signal` is the one that came, or None.

    Outside the main thread nothing can be caught and nothing is.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Callable[..., Any] | int | None] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: types.FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
