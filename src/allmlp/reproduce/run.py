"""Running an experiment: its arms one after another, each kept as it is finished; at the end the figure and the page.

    table.csv  figure.png  figure.svg  index.html

A second call with the same folder skips the arms whose rows are there, so a stopped experiment goes on where it was and
more seeds can be added.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from allmlp import figures
from allmlp.errors import BadSetting
from allmlp.reproduce.experiment import REDUCED, Arm, Experiment, Found, Job, Row
from allmlp.reproduce.learn import check_data
from allmlp.reproduce.page import write_page
from allmlp.reproduce.table import columns_of, read_rows, typed, write
from allmlp.train.run_folder import machine

MADE = ("table.csv", "figure.png", "figure.svg", "index.html")
WORK = "work"  # the folder that arms leave things in for one another


@dataclass(frozen=True)
class Result:
    """`found` is None, and there is no figure and no page, as long as `missing` arms have not run."""

    rows: list[Row]
    found: Found | None
    missing: int


def run(experiment: Experiment, job: Job, output: Path, *, command: str, only: str = "", overwrite: bool = False,
        say: Callable[[str], None] = lambda line: None) -> Result:
    """Run what is missing of `experiment` in the folder `output`. `only`: arms whose name contains it.

    Raises `BadSetting` for a folder that holds something else, and what opening the data and the arms raise.
    """
    scale = scale_of(job)
    arms = list(experiment.arms(job))
    order = {(arm.what, arm.seed): number for number, arm in enumerate(arms)}
    assert len(order) == len(arms), f"{experiment.name}: two arms of the same name and seed"
    chosen = [arm for arm in arms if only.lower() in arm.what.lower()]
    if not chosen:
        raise BadSetting(f"--only {only!r}: no arm's name contains it; they are "
                         + "; ".join(dict.fromkeys(arm.what for arm in arms)))
    check_data(job)  # before any arm runs and anything is written or cleared
    prepare(output, overwrite)
    rows = read_rows(output / MADE[0], experiment, scale)
    there = {(row["what"], row["seed"]) for row in rows}
    waiting = [arm for arm in chosen if (arm.what, arm.seed) not in there]
    about = where(job, experiment.name, scale, command)
    job.folder.mkdir(parents=True, exist_ok=True)
    for number, arm in enumerate(waiting, 1):
        made = [typed({**row, **about}) for row in rows_of(arm, experiment)]
        rows = sorted([*rows, *made], key=lambda row: order.get((row["what"], row["seed"]), len(order)))
        write(output / MADE[0], columns_of(experiment), rows)
        say(f"{number}/{len(waiting)} {arm.what}, seed {arm.seed}: {made[-1]['seconds']:.1f} s")
    missing = len(set(order) - {(row["what"], row["seed"]) for row in rows})
    if missing:
        return Result(rows, None, missing)
    shutil.rmtree(job.folder, ignore_errors=True)
    found = experiment.found(rows)
    found = REDUCED if job.reduced else found  # it is computed, to see that it works
    with figures.style():
        figures.save(experiment.figure(rows), output / "figure")
    write_page(experiment, job.scale, rows, found, output / "figure.svg", output / "index.html")
    return Result(rows, found, 0)


def prepare(output: Path, overwrite: bool) -> None:
    """Raises `BadSetting` where `output` holds what is not an experiment's; with `overwrite`, clears what is."""
    if output.exists() and not output.is_dir():
        raise BadSetting(f"--output {output}: is a file; give a folder")
    held = {path.name for path in output.iterdir()} if output.exists() else set()
    if held and MADE[0] not in held and held != {WORK}:
        raise BadSetting(f"--output {output}: holds something else (no {MADE[0]}); give a new folder, or that of an "
                         "earlier `allmlp reproduce`")
    if overwrite:
        for name in held & {*MADE}:
            (output / name).unlink()
        shutil.rmtree(output / WORK, ignore_errors=True)


def rows_of(arm: Arm, experiment: Experiment) -> Iterator[dict[str, Any]]:
    """The rows of one arm, with this process's own seconds up to each."""
    started = time.process_time()
    found = arm.run()
    for values in [found] if isinstance(found, Mapping) else found:
        unknown = set(values) - set(experiment.columns)
        assert not unknown, f"{experiment.name}: {', '.join(sorted(unknown))} is not among its columns"
        yield {"what": arm.what, "seed": arm.seed, **dict.fromkeys(experiment.columns), **values,
               "seconds": time.process_time() - started}


def scale_of(job: Job) -> str:
    """What the table calls it: rows of tests' size never mix with real ones."""
    return f"{job.scale}, reduced" if job.reduced else job.scale


def where(job: Job, name: str, scale: str, command: str) -> dict[str, str]:
    about = machine()
    versions = about["versions"]
    return {"experiment": name, "scale": scale, "data": job.data or "", "device": job.device,
            "threads": str(torch.get_num_threads()), "processor": about["processor"], "cores": str(about["cores"]),
            "torch": versions.get("torch", ""), "timm": versions.get("timm", ""), "commit": about["commit"] or "",
            "date": time.strftime("%Y-%m-%d"), "command": command}


def names(rows: Sequence[Row]) -> list[str]:
    """The names of the arms, in the order of the table."""
    return list(dict.fromkeys(row["what"] for row in rows))
