"""`allmlp compare`."""

import argparse
import contextlib
import csv
import io
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allmlp import figures
from allmlp.commands.memory import check_batch
from allmlp.commands.outputs import check_place
from allmlp.commands.source import open_source, refuse_masks, source_of, split_of_run
from allmlp.compare.contenders import Contender, open_contender
from allmlp.compare.measure import Compared, Protocol, choose_images, measured, with_cost
from allmlp.compare.page import write_page
from allmlp.compare.pareto import figure
from allmlp.data.dataset import Data
from allmlp.errors import AllMLPError, BadSetting
from allmlp.evaluate.cost import measure_costs
from allmlp.files import write_text_atomically
from allmlp.report.numbers import NOTHING
from allmlp.train.run_folder import machine

SPEED = {"batch_size": 32, "rounds": 5}  # how it is measured, where nothing else is asked for
MADE = ("table.csv", "pareto.png", "pareto.svg", "index.html")


def run(options: argparse.Namespace) -> int:
    options = with_speed(options)
    names = list(dict.fromkeys(options.models))
    output = Path(options.output)
    check_output(output, options.overwrite)
    if options.threads:
        torch.set_num_threads(options.threads)
    protocol = Protocol(shots=options.few_shot, seeds=options.few_shot_seeds, neighbours=options.knn,
                        train_images=options.train_images, test_images=options.test_images)
    data = opened_data(names, options)
    refuse_masks(data, "`allmlp compare`")
    images = choose_images(data, protocol, options.split)
    rows, makes = [], {}
    for number, name in enumerate(names, 1):
        opened = opened_as_asked(name, data, options)
        if not options.no_speed:
            logits = opened.predict(np.empty((0, *opened.image_size, 3), np.uint8)).shape[1]
            check_batch(options.batch_size, opened.image_size, logits, len(names), "--batch-size", here=False)
        print(f"{number}/{len(names)} {name}", file=sys.stderr, flush=True)
        rows.append(measured(opened, images, protocol, options.workers))
        makes[name] = opened.make
    if not options.no_speed:
        print(f"speed of {len(names)}, in turns", file=sys.stderr, flush=True)
        costs = measure_costs(makes, batch_sizes=(options.batch_size,), threads=torch.get_num_threads(),
                              rounds=options.rounds)
        rows = [with_cost(row, costs[row.model]) for row in rows]
    said = (*data.notes, f"{len(images.test):,} {images.split} images, {len(images.train):,} training images")
    about = machine() | {"threads": torch.get_num_threads(), "device": options.device}
    write_text_atomically(output / "table.csv", as_csv(rows, options, images.split, about))
    _, svg = figures.save(figure(rows, protocol.shots), output / "pareto")
    write_page(rows, data.name, said, protocol, svg, command(options), about, output / "index.html")
    if options.json:
        print(json.dumps({"page": str(output / "index.html"), "data": options.data, "split": images.split,
                          "notes": said, "protocol": protocol.model_dump(), "machine": about,
                          "rows": [row.model_dump(mode="json") for row in rows]}))
    else:
        print_rows(rows, said, output)
    return 0


def with_speed(options: argparse.Namespace) -> argparse.Namespace:
    """The options with defaults filled in for how the speed is measured. Raises `BadSetting` where it is left out."""
    given = {name: value for name in SPEED if (value := getattr(options, name)) is not None}
    if options.no_speed and given:
        raise BadSetting(f"--{next(iter(given)).replace('_', '-')} says how the speed is measured, and --no-speed "
                         "leaves it out; give one of the two")
    return argparse.Namespace(**vars(options) | SPEED | given)


