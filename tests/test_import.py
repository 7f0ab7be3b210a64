"""Importing allmlp, and asking for help, is quick: nothing heavy is loaded before it is needed."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import allmlp
from allmlp.cli import parser
from allmlp.commands import COMMANDS

HEAVY = {"torch", "torchvision", "timm", "sklearn", "scipy", "matplotlib", "PIL", "numpy", "pandas", "tensorboard",
         "huggingface_hub"}  # fmt: skip
LIGHT_MODULES = ["allmlp", "allmlp.errors", "allmlp.values", "allmlp.files", "allmlp.cli", "allmlp.commands"]


def loaded_by(*arguments: str) -> set[str]:
    """The packages that a fresh Python loads when it runs with `arguments`, which must end well."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    modules = re.findall(r"^import time:[^|]*\|[^|]*\| *([\w.]+)$", done.stderr, re.MULTILINE)
    assert "site" in modules, "the report of -X importtime has another form"
    return {module.partition(".")[0] for module in modules}


def subcommands() -> list[list[str]]:
    """Every command, as its words: [], ["train"], ["data", "check"], …."""
    found, waiting = [], [([], parser())]
    while waiting:
        words, command = waiting.pop()
        found.append(words)
        for action in command._actions:
            if isinstance(action.choices, dict):  # subcommands; other choices are plain sequences
                waiting += [([*words, name], below) for name, below in action.choices.items()]
    return sorted(found)


def test_heavy_packages_are_seen_when_they_are_loaded():
    assert "numpy" in loaded_by("-c", "import allmlp.preprocess")


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_importing_loads_nothing_heavy(module: str):
    assert not loaded_by("-c", f"import {module}") & HEAVY


@pytest.mark.parametrize("words", subcommands(), ids=" ".join)
def test_help_loads_nothing_heavy(words: list[str]):
    assert not loaded_by("-m", "allmlp", *words, "--help") & HEAVY


def test_each_command_can_be_called_and_each_that_can_be_called_does_something():
    assert {words[0] for words in subcommands() if words} == set(COMMANDS)


@pytest.mark.parametrize("name", allmlp.__all__)
def test_a_public_name_gives_the_same_thing_however_often_and_wherever_it_is_asked_for(name: str):
    first = getattr(allmlp, name)
    for module in allmlp._HOME.values():
        importlib.import_module(module)
    assert getattr(allmlp, name) is first
    assert callable(first)  # all are functions and classes; a module of the same name would hide one


def test_public_names_are_the_same_for_readers_python_and_type_checkers():
    tree = ast.parse(Path(allmlp.__file__).read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))  # if TYPE_CHECKING:
    lines = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    typed = {alias.name: line.module for line in lines for alias in line.names}
    assert typed == allmlp._HOME
    assert set(allmlp.__all__) == set(allmlp._HOME)
    assert set(allmlp.__all__) < set(dir(allmlp))


def test_an_unknown_name_is_an_ordinary_attribute_error():
    with pytest.raises(AttributeError, match="module 'allmlp' has no attribute 'no_such_name'"):
        allmlp.no_such_name  # noqa: B018
