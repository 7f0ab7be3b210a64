"""Where the numbers of a run go. Each logger is the real one; those that are not installed are skipped."""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from allmlp.errors import BadSetting, MissingPackage, UnknownName
from allmlp.train.loggers import LOGGERS, open_loggers

ABOUT: Mapping[str, Any] = {"started": "2026-01-02", "recipe": {"seed": 3}, "path": Path("x")}
ROWS = ((10, {"epoch": 1, "train_loss": 2.0, "lr": 0.1, "eval_score": None}),
        (20, {"train_loss": 1.5, "eval_score": 80}))


def log(name: str, output: Path, rows=ROWS) -> None:
    logger = open_loggers([name], output, 0, ABOUT)
    for step, row in rows:
        logger.row(row, step)
    logger.close()


def scalars(output: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(output))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_tensorboard_gets_the_known_numbers_at_their_steps(tmp_path: Path):
    log("tensorboard", tmp_path)
    assert scalars(tmp_path) == {"train_loss": [(10, 2.0), (20, 1.5)], "eval_score": [(20, 80.0)],
                                 "lr": [(10, pytest.approx(0.1))]}


def test_rows_that_a_resumed_run_computes_again_are_there_once(tmp_path: Path):
    log("tensorboard", tmp_path)
    logger = open_loggers(["tensorboard"], tmp_path, 15, ABOUT)
    logger.row({"train_loss": 1.25}, 20)
    logger.close()
    assert scalars(tmp_path)["train_loss"] == [(10, 2.0), (20, 1.25)]


def test_no_logger_and_several(tmp_path: Path):
    open_loggers([], tmp_path, 0, ABOUT).row({"lr": 1.0}, 1)
    assert list(tmp_path.iterdir()) == []
    twice = open_loggers(["tensorboard", "tensorboard"], tmp_path, 0, ABOUT)
    twice.close()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_wrong_name_and_a_missing_package_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UnknownName, match="unknown logger 'tensorbord'; did you mean tensorboard"):
        open_loggers(["tensorbord"], tmp_path, 0, ABOUT)
    monkeypatch.setitem(LOGGERS, "no_such_logger", LOGGERS["trackio"])
    with pytest.raises(MissingPackage, match="pip install no_such_logger$"):
        open_loggers(["no_such_logger"], tmp_path, 0, ABOUT)


@pytest.mark.slow
def test_wandb_without_an_account_writes_into_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    log("wandb", tmp_path)
    log("wandb", tmp_path, [(20, {"train_loss": 1.25})])  # resumed
    files = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len({file.name for file in files}) == 1  # the same run for W&B, which joins the two when they are uploaded
    content = b"".join(file.read_bytes() for file in files)
    for expected in (b"train_loss", b"eval_score", b"1.25", b'"seed":3'):
        assert expected in content.replace(b" ", b"")


@pytest.mark.slow
def test_wandb_asks_for_an_account_instead_of_waiting_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(BadSetting, match="wandb login"):
        open_loggers(["wandb"], tmp_path, 0, ABOUT)


@pytest.mark.slow
def test_trackio_writes_its_data_base_and_nothing_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio")
    log("trackio", tmp_path / "run")
    with sqlite3.connect(tmp_path / "allmlp.db") as data:
        rows = data.execute("select step, metrics from metrics order by step").fetchall()
    data.close()
    assert [(step, json.loads(row)["train_loss"]) for step, row in rows] == [(10, 2.0), (20, 1.5)]
    assert capsys.readouterr().out == ""
