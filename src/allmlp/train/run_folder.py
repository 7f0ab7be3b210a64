"""The folder of one run: everything that says what was done, and what came of it.

    recipe.json     the recipe as it ran; with the commit it determines the run
    run.json        data, command, versions, machine, device, threads
    split.json      which files went where, when the split was drawn here
    metrics.jsonl   one row per epoch; summary.csv the same in timm's columns; events… for TensorBoard
    best, last      .safetensors, complete checkpoints; state.safetensors, to resume from
    results.json    final metrics; report.html, everything on one page; batch.png, an augmented batch
"""

import csv
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from allmlp.data.dataset import Data, ImageDataset, Subset
from allmlp.errors import BadCheckpoint, BadData, BadSetting, TrainingStopped, printable
from allmlp.files import write_text_atomically
from allmlp.recipe import Recipe

PACKAGES = ("allmlp", "torch", "torchvision", "timm", "numpy", "pillow", "safetensors", "scikit-learn")
RUN_FILES = ("recipe.json", "run.json", "split.json", "metrics.jsonl", "summary.csv", "results.json", "batch.png",
             "report.html", "state.safetensors", "best.safetensors", "last.safetensors", "events.out.tfevents.*")
BEFORE = ("run.json", "split.json")  # written before recipe.json, which marks a begun run
GOES_ON_WITH: dict[str, tuple[type, str]] = {  # of run.json, in a run that is resumed
    "threads": (int, "its number of CPU threads"), "device": (str, "its device"), "command": (str, "its command"),
    "machine": (dict, "what is known of its machine")}  # fmt: skip
OTHER = {"classes": "other classes", "images": "another number of images",
         "fingerprints": "images of other names or labels"}  # what `described` says of data, where it differs
MOST_NAMES = 100_000
SUMMARY_COLUMNS = ("epoch", "train_loss", "eval_loss", "eval_top1", "eval_top5", "lr")


def prepare(output: Path, recipe: Recipe, resume: bool, overwrite: bool) -> None:
    """Clear the folder, or check that it can be resumed. Raises `BadSetting` rather than mix two runs.

    What a killed run was writing is removed when it goes on.
    """
    has_run = (output / "recipe.json").exists()
    if resume:
        if not has_run:
            raise BadSetting(f"{output}: nothing to resume (no recipe.json); start the run without --resume")
        if read_recipe(output) != recipe:
            raise BadSetting(f"{output}: was begun with another recipe; resume it with its own recipe.json")
        read_begun(output)
        for unfinished in output.glob(".*.tmp"):
            if unfinished.name[1:].partition(".")[0] in {name.partition(".")[0] for name in RUN_FILES}:
                unfinished.unlink(missing_ok=True)
        return
    if has_run and not overwrite:
        raise BadSetting(f"{output}: holds a run already; go on with `allmlp train --resume {output}`, "
                         "choose another --output, or say --overwrite")
    if output.exists() and not output.is_dir():
        raise BadSetting(f"{output}: is a file; --output takes a folder")
    if not has_run:
        foreign = [path.name for pattern in RUN_FILES if pattern not in BEFORE for path in output.glob(pattern)]
        if foreign:
            raise BadSetting(f"{output}: holds {foreign[0]} and no run (no recipe.json), which is not written over; "
                             "move it away, or choose another --output")
        return
    for pattern in reversed(RUN_FILES):  # recipe.json last: without it nobody would know of a state left behind
        for path in output.glob(pattern):
            path.unlink()


def write_start(output: Path, recipe: Recipe, data: Data, settings: dict[str, Any]) -> dict[str, Any]:
    """Write recipe, description of the run and split; returns the description."""
    about = {"data": recipe.data, **described(data), "notes": list(data.notes),
             "command": " ".join(["allmlp", *sys.argv[1:]]), "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
             **settings, "machine": machine()}
    write_json(output / "run.json", about)
    if data.split_files is not None:
        write_json(output / "split.json", {split: list(files) for split, files in data.split_files.items()})
    write_text_atomically(output / "recipe.json", recipe.to_json(indent=2) + "\n")  # last: it marks a begun run
    return about


def described(data: Data) -> dict[str, Any]:
    """What a run keeps of its data, to know it again in another place."""
    return {"classes": list(data.classes),
            "images": {split: len(dataset) for split, dataset in data.splits.items()},
            "fingerprints": {split: fingerprint(dataset) for split, dataset in data.splits.items()}}


