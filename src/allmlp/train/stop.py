"""Ctrl-C and SIGTERM ask a run to stop after the step under way; a second Ctrl-C stops at once.

A second SIGTERM does not: under a scheduler one comes from it and one from torchrun, and the save must not be cut off.
"""

import signal
import threading
import time
import types
from collections.abc import Callable
from typing import Any, Self

GO_ON, SAVE, TIME_LIMIT = 0, 1, 2  # wishes, by rank; a signal's is its number above these


class StopRequest:
    """As a context: catches SIGINT and SIGTERM. `signal` is the one that came, or None.

    Outside the main thread nothing can be caught and nothing is.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Callable[..., Any] | int | None] = {}

    def wish(self, spent: float, limit_minutes: float | None, saved_at: float, save_every: float) -> int:
        """What is due now: a number, so that of several processes' wishes the highest can be taken.

        `spent`: seconds so far; `saved_at`: when a state was last saved, on the monotonic clock; `save_every`: seconds.
        """
        if self.signal:
            return TIME_LIMIT + self.signal
        if limit_minutes is not None and spent > 60 * limit_minutes:
            return TIME_LIMIT
        return SAVE if time.monotonic() - saved_at > save_every else GO_ON

    @staticmethod
    def name(wish: int) -> str:
        """Why to stop, in words: "SIGTERM", "time limit"."""
        return "time limit" if wish == TIME_LIMIT else signal.Signals(wish - TIME_LIMIT).name

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: types.FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
