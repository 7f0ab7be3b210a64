"""How experiments are run: what is kept, what is skipped, what is refused, and what the page and the terminal show."""

import csv
import html
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from allmlp import figures
from allmlp.cli import main
from allmlp.errors import BadSetting
from allmlp.reproduce import EXPERIMENTS, find, listed
from allmlp.reproduce.experiment import REDUCED, Arm, Experiment, Found, Job, Row
from allmlp.reproduce.run import Result, run
from allmlp.reproduce.spread import at_end, beyond, curve
from allmlp.reproduce.table import cell, heading, summary

SQUARES = {"one": 1.0, "two": 4.0, "three": 9.0}


def an_experiment(on_run: Callable[[str, int], None] = lambda what, seed: None) -> Experiment:
    """Squares with a little of the seed, and a curve of three points; `on_run` may stop an arm."""
    def single(what: str, seed: int) -> Mapping[str, Any]:
        on_run(what, seed)
        return {"square": SQUARES[what] + seed / 10, "label": f"<{what}>"}

    def points(seed: int) -> Iterator[Mapping[str, Any]]:
        on_run("curve", seed)
        yield from ({"step": step, "square": float(step**2 + seed)} for step in (1, 2, 3))

    def arms(job: Job) -> Iterator[Arm]:
        for seed in range(job.seeds):
            for what in SQUARES:
                yield Arm(what, seed, lambda what=what, seed=seed: single(what, seed))
            yield Arm("curve", seed, lambda seed=seed: points(seed))

    def figure(rows: Sequence[Row]):
        drawn, axes = figures.new(3, 2)
        axes.plot([row["square"] for row in rows])
        return drawn

    def found(rows: Sequence[Row]) -> Found:
        return Found("in part", f"The largest is {max(row['square'] for row in rows):g}.")

    return Experiment(name="squares", title="Squares & more", source="Euclid",
                      claim="Squares <grow>.\n\n`a < b` at most.", laptop="Three of them.",
                      paper="All of them.", columns=("label", "step", "square"), arms=arms, figure=figure, found=found)


def call(folder: Path, experiment: Experiment | None = None, seeds: int = 2, **options: Any) -> Result:
    job = Job("laptop", seeds, None, None, False, "cpu", folder / "work", options.pop("reduced", False))
    return run(experiment or an_experiment(), job, folder, command="allmlp reproduce squares", **options)


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "table.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("finished") / "out"
    return folder, call(folder, seeds=3)


def test_a_stopped_experiment_goes_on_where_it_was(tmp_path: Path):
    ran: list[tuple[str, int]] = []

    def stop_once(what: str, seed: int) -> None:
        if (what, seed) == ("three", 1) and ("three", 1) not in ran:
            ran.append((what, seed))
            raise KeyboardInterrupt
        ran.append((what, seed))

    with pytest.raises(KeyboardInterrupt):
        call(tmp_path, an_experiment(stop_once))
    kept = table(tmp_path)
    assert [(row["what"], row["seed"]) for row in kept] == [
        ("one", "0"), ("two", "0"), ("three", "0"), *[("curve", "0")] * 3, ("one", "1"), ("two", "1")]
    assert not (tmp_path / "index.html").exists()
    ran.clear()
    ran.append(("three", 1))
    done = call(tmp_path, an_experiment(stop_once))
    assert ran[1:] == [("three", 1), ("curve", 1)]
    assert table(tmp_path)[: len(kept)] == kept
    assert done.found == Found("in part", "The largest is 10.")
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "figure.png", "figure.svg", "index.html"}


def test_more_seeds_are_added_to_those_that_are_there(tmp_path: Path):
    call(tmp_path, seeds=1)
    ran: list[tuple[str, int]] = []
    call(tmp_path, an_experiment(lambda what, seed: ran.append((what, seed))), seeds=2)
    assert {seed for _, seed in ran} == {1}
    assert len(table(tmp_path)) == 12


def test_overwrite_begins_again_and_only_runs_some_arms(tmp_path: Path):
    call(tmp_path)
    part = call(tmp_path, overwrite=True, only="TWO")
    assert [(row["what"], row["seed"]) for row in part.rows] == [("two", 0), ("two", 1)]
    assert part.found is None
    assert part.missing == 6
    assert not (tmp_path / "index.html").exists()


