"""`allmlp report`."""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allmlp.errors import BadSetting
from allmlp.files import begins_with
from allmlp.report.compare_page import splits_of, write_comparison, written
from allmlp.report.compare_runs import Group, Run, differences, grouped, mean_and_spread, read_run


def run(options: argparse.Namespace) -> int:
    if options.csv and options.json:
        raise BadSetting("--csv and --json both print on stdout; give one of them")
    output = Path(options.output)
    if output.is_dir():
        raise BadSetting(f"--output {options.output}: is a folder; give the name of an HTML file")
    if output.exists() and not options.overwrite:
        raise BadSetting(f"--output {options.output}: exists; say --overwrite, or choose another name")
    if output.exists() and not begins_with(output, b"<!DOCTYPE html>"):
        raise BadSetting(f"--output {options.output}: exists, and is no page, so not replaced; choose another name")
    folders = list(dict.fromkeys(options.runs))
    groups = grouped([read_run(folder) for folder in folders])
    write_comparison(groups, output)
    if options.json:
        print(json.dumps(as_json(groups, output)))
    elif options.csv:
        print_csv(groups)
    else:
        for line in as_text(groups, output):
            print(line)
    return 0


def as_text(groups: Sequence[Group], output: Path) -> list[str]:
    width = max(len(group.label) for group in groups)
    lines = []
    for group in groups:
        found = [f"{split} {score(group.numbers(split))}" for split in splits_of([group])] or [group.runs[0].state]
        seeds = f" ({len(group.runs)} seeds)" if len(group.runs) > 1 else ""
        lines.append(f"{group.label:{width}}  {', '.join(found)}{seeds}")
    return [*lines, f"page {output}"]


def score(values: Sequence[float]) -> str:
    mean, spread = mean_and_spread(values)
    return f"{mean:.2f} %" if spread is None else f"{mean:.2f} ± {spread:.2f} %"


def as_json(groups: Sequence[Group], output: Path) -> dict[str, Any]:
    def of(group: Group) -> dict[str, Any]:
        scores = {split: mean_and_spread(group.numbers(split)) for split in splits_of([group])}
        return {"label": group.label, "seeds": [run.seed for run in group.runs],
                "scores": {split: {"mean": mean, "spread": spread, "runs": len(group.numbers(split))}
                           for split, (mean, spread) in scores.items()},
                "runs": [fields(run) for run in group.runs]}

    return {"page": str(output), "groups": [of(group) for group in groups],
            "differences": differences(groups) if len(groups) > 1 else {}}


def fields(run: Run) -> dict[str, Any]:
    return {"run": run.folder, "seed": run.seed, "source": run.source, "state": run.state, "epochs": len(run.history),
            "score_name": run.score_name, **{f"{split}_percent": value for split, value in run.scores.items()},
            "train_loss": run.last("train_loss"), "eval_loss": run.last("eval_loss"), "seconds": run.seconds,
            "parameters": run.parameters, "macs": run.macs, "machine": run.machine, "commit": run.commit}


def print_csv(groups: Sequence[Group]) -> None:
    """A line for each run, with the settings that differ."""
    differ = differences(groups) if len(groups) > 1 else {}
    rows = []
    for index, group in enumerate(groups):
        settings = {name: written(values[index]) for name, values in differ.items()}
        rows += [{"group": group.label, **fields(run), **settings} for run in group.runs]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
