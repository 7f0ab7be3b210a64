"""The import order that docs/architecture.md writes down, and what files may be called and how long they may be.

Every import counts: at the top, inside a function, and for type checkers only.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "allmlp"
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LEVELS = DOCUMENT.partition("## Import order")[2].partition("```\n")[2].partition("```")[0]
LEVEL = {name: number for number, line in enumerate(LEVELS.splitlines())
         for name in line.partition("#")[0].replace(",", " ").split()}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")  # that one is lazy and free
PYTHON_FILES = [path for folder in ("src", "tests", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")]
NAMELESS = {"utils", "util", "helpers", "helper", "common", "manager", "base", "core", "misc"}
MAX_LINES = 400


def imports(source: str, package: str) -> Iterator[str]:
    """What `source`, a module of `package` ("allmlp.data"), imports from allmlp: "data", "recipe", ….

    From `allmlp` itself only the version is left out; its lazy names hide where they come from and so are refused.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names if alias.name != "allmlp"]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            modules = [f"{origin}.{alias.name}" for alias in node.names if alias.name != "__version__"]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "allmlp":
            modules = [f"allmlp.{node.attr}"] if node.attr != "__version__" else []
        else:
            continue
        yield from (module.split(".")[1] for module in modules if module.startswith("allmlp."))


def top_name(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_the_import_order_is_found_in_the_document():
    assert LEVEL["errors"] < LEVEL["models"] < LEVEL["recipe"] == LEVEL["weights"] < LEVEL["train"] < LEVEL["cli"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_levels_above_its_own(path: Path):
    here = top_name(path)
    assert here in LEVEL, f"{here} belongs to no level; give it one, here and in docs/architecture.md"
    package = ".".join(["allmlp", *path.parent.relative_to(PACKAGE).parts])
    for name in imports(path.read_text(encoding="utf-8"), package):
        assert name in LEVEL, f"{path}: allmlp.{name} is no module; import a name from the module that has it"
        assert name == here or LEVEL[name] < LEVEL[here], f"{path}: {here} must not import {name}"


@pytest.mark.parametrize("source", [
    "import allmlp.train", "from allmlp import train", "from allmlp.train import run", "from ..train import run",
    "from .. import train", "import allmlp.train.loop as loop", "import allmlp\nallmlp.train.run()",
    "def f():\n    from allmlp.train import run", "if TYPE_CHECKING:\n    import allmlp.train.loop as loop",
])  # fmt: skip
def test_each_way_of_importing_is_seen(source: str):
    assert set(imports(source, "allmlp.data")) == {"train"}


@pytest.mark.parametrize("source", ["import allmlp", "from allmlp import __version__", "import torch, os.path",
                                    "import allmlp\nprint(allmlp.__version__)", "from torch.train import data"])
def test_the_version_and_other_packages_are_free(source: str):
    assert not list(imports(source, "allmlp.data"))


def test_files_and_folders_say_what_they_hold():
    for path in PYTHON_FILES:
        words = {word for part in path.relative_to(ROOT).with_suffix("").parts for word in part.split("_")}
        assert not words & NAMELESS, f"{path}: what has no name has no reason"


def test_no_file_is_longer_than_can_be_read_at_one_sitting():
    for path in PYTHON_FILES:
        length = len(path.read_text(encoding="utf-8").splitlines())
        assert length <= MAX_LINES, f"{path}: {length} lines, at most {MAX_LINES}"