def test_what_the_arms_left_for_one_another_is_cleared_when_all_are_done(tmp_path: Path):
    def leave(what: str, seed: int) -> None:
        (tmp_path / "work" / f"{what}{seed}").write_text("kept")

    call(tmp_path, an_experiment(leave), only="one")
    assert (tmp_path / "work" / "one0").exists()
    call(tmp_path, an_experiment(leave))
    assert not (tmp_path / "work").exists()


def test_rows_are_the_same_fresh_and_read_again(finished: tuple[Path, Result]):
    folder, first = finished
    again = call(folder, seeds=3)
    assert first.rows == again.rows
    assert again.rows[0]["square"] == 1
    assert again.rows[0]["step"] is None
    assert again.rows[3]["step"] == 1


@pytest.mark.parametrize("make, message", [
    (lambda folder: (folder / "mine.txt").write_text("precious"), "holds something else"),
    (lambda folder: (folder / "table.csv").write_bytes(b"\xff\x00\xfe"), "is not a table of `allmlp reproduce`"),
    (lambda folder: (folder / "table.csv").write_text("a,b\n1,2\n"), "is the table of something else"),
    (lambda folder: (folder / "table.csv").write_text("experiment,scale\n'x\x1b',laptop\n"), "is the table of"),
    (lambda folder: (folder / "table.csv").write_text("experiment,scale\nsquares,paper\n"), "begun at scale 'paper'"),
    (lambda folder: (folder / "table.csv").write_text("experiment,scale\nsquares,laptop\n"), "has other columns"),
    (lambda folder: (folder / "table.csv").write_text("experiment,scale\nsquares,laptop,more\n"), "is not a table"),
])
def test_a_folder_of_something_else_is_refused_and_left_alone(make, message: str, tmp_path: Path):
    make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(BadSetting, match=message) as error:
        call(tmp_path)
    assert str(error.value).isprintable()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_rows_of_the_tests_size_never_mix_with_real_ones(tmp_path: Path):
    call(tmp_path, reduced=True)
    with pytest.raises(BadSetting, match="begun at scale 'laptop, reduced', not 'laptop'"):
        call(tmp_path)


def test_a_name_that_no_arm_has_is_refused_with_the_names(tmp_path: Path):
    with pytest.raises(BadSetting, match="no arm's name contains it; they are one; two; three; curve"):
        call(tmp_path, only="four")


def test_the_summary_has_mean_and_deviation_over_seeds_and_the_end_of_a_curve(finished: tuple[Path, Result]):
    rows = finished[1].rows
    lines = {line[0]: line[1:] for line in summary(("label", "step", "square"), rows)}
    mean, spread = statistics.fmean([4.0, 4.1, 4.2]), statistics.stdev([4.0, 4.1, 4.2])
    assert lines["two"] == ["3", "<two>", "–", f"{mean:.2f} ± {spread:.2f}"]
    assert lines["curve"] == ["3", "–", "3", "10.00 ± 1.00"]
    assert len(summary(("square",), rows, ends=False)) == 6


@pytest.mark.parametrize("values, shown", [
    ([None, None], "–"), ([3, 3], "3"), ([84746], "84,746"), (["a", "a"], "a"), (["a", "b"], "…"),
    ([4.4e-16, 4.4e-16], "4.4e-16"), ([1.0, None, 3.0], "2.00 ± 1.41"),
])
def test_a_cell_says_what_the_seeds_say(values: list, shown: str):
    assert cell(values) == shown


def test_columns_have_their_unit_in_the_heading():
    assert heading("test_accuracy_percent") == "test accuracy, %"
    assert heading("what") == "what"


def test_a_difference_counts_when_it_is_more_than_the_spread():
    assert beyond([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]) == -1
    assert beyond([4.0, 5.0, 6.0], [1.0, 2.0, 3.0]) == 1
    assert beyond([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]) == 0


