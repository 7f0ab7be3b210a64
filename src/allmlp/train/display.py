"""What a person sees while training: a live line on a terminal, one plain line per epoch elsewhere. Always stderr."""

import sys
import time
from typing import Any, Protocol


class Display(Protocol):
    """Something that shows a run. `row` is a row of `metrics.jsonl`."""

    def say(self, line: str) -> None: ...
    def step(self, done: int, total: int, row: dict[str, Any]) -> None: ...
    def epoch(self, done: int, total: int, row: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


def describe(row: dict[str, Any]) -> str:
    """A row in a few words: epoch, losses, accuracy, speed."""
    parts = [f"epoch {row['epoch']}"]
    if row.get("train_loss") is not None:
        parts.append(f"loss {row['train_loss']:.4f}")
    if row.get("eval_loss") is not None:
        parts.append(f"{row['eval_split']} loss {row['eval_loss']:.4f}")
    if row.get("eval_score") is not None:
        parts.append(f"{row['eval_split']} {row['score_name']} {row['eval_score']:.2f} %")
    if row.get("images_per_second"):
        parts.append(f"{row['images_per_second']:,.0f} images/s")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as 5s, 3m20s or 2h05m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


class PlainDisplay:
    """One line per epoch, at most one every `interval` seconds and always the last."""

    def __init__(self, interval: float = 2.0):
        self.interval, self.last, self.start = interval, 0.0, time.monotonic()

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def step(self, done: int, total: int, row: dict[str, Any]) -> None:
        pass

    def epoch(self, done: int, total: int, row: dict[str, Any]) -> None:
        now = time.monotonic()
        if done < total and now - self.last < self.interval:
            return
        self.last = now
        left = f"  {clock(row['seconds_left'])} left" if done < total else ""
        self.say(describe(row) + left)

    def close(self) -> None:
        pass


class SilentDisplay(PlainDisplay):
    """Shows nothing (`--quiet`, tests)."""

    def say(self, line: str) -> None:
        pass


class LiveDisplay:
    """A progress bar with the newest row, through rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.percentage:>3.0f} %"), BarColumn(bar_width=24), TextColumn("{task.description}"))
        self.progress = Progress(*columns, console=self.console, transient=True)
        self.task = self.progress.add_task("starting", total=None)
        self.progress.start()

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)

    def step(self, done: int, total: int, row: dict[str, Any]) -> None:
        text = f"{describe(row)}  {clock(row['seconds_left'])} left"
        self.progress.update(self.task, completed=done, total=total, description=text)

    def epoch(self, done: int, total: int, row: dict[str, Any]) -> None:
        if done == total:
            self.say(describe(row))

    def close(self) -> None:
        self.progress.stop()


def display_for_stderr() -> Display:
    """The live one on a terminal, plain lines elsewhere."""
    return LiveDisplay() if sys.stderr.isatty() else PlainDisplay()