def check_output(output: Path, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise BadSetting(f"--output {output}: is a file; give a folder")
    held = {path.name for path in output.iterdir()} if output.exists() else set()
    if held - {*MADE}:
        raise BadSetting(f"--output {output}: holds something else; give a new folder")
    if held and not overwrite:
        raise BadSetting(f"--output {output}: holds a comparison; say --overwrite, or choose another folder")
    check_place(output / MADE[0])


def opened_data(names: Sequence[str], options: argparse.Namespace) -> Data:
    """The data, divided as the runs did that learnt from it; with a note where they did not all do it alike."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in names:
        with contextlib.suppress(AllMLPError):  # a damaged run's is not known
            if (split := split_of_run(name, options)) is not None:
                found[name] = split
    first = next(iter(found), None)
    data = open_source(options, source_of(options), None if first is None else found[first])
    others = [name for name, split in found.items() if first is not None and split != found[first]]
    if others:
        note = (f"divided as by the run of {first}; {', '.join(others)} learnt from other parts of it, so that their "
                "accuracy is of images that they may have learnt from")
        data = replace(data, notes=(*data.notes, note))
    return data


def opened_as_asked(name: str, data: Data, options: argparse.Namespace) -> Contender:
    opened = open_contender(name, len(data.classes), pretrained=options.pretrained, image_size=options.image_size,
                            device=options.device)
    if opened.weights == "fresh":
        print(f"{name}: fresh weights; --pretrained takes published ones, a tag names them", file=sys.stderr)
    return opened


def command(options: argparse.Namespace) -> str:
    """What makes this comparison again."""
    words = ["allmlp", "compare", options.data, *options.models]
    for name in ("pretrained", "no_speed", "skip_bad"):
        words += [f"--{name.replace('_', '-')}"] if getattr(options, name) else []
    words += ["--image-size", "x".join(map(str, options.image_size))] if options.image_size else []
    for name in ("split", "val_fraction", "split_seed", "data_dir", "few_shot", "few_shot_seeds", "knn", "train_images",
                 "test_images", *(() if options.no_speed else SPEED), "device"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--threads", str(torch.get_num_threads())])


def as_csv(rows: Sequence[Compared], options: argparse.Namespace, split: str, about: dict[str, Any]) -> str:
    where = {"data": options.data, "split": split, "shots": options.few_shot, "seeds": options.few_shot_seeds,
             "neighbours": options.knn, "threads": about["threads"], "device": about["device"],
             "processor": about["processor"], "cores": about["cores"], "torch": about["versions"].get("torch"),
             "timm": about["versions"].get("timm"), "commit": about["commit"]}
    text = io.StringIO()
    writer = csv.DictWriter(text, [*Compared.model_fields, *where], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = row.model_dump() | {"image_size": "x".join(map(str, row.image_size))} | where
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in values.items()})
    return text.getvalue()


def print_rows(rows: Sequence[Compared], said: Sequence[str], output: Path) -> None:
    titles = ("", "parameters", "MACs", "accuracy", "few-shot", "k-NN", "images/s", "ms/image", "MiB")
    cells = [titles, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(titles))]
    for note in said:
        print(note)
    for line in cells:
        print("  ".join(cell.rjust(width) if column else cell.ljust(width)
                        for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip())
    for row in rows:
        if row.note:
            print(f"{row.model}: {row.note}")
    print(f"page {output / 'index.html'}")


def _cells(row: Compared) -> tuple[str, ...]:
    few = _number(row.few_shot_percent, ".2f", " %")
    if row.few_shot_deviation is not None:
        few = f"{row.few_shot_percent:.2f} ± {row.few_shot_deviation:.2f} %"
    return (row.model, _number(row.parameters, ",", ""), _number(row.macs, ",", ""),
            _number(row.accuracy_percent, ".2f", " %"), few, _number(row.knn_percent, ".2f", " %"),
            _number(row.images_per_second, ",.4g", ""), _number(row.latency_ms, ".3g", ""),
            _number(row.peak_memory_mib, ",.0f", ""))


def _number(value: float | None, how: str, unit: str) -> str:
    return NOTHING if value is None else f"{value:{how}}{unit}"
