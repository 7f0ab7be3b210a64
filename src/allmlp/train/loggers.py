"""Where the numbers of a run go while it trains: TensorBoard, and on demand Weights & Biases or trackio.

The run folder keeps every number in `metrics.jsonl` whatever is chosen here. All three get the same scalars under the
same names, at the optimizer step. A logger only watches: one that fails to start stops the run before its first step,
with a line that says what to do; nothing is ever logged elsewhere than asked.

    tensorboard   events.out.tfevents.* in the run folder: `tensorboard --logdir RUN`
    wandb         https://wandb.ai, or the run folder's wandb/ with WANDB_MODE=offline (no account needed)
    trackio       a local data base, shown by `trackio show` (TRACKIO_DIR says where it is)
"""

import contextlib
import hashlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from allmlp.errors import BadSetting, MissingPackage, unknown_name

PROJECT = "allmlp"
SCALARS = ("train_loss", "lr", "images_per_second", "eval_loss", "eval_score")  # of a row of the history


class Logger(Protocol):
    """Takes the rows of a run, one per epoch."""

    def row(self, row: Mapping[str, Any], step: int) -> None:
        """Log those of `SCALARS` that the row has, at an optimizer step."""
        ...

    def close(self) -> None:
        """Write down what is still in memory."""
        ...


def open_loggers(names: Sequence[str], output: Path, step: int, about: Mapping[str, Any]) -> Logger:
    """One logger that hands every row to all those in `names` (`LOGGERS`; none: rows go nowhere).

    `step`: where the run begins or goes on; later rows of an interrupted run are dropped. `about`: what describes the
    run (recipe, machine, …), shown beside the curves; with the same `about["started"]` a resumed run goes on in the
    same place. Raises `UnknownName`, `MissingPackage`, and `BadSetting` where Weights & Biases has no account.
    """
    check_loggers(names)
    return _All([LOGGERS[name](output, step, about) for name in dict.fromkeys(names)])


def check_loggers(names: Sequence[str]) -> None:
    """Raises `UnknownName` for a name that is none of `LOGGERS`, `MissingPackage` where its package is missing."""
    for name in names:
        if name not in LOGGERS:
            raise unknown_name("logger", name, LOGGERS)
        if importlib.util.find_spec(name) is None:
            raise MissingPackage(f"--logger {name} needs a package that is not installed: pip install {name}")


class _All:
    def __init__(self, loggers: Sequence[Logger]):
        self.loggers = loggers

    def row(self, row: Mapping[str, Any], step: int) -> None:
        for logger in self.loggers:
            logger.row({key: row[key] for key in SCALARS if row.get(key) is not None}, step)

    def close(self) -> None:
        for logger in self.loggers:
            logger.close()


class _TensorBoard:
    def __init__(self, output: Path, step: int, _about: Mapping[str, Any]):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(output), purge_step=step)

    def row(self, row: Mapping[str, Any], step: int) -> None:
        for key, value in row.items():
            self.writer.add_scalar(key, value, step)

    def close(self) -> None:
        self.writer.close()


class _Wandb:
    """Steps are a number of the row, not W&B's own counter, which would refuse the steps that a resume repeats."""

    def __init__(self, output: Path, step: int, about: Mapping[str, Any]):
        import wandb  # pyright: ignore[reportMissingImports]  (optional)

        if "WANDB_MODE" not in os.environ and not wandb.api.api_key:
            raise BadSetting("--logger wandb: no account of Weights & Biases is known here; run `wandb login`, or set "
                             "WANDB_MODE=offline to write into the run folder only")
        name = "-".join(output.resolve().parts[-2:])
        try:
            self.run = wandb.init(project=os.environ.get("WANDB_PROJECT", PROJECT), name=name, dir=str(output),
                                  id=_identity(output, about), resume=None if _offline() else "allow",
                                  config=_plain(about), settings=wandb.Settings(silent=True, console="off"))
        except wandb.Error as error:
            raise BadSetting(f"--logger wandb: {_first_line(error)}") from None
        self.run.define_metric("*", step_metric="step")

    def row(self, row: Mapping[str, Any], step: int) -> None:
        self.run.log({**row, "step": step})

    def close(self) -> None:
        self.run.finish()


class _Trackio:
    def __init__(self, output: Path, step: int, about: Mapping[str, Any]):
        self.trackio = importlib.import_module("trackio")
        name = f"{output.resolve().name}-{_identity(output, about)[:6]}"
        with contextlib.redirect_stdout(sys.stderr):  # it tells of itself on stdout, which is for results
            self.run = self.trackio.init(os.environ.get("TRACKIO_PROJECT", PROJECT), name, config=_plain(about),
                                         resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False)

    def row(self, row: Mapping[str, Any], step: int) -> None:
        self.run.log(dict(row), step=step)

    def close(self) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self.trackio.finish()


LOGGERS: dict[str, Callable[[Path, int, Mapping[str, Any]], Logger]] = {
    "tensorboard": _TensorBoard, "wandb": _Wandb, "trackio": _Trackio,
}


def _identity(output: Path, about: Mapping[str, Any]) -> str:
    """The same for a run and its resumption: its folder and when it was begun."""
    return hashlib.sha256(f"{output.resolve()} {about.get('started')}".encode()).hexdigest()[:16]


def _offline() -> bool:
    return os.environ.get("WANDB_MODE", "online") != "online"


def _plain(about: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(about, default=str))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
