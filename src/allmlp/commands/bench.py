"""`allmlp bench`.

A MODEL that is an exported folder, or a file for the engine, runs as it is. Any other is exported here for each backend
and precision that is asked for, into a temporary folder; "pytorch" is the network itself. What is measured for speed
only need not pass what `allmlp export` asks of an export. What fails is told and left out, and the rest is measured.
"""

import argparse
import csv
import io
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allmlp import bench
from allmlp.backends import BACKENDS, load_predictor, native
from allmlp.backends import manifest as manifests
from allmlp.backends.others import remark_on_others
from allmlp.backends.packages import version
from allmlp.commands.bench_source import opened_data, opened_network, size_of_export, size_of_logits
from allmlp.commands.memory import check_batch
from allmlp.commands.outputs import STDOUT, check_csv, check_figure
from allmlp.commands.sigterm import cleanly_ended
from allmlp.commands.source import as_learnt, refuse_idle, refuse_masks, run_data, run_folder_of
from allmlp.data import open_data
from allmlp.data.dataset import Data
from allmlp.errors import (
    AllMLPError,
    BadCheckpoint,
    BadSetting,
    CannotWrite,
    MissingPackage,
    named,
    printable,
    unknown_name,
)
from allmlp.files import write_text_atomically
from allmlp.preprocess import Preprocess, fit

if TYPE_CHECKING:
    from allmlp.models.model import Model

QUICK_ROUNDS, QUICK_SECONDS = 10, 2.0
PYTORCH = "pytorch"


@cleanly_ended()
def run(options: argparse.Namespace) -> int:
    names = list(dict.fromkeys(options.models))
    batches, threads = (list(dict.fromkeys(given)) for given in (options.batch, options.threads))
    wanted = wanted_backends(options.backend)
    check(options, names)
    check_csv(options.csv, ",".join(bench.COLUMNS), options.json)  # now, not after minutes of measuring
    check_figure(options.figure)
    data = opened_data(options) if options.data else None
    if data is not None:
        refuse_masks(data, "`allmlp bench`")
    for note in data.notes if data else ():
        print(note, file=sys.stderr)
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if options.quick else (50, 20.0)
    failures, rows, stopped = Failures(), list[Mapping[str, Any]](), None
    with tempfile.TemporaryDirectory(prefix="allmlp-bench-") as folder:
        entries: list[bench.Entry] = []
        for number, name in enumerate(names):
            try:
                entries += entries_of(name, wanted, options, data, Path(folder, str(number)), failures)
            except AllMLPError as error:
                failures(bench.Entry(name, name), error)
        contest = bench.Contest(entries, batches, threads, options.rounds or rounds, seconds)
        try:
            for row in bench.run(contest, images, failures) if entries else ():
                rows.append(row)
        except (KeyboardInterrupt, SystemExit) as error:  # what was measured is not lost
            stopped = error
    if not rows:
        if stopped:
            raise stopped
        return 2
    write(sorted(rows, key=lambda row: (row["infer_batch_size"], row["threads"], -row["infer_samples_per_sec"])),
          options)
    if stopped:
        raise stopped
    return 1 if failures.count else 0


class Failures:
    """Tells on stderr, in one line and at once, of what cannot be measured and why."""

    count = 0

    def __call__(self, entry: bench.Entry, error: AllMLPError) -> None:
        self.count += 1
        which = f"{entry.name}, {entry.made}" if entry.made else entry.name
        place = entry.made and not isinstance(error, CannotWrite)  # a full disk's does matter
        why = named(error, entry.made, entry.path) if place else error
        print(f"allmlp: {which}: not measured: {str(why).removeprefix(f'{which}: ')}", file=sys.stderr, flush=True)


