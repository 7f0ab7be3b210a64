"""Runs side by side: what is read from their folders, how they are grouped, and the page."""

import csv
import io
import json
import statistics
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from allmlp.cli import main
from allmlp.errors import AllMLPError
from allmlp.recipe import Optimizer, Recipe
from allmlp.report.compare_page import COLOURS, render_comparison
from allmlp.report.compare_runs import differences, grouped, mean_and_spread, read_run
from allmlp.train.run_folder import write_history, write_json

HOSTILE = "<script>alert('x')</script>&amp;\""
RECIPE = Recipe(name="digits", model="mixer_p2_8")


def write_run(folder: Path, recipe: Recipe = RECIPE, test: float | None = 90.0, epochs: int = 3, **about: Any) -> str:
    """A run folder in the files that a run writes; without `test`, one that is still running."""
    folder.mkdir()
    (folder / "recipe.json").write_text(recipe.to_json(indent=2), encoding="utf-8")
    write_json(folder / "run.json", {"data": recipe.data, "device": "cpu", "source": {"data": "digits"},
                                     "machine": {"processor": "8086", "commit": "abc123"}, **about})
    write_history(folder, [{"epoch": i + 1, "train_loss": 2 / (i + 1), "eval_loss": 3 / (i + 1), "eval_score": 80.0 + i,
                            "score_name": "accuracy", "seconds": 2.0 * (i + 1)} for i in range(epochs)])
    if test is not None:
        write_json(folder / "results.json", {"parameters": 1234, "macs": 5_000_000, "seconds": 61.0, "stopped": None,
                                             "finished_by": "schedule",
                                             "splits": {"test": {"score_name": "accuracy", "score_percent": test}}})
    return str(folder)


def parsed(page: str) -> ElementTree.Element:
    """The page is well-formed, and so can be read strictly."""
    return ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))


def text_of(page: str) -> str:
    return " ".join(" ".join(text.split()) for text in parsed(page).find("body").itertext())  # type: ignore[union-attr]


def test_runs_that_differ_in_the_seed_only_are_one_group(tmp_path: Path):
    tests = (90.0, 92.0, 97.0)
    same = [write_run(tmp_path / f"mixer-seed{seed}", RECIPE.with_(seed=seed), test) for seed, test in enumerate(tests)]
    other = write_run(tmp_path / "fast", RECIPE.with_(optimizer=Optimizer(learning_rate=0.5)), 80.0)
    groups = grouped([read_run(folder) for folder in (*same[:2], other, same[2])])
    assert [(group.label, len(group.runs)) for group in groups] == [("mixer", 3), ("fast", 1)]
    assert mean_and_spread(groups[0].numbers("test")) == (statistics.fmean(tests), statistics.stdev(tests))
    assert mean_and_spread(groups[1].numbers("test")) == (80.0, None)
    assert differences(groups) == {"optimizer.learning_rate": [1e-3, 0.5]}
    text = text_of(render_comparison(groups))
    for expected in ("4 runs of 2 recipes", "mixer 3 93.00 ± 3.61 %", "fast 1 80.00 %", "optimizer.learning_ rate",
                     "0.001 0.5", "1.23 k", "5.00 M", "1 min 1 s", "8086 · cpu", "abc123"):
        assert expected in text, expected


def test_the_same_recipe_on_other_data_is_another_group(tmp_path: Path):
    one, two = write_run(tmp_path / "a"), write_run(tmp_path / "b", source={"data": "/elsewhere"})
    groups = grouped([read_run(one), read_run(two)])
    assert differences(groups) == {"source": ["digits", "/elsewhere"]}


def test_a_setting_that_an_older_run_does_not_have_is_its_default(tmp_path: Path):
    new, old = write_run(tmp_path / "new"), write_run(tmp_path / "old")
    recipe = json.loads((tmp_path / "old" / "recipe.json").read_text())
    del recipe["optimizer"]["clip_norm"]
    write_json(tmp_path / "old" / "recipe.json", recipe)
    assert len(grouped([read_run(new), read_run(old)])) == 1
    write_json(tmp_path / "old" / "recipe.json", {**recipe, "gone": 1})
    assert "gone" in differences(grouped([read_run(new), read_run(old)]))


