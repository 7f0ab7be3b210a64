"""Finished or running runs, read from their folders for a comparison; nothing in them is trusted.

Runs of one recipe on the same data that differ in the seed only make a group. What does not say what was learnt, and
how, is not compared: the recipe's name, its `expected` result, the seed.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allmlp.errors import BadCheckpoint, BadSetting
from allmlp.recipe import Recipe
from allmlp.report.numbers import known

MOST_BYTES = 64 * 2**20  # of a file of a run; a hundred thousand epochs are below that
NOT_COMPARED = ("name", "expected", "seed")


@dataclass(frozen=True)
class Run:
    """What a run folder says. `recipe`: dotted name -> value; `scores`: split -> percent, once it is finished."""

    folder: str
    seed: int | None
    recipe: Mapping[str, Any]
    source: str
    history: Sequence[Mapping[str, Any]]
    scores: Mapping[str, float]
    score_name: str
    parameters: int | None
    macs: int | None
    seconds: float | None
    machine: str
    commit: str
    state: str  # "finished", "finished by early stopping", "stopped", "not finished"

    @property
    def name(self) -> str:
        return Path(self.folder).name

    def last(self, key: str) -> float | None:
        """The newest number of that name in the history."""
        return next((value for row in reversed(self.history) if (value := known(row.get(key))) is not None), None)


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed only."""

    label: str
    runs: tuple[Run, ...]

    @property
    def recipe(self) -> Mapping[str, Any]:
        return self.runs[0].recipe

    def numbers(self, split: str) -> list[float]:
        """The runs' final scores on a split, percent."""
        return [run.scores[split] for run in self.runs if split in run.scores]


def mean_and_spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation of a sample; None of no value, and no deviation of one."""
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def read_run(folder: str) -> Run:
    """Raises `BadCheckpoint` for a folder that is no run, or whose files are not what a run writes."""
    path = Path(folder)
    if not (path / "recipe.json").is_file():
        raise BadCheckpoint(f"{folder}: not a run folder (no recipe.json)")
    recipe, about = _recipe(path / "recipe.json"), _object(path / "run.json")
    results = _object(path / "results.json") if (path / "results.json").exists() else {}
    splits = {str(name): found for name, found in _mapping(results.get("splits")).items() if isinstance(found, Mapping)}
    scores = {name: value for name, found in splits.items() if (value := known(found.get("score_percent"))) is not None}
    history = _rows(path / "metrics.jsonl")
    machine, seed = _mapping(about.get("machine")), known(recipe.get("seed"))
    flat = {name: value for name, value in flattened(recipe).items() if name.partition(".")[0] not in NOT_COMPARED}
    score_names = [found.get("score_name") for found in splits.values()]
    score_names += [row.get("score_name") for row in history]
    seconds = known(results.get("seconds"))
    return Run(
        folder=folder, seed=None if seed is None else int(seed), recipe=flat, source=_source(recipe, about),
        history=history, scores=scores, score_name=next((str(name) for name in score_names if name), "accuracy"),
        parameters=_whole(results.get("parameters")), macs=_whole(results.get("macs")),
        seconds=seconds if seconds is not None else _last_seconds(history),
        machine=" · ".join(str(part) for part in (machine.get("processor"), about.get("device")) if part) or "unknown",
        commit=str(machine.get("commit") or "unknown"), state=_state(results),
    )


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Runs of the same recipe and data together, in the order in which they were given."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(json.dumps([run.recipe, run.source], sort_keys=True), []).append(run)
    labels: list[str] = []
    for members in found.values():
        label = _common([run.name for run in members])
        labels.append(label if label not in labels else members[0].folder)
    return [Group(label, tuple(members)) for label, members in zip(labels, found.values(), strict=True)]


def differences(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """The fields in which the groups' recipes differ: dotted name -> each group's value (None where it has none)."""
    names = dict.fromkeys(name for group in groups for name in group.recipe)
    table = {name: [group.recipe.get(name) for group in groups] for name in names}
    sources = [group.runs[0].source for group in groups]
    return {name: values for name, values in {"source": sources, **table}.items()
            if any(value != values[0] for value in values)}


def flattened(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as dotted names."""
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            flat |= flattened(inner, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = inner
    return flat


def _common(names: Sequence[str]) -> str:
    """One name, or what several begin with: "mixer-seed0", "mixer-seed1" are "mixer"."""
    if len(names) == 1:
        return names[0]
    start = names[0]
    for name in names[1:]:
        while not name.startswith(start):
            start = start[:-1]
    return start.rstrip("0123456789").removesuffix("seed").rstrip("-_. ") or names[0]


def _source(recipe: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    source = _mapping(about.get("source"))
    return str(source.get("data") or recipe.get("data") or "unknown")


def _state(results: Mapping[str, Any]) -> str:
    if not results:
        return "not finished"
    if results.get("stopped"):
        return f"stopped ({results['stopped']})"
    by = results.get("finished_by")
    return "finished" if by in (None, "schedule") else f"finished by {by}"


def _last_seconds(history: Sequence[Mapping[str, Any]]) -> float | None:
    return known(history[-1].get("seconds")) if history else None


def _recipe(path: Path) -> Mapping[str, Any]:
    """With today's defaults for settings that an older version did not have; as it is where it cannot be read so."""
    found = _object(path)
    try:
        return Recipe.from_json(json.dumps(found)).model_dump(mode="json")
    except BadSetting:
        return found


def _object(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadCheckpoint(f"{path}: is not the JSON object that a run writes")
    return found


def _rows(path: Path) -> list[Mapping[str, Any]]:
    """The history; none before the first epoch. A last line that is still being written is left out."""
    rows = []
    lines = _text(path).splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif number < len(lines):
            raise BadCheckpoint(f"{path}: line {number} is not a row that a run writes")
    return rows


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadCheckpoint(f"{path}: has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are read")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadCheckpoint(f"{path}: cannot be read ({type(error).__name__})") from None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _whole(value: Any) -> int | None:
    number = known(value)
    return None if number is None else int(number)
