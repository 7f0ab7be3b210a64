"""What README.md says is true: its commands and examples run, from top to bottom, as a reader would run them.

Commands that set the machine up (`make`, `pip install`, …) are not run; that they name what exists is checked instead.
To keep it quick, a training that does not say for how long runs for 2 epochs. A block that cannot be run here begins
with ```` ```bash no-test ````.
"""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from allmlp.cli import parser
from allmlp.models.variants import VARIANTS
from allmlp.train.run_folder import RUN_FILES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SET_UP = re.compile(r"(make|git clone|cd|python3 -m venv|source|pip install|pytest)\b")
LINES = [line for language, text in BLOCKS if language == "bash" for line in text.splitlines() if line.strip()]
SHOWN = re.findall(r"^allmlp (\S+)", README, re.MULTILINE)  # in blocks that are not run too: `serve` never ends
EPOCHS = "2"


def as_run(line: str) -> str:
    """A command of the README as the test runs it: nothing for set-up, short training."""
    if SET_UP.match(line):
        return ""
    is_long = line.startswith("allmlp train ") and not re.search(r"--(epochs|resume|show-recipe)\b", line)
    return line.replace("allmlp train ", f"allmlp train --epochs {EPOCHS} ", 1) if is_long else line


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_commands_and_examples_run_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    ran = 0
    for language, text in BLOCKS:
        if language == "python":
            pieces = [[sys.executable, "-W", "error", "-c", text]]
        else:
            pieces = [["bash", "-c", line] for line in map(as_run, text.splitlines()) if line.strip()]
        for piece in pieces:
            done = subprocess.run(piece, cwd=tmp_path, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{piece[-1]}\nends with {done.returncode}:\n{done.stdout}{done.stderr}"
            ran += 1
    assert ran >= 10


def test_every_command_is_shown():
    assert set(SHOWN) >= set(parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("allmlp ")])
def test_the_command_line_understands(line: str):
    parser().parse_args(shlex.split(line.partition(">")[0], comments=True)[1:])


def test_set_up_commands_name_what_is_there():
    set_up = [line.partition("#")[0] for line in LINES if SET_UP.match(line)]
    targets = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    made = {line.split()[1] for line in set_up if line.startswith("make ")}
    assert {"demo", "test"} <= made <= set(targets[1].split())
    installs = " ".join(line for line in set_up if line.startswith("pip install"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name for group in re.findall(r"\.\[([\w,]+)\]", installs) for name in group.split(",")}
    assert set() < extras <= project["optional-dependencies"].keys()
    files = re.findall(r"-c (\S+)", installs)
    assert [(ROOT / file).is_file() for file in files] == [True]


def test_set_up_and_long_training_are_told_from_the_rest():
    assert as_run("make demo   # it") == as_run('pip install -e ".[dev]"') == ""
    assert as_run("allmlp train x --model y") == f"allmlp train --epochs {EPOCHS} x --model y"
    for line in ("allmlp train x --epochs 3", "allmlp train --resume x", "allmlp evaluate x y"):
        assert as_run(line) == line


def test_all_networks_are_listed_and_no_others():
    named = re.findall(r"`((?:mixer|resmlp|gmlp|gmixer)_\w+)`", README.partition("## Networks")[2])
    assert sorted(named) == sorted(VARIANTS)


def test_all_files_of_a_run_are_explained():
    section = README.partition("## Where results are")[2].partition("\n## ")[0]
    explained = set(re.findall(r"`([\w.…]+)`", section))
    listed = {"events…" if name.startswith("events") else name for name in RUN_FILES}
    assert listed - {"state.safetensors"} <= explained


def test_links_lead_to_files_that_exist():
    links = re.findall(r"\]\(([^)]+)\)", README)
    for link in links:
        assert link.startswith("https://") or (ROOT / link).is_file(), link