def test_every_run_is_a_line_in_the_colour_of_its_group(tmp_path: Path):
    runs = [read_run(write_run(tmp_path / f"r{i}", RECIPE.with_(seed=i % 2, batch_size=i // 2 + 1))) for i in range(6)]
    page = parsed(render_comparison(grouped(runs)))
    lines = [element.get("class", "") for element in page.iter("polyline")]
    assert lines == [f"line g{group}" for group in (0, 0, 1, 1, 2, 2)] * 3  # training loss, evaluation loss and score


def test_more_groups_than_colours_are_dashed(tmp_path: Path):
    runs = [read_run(write_run(tmp_path / f"r{i}", RECIPE.with_(batch_size=i + 1))) for i in range(len(COLOURS) + 1)]
    page = render_comparison(grouped(runs))
    assert page.count("stroke-dasharray: 5 4") == 1
    parsed(page)


def test_a_run_that_is_not_finished_is_shown_with_what_there_is(tmp_path: Path):
    running, fresh = write_run(tmp_path / "running", test=None), write_run(tmp_path / "fresh", test=None, epochs=0)
    with (tmp_path / "running" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "train')  # being written just now
    text = text_of(render_comparison(grouped([read_run(running)])))
    assert "not finished" in text
    assert "6 s" in text
    assert "What differs" not in text
    assert "Curves" not in text_of(render_comparison(grouped([read_run(fresh)])))


def test_the_page_loads_nothing_and_text_from_outside_is_escaped(tmp_path: Path):
    runs = [write_run(tmp_path / HOSTILE.replace("/", "_"), RECIPE.with_(init=HOSTILE), machine={"processor": HOSTILE}),
            write_run(tmp_path / "b", commit=HOSTILE, source={"data": HOSTILE})]
    page = render_comparison(grouped([read_run(folder) for folder in runs]))
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    policies = [meta.get("content", "") for meta in parsed(page).iter("meta") if meta.get("http-equiv")]
    assert [policy.startswith("default-src 'none'") for policy in policies] == [True]
    tags = {element.tag for element in parsed(page).iter()}
    assert not tags & {"script", "link", "iframe", "object", "img"}


@pytest.mark.parametrize(("file", "text"), [
    ("recipe.json", "[1]"), ("recipe.json", "{"), ("run.json", "null"), ("results.json", "3"),
    ("metrics.jsonl", '{"epoch": 1}\nno\n{"epoch": 2}\n'), ("run.json", None),
])
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, file: str, text: str | None):
    folder = write_run(tmp_path / "run")
    (tmp_path / "run" / file).unlink()
    if text is not None:
        (tmp_path / "run" / file).write_text(text)
    with pytest.raises(AllMLPError, match=file) as error:
        read_run(folder)
    assert "\n" not in str(error.value)


def report(*arguments: str) -> int:
    return main(["report", *arguments])


def test_the_command_writes_the_page_and_prints_text_csv_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = [write_run(tmp_path / f"a{seed}", RECIPE.with_(seed=seed), 90 + seed) for seed in range(2)]
    runs.append(write_run(tmp_path / "b", RECIPE.with_(batch_size=7), 50))
    page = str(tmp_path / "page.html")
    assert report(*runs, "--output", page) == 0
    assert "a  test 90.50 ± 0.71 % (2 seeds)" in capsys.readouterr().out
    assert report(*runs, "--output", page, "--overwrite", "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["group"], row["seed"], row["test_percent"], row["batch_size"]) for row in rows] == [
        ("a", "0", "90.0", "128"), ("a", "1", "91.0", "128"), ("b", "0", "50.0", "7")]
    assert report(*runs, runs[0], "--output", page, "--overwrite", "--json") == 0  # a run named twice counts once
    found = json.loads(capsys.readouterr().out)
    assert found["differences"] == {"batch_size": [128, 7]}
    assert [len(group["runs"]) for group in found["groups"]] == [2, 1]
    assert found["groups"][0]["scores"]["test"]["mean"] == 90.5
    parsed(Path(page).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "RUN"), (["nowhere"], "not a run folder"), (["run", "--output", "."], "is a folder"),
    (["run", "--output", "there.html"], "--overwrite"), (["run", "--csv", "--json"], "give one of them"),
    (["run", "--output", "there.html", "--overwrite"], "is no page"),
])
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run")
    (tmp_path / "there.html").write_text("mine")
    assert report(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert (tmp_path / "there.html").read_text() == "mine"
