"""The papers' experiments, each one command: `allmlp reproduce NAME`. An explicit list, one file an experiment."""

import ast
import importlib
from pathlib import Path

from allmlp.errors import unknown_name
from allmlp.reproduce.experiment import Experiment

EXPERIMENTS: dict[str, str] = {  # name -> the module here whose `EXPERIMENT` it is
    "permutation": "permutation",
    "spach": "spach",
    "data-scaling": "data_scaling",
    "model-scaling": "model_scaling",
    "resolution": "resolution",
    "distillation": "distillation",
    "see-like-cnns": "see_like_cnns",
    "throughput": "throughput",
    "tables": "tables",
    "resmlp-ablations": "resmlp_ablations",
    "mixer-variants": "mixer_variants",
    "hybrids": "hybrids",
    "any-size": "any_size",
    "small-models": "small_models",
    "segmentation": "segmentation",
}


def find(name: str) -> Experiment:
    """An experiment by name. Raises `UnknownName`."""
    if name not in EXPERIMENTS:
        raise unknown_name("experiment", name, EXPERIMENTS, "`allmlp reproduce --list` shows them")
    return importlib.import_module(f"{__name__}.{EXPERIMENTS[name]}").EXPERIMENT


def listed() -> list[tuple[str, str, str]]:
    """Name, title and source of each experiment, read from the text of its file: importing them would load torch."""
    folder = Path(__file__).parent
    return [(name, *_title_and_source(folder / f"{module}.py")) for name, module in EXPERIMENTS.items()]


def _title_and_source(file: Path) -> tuple[str, str]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EXPERIMENT":
            assert isinstance(node.value, ast.Call), f"{file}: EXPERIMENT = Experiment(name=…, title=…, source=…, …)"
            given = {keyword.arg: keyword.value for keyword in node.value.keywords}
            return ast.literal_eval(given["title"]), ast.literal_eval(given["source"])
    raise AssertionError(f"{file}: no EXPERIMENT")
