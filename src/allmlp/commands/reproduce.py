"""`allmlp reproduce`."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from allmlp.commands.source import refuse_idle
from allmlp.errors import BadSetting, CannotWrite
from allmlp.reproduce import find, listed
from allmlp.reproduce.experiment import Experiment, Job


def run(options: argparse.Namespace) -> int:
    if options.list:
        if options.experiment is not None:
            raise BadSetting(f"--list shows all experiments; leave out {options.experiment!r}, or --list to run it")
        return show_list(options.json)
    if options.experiment is None:
        raise BadSetting("give the name of an experiment; `allmlp reproduce --list` shows them")
    experiment = find(options.experiment)
    refuse_idle(options)
    import torch

    from allmlp.backends.pytorch import choose_device
    from allmlp.reproduce import run as running

    laptop = options.scale == "laptop"
    if options.threads or laptop:
        torch.set_num_threads(options.threads or 1)  # a second thread does not speed up networks so small
    output = Path(options.output or f"reproduced/{experiment.name}{'' if laptop else '-paper'}")
    data_dir = Path(options.data_dir) if options.data_dir else None
    job = Job(scale=options.scale, seeds=options.seeds, data=options.data, data_dir=data_dir,
              download=options.download, device=str(choose_device(options.device or ("cpu" if laptop else "auto"))),
              folder=output / running.WORK, reduced=options.reduced)
    try:
        result = running.run(experiment, job, output, command=command(options), only=options.only or "",
                             overwrite=options.overwrite, say=lambda line: print(line, file=sys.stderr, flush=True))
    except OSError as error:
        raise CannotWrite(f"--output {output}: {error.strerror or error}") from None
    except KeyboardInterrupt:
        without = " without --overwrite" if options.overwrite else ""
        raise KeyboardInterrupt(f"arms that are done are kept in {output}; the same command{without} goes on with the "
                                "others") from None
    if options.json:
        print(json.dumps(as_json(experiment, result, output)))
    else:
        print_result(experiment, result, output)
    return 0


def show_list(as_json: bool) -> int:
    rows = listed()
    if as_json:
        print(json.dumps([{"name": name, "title": title, "source": source} for name, title, source in rows]))
        return 0
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, title, source in rows:
        print(f"{name:{widths[0]}}  {title:{widths[1]}}  {source}")
    return 0


def command(options: argparse.Namespace) -> str:
    """What makes these rows again, wherever they are kept."""
    words = ["allmlp", "reproduce", options.experiment]
    words += ["--scale", options.scale] if options.scale != "laptop" else []
    words += ["--seeds", str(options.seeds)]
    if options.data:  # a folder by its last name: where it lies is nobody else's business
        words += ["--data", Path(options.data).name if Path(options.data).exists() else options.data]
    words += ["--reduced"] if options.reduced else []
    return shlex.join(words)


def print_result(experiment: Experiment, result: Any, output: Path) -> None:
    from allmlp.reproduce.table import heading, summary

    rows = [["", "seeds", *map(heading, experiment.columns)], *summary(experiment.columns, result.rows)]
    used = [column for column in range(len(rows[0])) if column < 2 or any(row[column] != "–" for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in used}
    for row in rows:
        cells = [row[column].rjust(widths[column]) if column else row[0].ljust(widths[0]) for column in used]
        print("  ".join(cells).rstrip())
    if result.found is None:
        print(f"{result.missing} arms have not run; the figure and the page come with the last of them")
    else:
        reduced = result.found.verdict == "no result"
        print(result.found.text if reduced else f"{result.found.verdict}: {result.found.text}")
        print(f"page {output / 'index.html'}")


def as_json(experiment: Experiment, result: Any, output: Path) -> dict[str, Any]:
    found = None if result.found is None else {"verdict": result.found.verdict, "text": result.found.text}
    page = None if result.found is None else str(output / "index.html")
    return {"experiment": experiment.name, "claim": experiment.claim, "found": found, "missing": result.missing,
            "page": page, "rows": result.rows}
