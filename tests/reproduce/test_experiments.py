"""Every experiment, at the tests' size: the real code, to table, figure and page."""

from pathlib import Path

import pytest

from allmlp.reproduce import EXPERIMENTS, find
from allmlp.reproduce.experiment import REDUCED, Job
from allmlp.reproduce.run import run


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_to_its_page_and_then_has_nothing_left_to_do(name: str, tmp_path: Path):
    job = Job(scale="laptop", seeds=2, data=None, data_dir=None, download=False, device="cpu",
              folder=tmp_path / "out" / "work", reduced=True)
    said: list[str] = []
    first = run(find(name), job, tmp_path / "out", command=f"allmlp reproduce {name}", say=said.append)
    assert first.found == REDUCED
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "table.csv", "figure.png", "figure.svg", "index.html"}
    assert "to see that it works" in (tmp_path / "out" / "index.html").read_text()
    assert len(said) == len({(row["what"], row["seed"]) for row in first.rows})
    said.clear()
    again = run(find(name), job, tmp_path / "out", command=f"allmlp reproduce {name}", say=said.append)
    assert said == []
    assert again.rows == first.rows
    assert again.found == first.found