def fingerprint(images: ImageDataset) -> str:
    """SHA-256 of the labels, and of the names where they do not depend on where the images lie; both in order.

    Names are those of `MOST_NAMES` images at most, evenly spread: of millions they would take longer than the start.
    """
    digest = hashlib.sha256(np.ascontiguousarray(images.labels).tobytes())
    for index in range(0, len(images), 1 + len(images) // MOST_NAMES):
        inner, number = images.origin(index) if isinstance(images, Subset) else (images, index)
        if (key := getattr(inner, "key", None)) is None:
            break
        digest.update(f"{key(number)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def check_same(output: Path, data: Data) -> None:
    """Raises `BadData` where `data` is not what the run began with, as far as its description says."""
    about = read_run(output)
    for name, value in described(data).items():
        if about.get(name, value) != value:
            raise BadData(f"{data.name}: has {OTHER[name]} than the data of {output}, and a run goes on with the same; "
                          "give the place that its data was moved to, or start a new run")


def write_source(output: Path, source: dict[str, Any]) -> None:
    """Note in the description of a run that its data lies elsewhere now."""
    write_json(output / "run.json", {**read_run(output), "source": source})


def read_recipe(output: Path) -> Recipe:
    """The recipe a run folder was started with. Raises `BadCheckpoint`."""
    try:
        return Recipe.from_json((output / "recipe.json").read_text(encoding="utf-8"))
    except OSError:
        raise BadCheckpoint(f"{output}: not a run folder (no recipe.json)") from None


def read_run(output: Path) -> dict[str, Any]:
    """The description of a run (`run.json`), its "source", if any, a mapping. Raises `BadCheckpoint`."""
    try:
        found = json.loads((output / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise BadCheckpoint(f"{output}: not a run folder (no readable run.json)") from None
    if not isinstance(found, dict) or not isinstance(found.get("source") or {}, dict):
        raise BadCheckpoint(f"{output / 'run.json'}: not the description of a run; copy the run folder again")
    return found


def read_begun(output: Path) -> dict[str, Any]:
    """The description of a run that goes on, with all that takes. Raises `BadCheckpoint`, before any work is done."""
    about = read_run(output)
    for name, (kind, like) in GOES_ON_WITH.items():
        given = about.get(name)
        if not isinstance(given, kind) or isinstance(given, bool) or given in (0, ""):
            what = "is missing" if name not in about else f"is {printable(repr(given), 60)}"
            raise BadCheckpoint(f"{output / 'run.json'}: {name!r} {what}, and a run goes on with {like}; copy the run "
                                "folder again, or write there what the run had")
    return about


def read_split(output: Path) -> dict[str, list[str]] | None:
    """Which files went where, if this run drew a split; None if its data came with one."""
    path = output / "split.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, ValueError):
        raise BadCheckpoint(f"{path}: cannot be read; it says which images the run held out") from None


def write_history(output: Path, history: list[dict[str, Any]]) -> None:
    """`metrics.jsonl` and `summary.csv`, whole: a resumed run leaves no row twice."""
    write_text_atomically(output / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SUMMARY_COLUMNS)
    for row in history:
        writer.writerow(["" if row.get(column) is None else row[column] for column in SUMMARY_COLUMNS])
    write_text_atomically(output / "summary.csv", text.getvalue())


def stop_on_non_finite(output: Path, loss: float, step: int, epoch: int, names: list[str]) -> NoReturn:
    """Raises `TrainingStopped` for a `loss` at `step` (from 0) on the images called `names`, which are written down."""
    kept = [name for name in ("best.safetensors", "last.safetensors") if (output / name).exists()]
    path = output / "non_finite_batch.txt"
    write_text_atomically(path, "\n".join(names) + "\n")
    raise TrainingStopped(
        f"the loss became {loss} at step {step + 1} (epoch {epoch + 1}); the batch's images are listed in {path}; "
        f"kept: {', '.join(kept) or 'no checkpoint yet'}; lower optimizer.learning_rate")


def write_json(path: Path, value: Any) -> None:
    write_text_atomically(path, json.dumps(value, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """Processor, cores, system, Python, package versions and the commit, as far as they are known."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform(terse=True),
            "python": platform.python_version(), "versions": versions, "commit": _commit()}


def _processor() -> str:
    """Its name; on x86 with family and model, since in virtual machines several generations have one name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = said.get("model name") or platform.processor() or platform.machine()
    return f"{name} (family {said['cpu family']}, model {said.get('model')})" if "cpu family" in said else name


def _commit() -> str | None:
    """The commit of the source tree this package runs from, with a + when files differ from it."""
    try:
        def git(*arguments: str) -> str:
            return subprocess.run(["git", "-C", str(Path(__file__).parent), *arguments], check=True, text=True,
                                  capture_output=True, timeout=5).stdout.strip()

        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