def test_curves_and_ends_are_read_off_the_rows(finished: tuple[Path, Result]):
    rows = finished[1].rows
    step, mean, deviation = curve(rows, "curve", "step", "square")
    assert step.tolist() == [1, 2, 3]
    assert mean.tolist() == [2, 5, 10]
    assert deviation.tolist() == [1, 1, 1]
    assert at_end(rows, "curve", "square") == [9, 10, 11]


def test_the_page_says_claim_verdict_scale_and_command_and_loads_nothing(finished: tuple[Path, Result]):
    page = (finished[0] / "index.html").read_text()
    for text in ("Squares &amp; more", "Squares &lt;grow&gt;.", "In part", "The largest is 11.", "Three of them.",
                 "All of them.", "allmlp reproduce squares", "&lt;two&gt;", "data:image/svg+xml;base64,", "Euclid"):
        assert text in page, text
    assert "default-src 'none'" in html.unescape(page)
    assert "http" not in page.replace("http-equiv", "").partition("base64,")[0]
    assert "<code>a &lt; b</code> at most." in page
    assert "`" not in page.partition("base64,")[0]
    assert 'class="banner"' not in page


def test_a_page_of_the_tests_size_has_a_banner_and_no_verdict(tmp_path: Path):
    assert call(tmp_path, reduced=True).found == REDUCED
    page = (tmp_path / "index.html").read_text()
    assert '<p class="banner">Reduced: a few steps of everything, to see that it works; no result.</p>' in page
    for text in ('class="verdict"', "In part", "The largest is"):
        assert text not in page, text


@pytest.mark.parametrize("arguments, message", [
    ([], "--scale paper needs --data"),
    (["--data", "imagenet:nowhere"], "nowhere"),
])
def test_at_paper_scale_wrong_data_is_refused_before_anything_runs_or_is_cleared(arguments, message, capsys,
                                                                                 tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "reproduced" / "permutation-paper" / "table.csv"
    kept.parent.mkdir(parents=True)
    kept.write_text("rows of an earlier call")
    assert main(["reproduce", "permutation", "--scale", "paper", "--overwrite", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert message in error[0]
    assert kept.read_text() == "rows of an earlier call"
    assert list(tmp_path.rglob("*.*")) == [kept]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_list_says_what_the_experiments_say(capsys):
    assert main(["reproduce", "--list", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["title"], row["source"]) for row in shown] == listed()
    assert [(found.name, found.title, found.source) for found in map(find, EXPERIMENTS)] == listed()


@pytest.mark.parametrize("arguments, message", [
    (["permutations"], "unknown experiment 'permutations'; did you mean permutation"),
    ([], "give the name of an experiment"),
    (["permutation", "--list"], "--list shows all experiments; leave out 'permutation'"),
    (["permutation", "--scale", "desk"], "invalid choice: 'desk'"),
    (["permutation", "--scale", "paper"], "--scale paper needs --data"),
    (["permutation", "--data-dir", "sets"], "--data-dir says how DATA is opened; give --data too"),
    (["permutation", "--scale", "paper", "--download"], "--download says how DATA is opened; give --data too"),
    (["permutation", "--only", "nothing"], "no arm's name contains it"),
    (["permutation", "--device", "tpu"], "device 'tpu' is not available here"),
    (["permutation", "--output", "pyproject.toml"], "is a file; give a folder"),
])
def test_a_mistake_is_one_line(arguments: list[str], message: str, capsys, tmp_path: Path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1]


@pytest.mark.parametrize("overwrite, again", [([], "the same command goes on"),
                                              (["--overwrite"], "the same command without --overwrite goes on")])
def test_a_stopped_command_says_how_to_go_on(overwrite: list[str], again: str, capsys, tmp_path: Path, monkeypatch):
    def stop(what: str, seed: int) -> None:
        if what == "two":
            raise KeyboardInterrupt

    monkeypatch.setattr("allmlp.commands.reproduce.find", lambda name: an_experiment(stop))
    assert main(["reproduce", "squares", "--output", str(tmp_path / "out"), *overwrite]) == 130
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"allmlp: stopped; arms that are done are kept in {tmp_path / 'out'}; {again}")
    assert [(row["what"], row["seed"]) for row in table(tmp_path / "out")] == [("one", "0")]
