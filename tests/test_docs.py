"""Tables of the docs that a program of benchmarks/ makes from the rows of results/."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("program,page,rows", [
    ("engine_peers", "speed", "engine_peers"),
    ("engine_peers", "speed_zen5", "engine_peers_zen5"),
    ("exports", "export", "exports"),
])
def test_the_tables_of_the_docs_are_those_of_the_rows(program: str, page: str, rows: str):
    command = [sys.executable, ROOT / "benchmarks" / f"{program}.py", "--table"]
    if rows != program:
        command += ["--results", ROOT / "results" / f"{rows}.csv"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert made.returncode == 0, made.stderr
    docs = (ROOT / "docs" / f"{page}.md").read_text()
    for table in made.stdout.strip().split("\n\n"):
        assert table in docs, f"put what `python benchmarks/{program}.py --table` prints into docs/{page}.md"