def write(rows: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> None:
    """The rows, wherever the options want them."""
    if version("allmlp-native") is None:
        print("the engine, which measures the processor's peak, is not installed (make native): no share of the peak",
              file=sys.stderr)
    if remark := remark_on_others(max((row["others_percent"] or 0.0 for row in rows), default=None)):
        print(remark, file=sys.stderr)
    if options.json:
        print(json.dumps(rows))
    elif options.csv != STDOUT:
        print("\n".join(lines(rows)))
    sys.stdout.flush()  # what took minutes is shown, whatever becomes of the files
    if options.csv == STDOUT:
        sys.stdout.write(as_csv(rows))
    elif options.csv:
        write_text_atomically(options.csv, as_csv(rows))
    if options.figure:
        from allmlp import figures
        from allmlp.commands.bench_figure import figure

        for path in figures.save(figure(rows), options.figure):
            print(f"wrote {path}", file=sys.stderr)


def check(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Raises `BadSetting` for options that could have no effect."""
    exported = [name for name in names if is_exported(name)]
    if exported and options.image_size:
        raise BadSetting(f"--image-size: {exported[0]} is exported, and runs at its own image size; leave it out")
    for flag, value in {"--backend": options.backend, "--precision": options.precision}.items():
        if value and len(exported) == len(names):
            raise BadSetting(f"{flag}: {exported[0]} is exported, and runs as it is; leave it out or give its "
                             "checkpoint")
    refuse_idle(options)


def is_exported(name: str) -> bool:
    return manifests.is_export(name) or native.is_model_file(name)


def number_of_entries(name: str, wanted: Mapping[str, bool], options: argparse.Namespace) -> int:
    """How many take part of one MODEL, at most."""
    offered = {PYTORCH: ["fp32"], **{backend: [*BACKENDS[backend].limits] for backend in wanted if backend in BACKENDS}}
    return 1 if is_exported(name) else len([precision for backend in wanted for precision in precisions(options)
                                            if precision in offered[backend]])


def precisions(options: argparse.Namespace) -> list[str]:
    return list(dict.fromkeys(options.precision or ["fp32"]))


def wanted_backends(asked: Sequence[str] | None) -> dict[str, bool]:
    """Each backend, and whether it was asked for by its name: then a missing package is an error, not a remark."""
    if asked is None:
        return {PYTORCH: True}
    for name in asked:
        if name not in (PYTORCH, "all", *BACKENDS):
            raise unknown_name("backend", name, ("all", PYTORCH, *BACKENDS))
    named = [name for name in asked if name != "all"]
    names: list[str] = [*named, *((PYTORCH, *BACKENDS) if "all" in asked else ())]
    return {name: name in named for name in names}


def entries_of(name: str, wanted: Mapping[str, bool], options: argparse.Namespace, data: Data | None,
               folder: Path, failures: "Failures") -> list[bench.Entry]:
    """What takes part of one MODEL. Raises what loading does, and `BadSetting` where nothing is left; `failures` is
    told of what cannot be exported, or not be run."""
    processes = len(set(options.threads)) * sum(number_of_entries(each, wanted, options) for each in options.models)
    if is_exported(name):
        check_batch(max(options.batch), *size_of_export(name), processes)
        return [with_accuracy(bench.Entry(name, name), data and divided(name, data, options), options)]
    model, fresh = opened_network(name, options.image_size)
    check_batch(max(options.batch), model.preprocess.image_size, size_of_logits(model), processes)
    if fresh:
        print(f"{name}: fresh weights, good for speed only; a run folder or published weights have accuracy",
              file=sys.stderr)
    own = None
    if data is not None and not fresh:
        own = divided(name, data, options)
    elif not fresh and not options.quick:
        own = run_data(name)
    if own is None and not fresh and not options.quick and run_folder_of(name):
        print(f"{name}: without top-1: its run.json or its data cannot be opened; give --data", file=sys.stderr)
    insist = data is not None  # on top-1: it was asked for
    from allmlp.inspection.flops import count_macs

    macs, found, before = count_macs(model.config), [], failures.count
    for backend, insisted in wanted.items():
        for precision in precisions(options):
            path = folder / f"{backend}-{precision}"
            entry = bench.Entry(str(path), name, macs, path.name)
            try:
                entry = replace(entry, path=made(model, name, path, backend, precision, own, options))
            except AllMLPError as error:
                there_is_none = isinstance(error, BadSetting | MissingPackage) and not insisted
                if isinstance(error, NotOffered) or there_is_none:
                    print(f"{name}: without {backend} in {precision}: {error}", file=sys.stderr)
                else:
                    failures(entry, error)
                continue
            try:
                entry = with_accuracy(entry, own, options)
            except BadCheckpoint as error:
                failures(entry, error)
                continue
            except BadSetting as error:
                if insist:
                    raise
                print(f"{name}: without top-1: {error}", file=sys.stderr)
            found.append(entry)
    if not found and failures.count == before:
        raise BadSetting(f"{name}: nothing to measure with --backend {' '.join(wanted)} and --precision "
                         f"{' '.join(precisions(options))}")
    return found


def divided(name: str, data: Data, options: argparse.Namespace) -> Data:
    """`data` as the run of a MODEL divided it, where that learnt from it."""
    own = as_learnt(name, data, options)
    if own is not data:
        print(f"{name}: {data.name} is divided as its run did", file=sys.stderr)
    return own


class NotOffered(BadSetting):
    """A precision that a backend does not have."""


def made(model: "Model", name: str, path: Path, backend: str, precision: str, data: Data | None,
         options: argparse.Namespace) -> str:
    """What `load_predictor` takes for this network in this backend and precision."""
    from allmlp import checkpoint
    from allmlp.backends.export import Wish, unverified

    if backend == PYTORCH:
        if precision != "fp32":
            raise NotOffered(f"a checkpoint runs in fp32; --backend pt2 has {', '.join(BACKENDS['pt2'].limits)}")
        path.mkdir(parents=True)
        checkpoint.save(model, path / "network.safetensors")
        return str(path / "network.safetensors")
    if precision not in BACKENDS[backend].limits:
        raise NotOffered(f"it has {', '.join(BACKENDS[backend].limits)}")
    print(f"{name}: {backend} {precision}", file=sys.stderr, flush=True)
    calibrated = calibration(model, name, data) if precision == "int8" else None
    try:
        notes = unverified(model, path, Wish(backend, precision), calibrated)  # type: ignore[arg-type]
    except AllMLPError:
        raise
    except Exception as error:  # of a compiler, which has classes of its own
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise AllMLPError(f"cannot be exported: {printable(said, 200)}") from error
    for note in notes:
        print(f"{name}: {note}", file=sys.stderr)
    return str(path)


def calibration(model: "Model", name: str, data: Data | None) -> np.ndarray:
    """Training images; of the digits where the network's own are not known, which does for speed."""
    if data is None or "train" not in data.splits:
        print(f"{name}: int8's ranges are those of digits, not of the network's own images (give --data): good for "
              "speed only", file=sys.stderr)
    dataset = (data if data is not None and "train" in data.splits else open_data("digits")).splits["train"]
    from allmlp.commands.export import CALIBRATION, pictures  # which brings torch, and exports need none

    return pictures(dataset, model.preprocess, CALIBRATION)


def with_accuracy(entry: bench.Entry, data: Data | None, options: argparse.Namespace) -> bench.Entry:
    """The entry with its accuracy on the split that nothing was learnt from; as it is without data."""
    from allmlp.evaluate.classification import Metrics
    from allmlp.evaluate.dataset import evaluate_dataset

    if data is None:
        return entry
    split = next((name for name in ("test", "val") if name in data.splits), None)
    if split is None:
        raise BadSetting(f"{data.name}: has only images to train on; accuracy needs a test or val split")
    metrics = evaluate_dataset(load_predictor(entry.path, "cpu", threads=max(options.threads)),
                               data.splits[split]).metrics
    if not isinstance(metrics, Metrics):
        raise BadSetting(f"{data.name}: its images have several labels each, and top-1 needs one; leave --data out")
    return replace(entry, top1=metrics.top1_percent, top1_images=metrics.count)


def images(size: tuple[int, int], count: int) -> np.ndarray:
    """The first digits, brought to size."""
    dataset, preprocess = open_data("digits").splits["test"], Preprocess(image_size=size)
    fitted = np.stack([fit(dataset.image(index), preprocess) for index in range(min(count, len(dataset)))])
    return fitted if count == len(fitted) else fitted[np.arange(count) % len(fitted)]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, bench.COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
                     for row in rows)
    return text.getvalue()


SHOWN = {"batch": "infer_batch_size", "threads": "threads", "images/s": "infer_samples_per_sec", "p50 ms": "p50_ms",
         "p95 ms": "p95_ms", "p99 ms": "p99_ms", "% of peak": "peak_percent", "ready s": "load_seconds",
         "peak MB": "peak_memory_mb", "file MB": "file_mb", "top-1 %": "top1"}  # fmt: skip
DIGITS = {"p50_ms": 2, "p95_ms": 2, "p99_ms": 2, "load_seconds": 3, "top1": 2}


def lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fastest first, by batch size and threads; for a terminal. A column that nothing is known of is left out."""
    shown = {title: column for title, column in SHOWN.items() if any(row[column] is not None for row in rows)}
    cells = [["model", "backend", "precision", *shown]]
    for row in rows:
        values = (row[column] for column in shown.values())
        cells.append([row["model"], row["backend"], row["precision"], *(
            "–" if value is None else f"{value:.{DIGITS.get(column, 1)}f}" if isinstance(value, float) else str(value)
            for column, value in zip(shown.values(), values, strict=True))])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) if column < 3 else cell.rjust(width)
                      for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
            for line in cells]
