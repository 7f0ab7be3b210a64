"""Which choices our int8 should be fitted with, told apart on images that neither fit it nor judge it.

    python benchmarks/int8_choices.py [--data digits,digit-scenes] [--seeds 0,1,2] [--families mixer,resmlp,gmlp]
        [--weights trained,planted] [--headroom] [--runs DIR] [--csv FILE]
    python benchmarks/int8_choices.py --table [--csv FILE]

The networks are those that accuracy_price.py trains (and keeps in DIR), as trained and with outliers planted. Each
choice of `allmlp.quantize.choices.Choices` (`--headroom`: those that differ from the default in that alone) is fitted
to the same 64 training images as everywhere; the error of its logits, by the engine, is taken over *other* training
images: all of them, of digit-scenes every fourth. The networks were trained on these, since the sets have no validation
part; int8 was not fitted to them, and the test images are not looked at. `--data digit-scenes-fresh` takes two more
scenes of each training digit, which the networks have not seen either.

Rows go to results/int8_choices.csv, in place of those of the same network, seed, weights and choices. `rms_error` is
that of accuracy_price.py. The table compares each choice with the default, today's or, in rows from before, that of
then: the geometric mean over the cases it was tried in of the ratio of their errors, and in how many of them it is the
smaller one. results/int8_choices.csv is of GELU's tables of 256 entries; `--headroom` with those of now went to
results/int8_headroom.csv.
"""

import argparse
import datetime
import itertools
import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from accuracy_price import CALIBRATION, FAMILIES, compared, network, planted
from allmlp.backends import native
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.commands.export import pictures, spread
from allmlp.data import open_data
from allmlp.data.dataset import ImageDataset, Subset
from allmlp.data.scenes import scenes_of
from allmlp.models.model import Model
from allmlp.quantize.choices import BEST, Calibration, Choices
from allmlp.train.run_folder import machine
from rows import read, write

RESULTS = Path(__file__).parent.parent / "results" / "int8_choices.csv"
MIGRATE = (0.0, 0.5, 1.0)
HEADROOM = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
DEFAULTS = (BEST, replace(BEST, headroom=1.2))  # now, and before
FRESH = (4, 6)  # scenes of a digit, behind those of digit-scenes
GRID = itertools.starmap(Choices, itertools.product(get_args(Calibration), MIGRATE, (False, True)))
OF_HEADROOM = tuple(replace(BEST, headroom=headroom) for headroom in HEADROOM)
CHOICES = tuple(dict.fromkeys([*GRID, *OF_HEADROOM]))
MOST = 1500  # images that errors are taken over, about
CASE = ("data", "network", "seed", "weights")
KEY = (*CASE, "calibration", "migrate", "fit", "headroom")
COLUMNS = (*KEY, "rms_error", "largest_error", "images", "processor", "commit", "date", "command")


def all_but(train: ImageDataset, taken: int) -> Subset:
    """Some of the images that calibration does not take."""
    rest = np.setdiff1d(np.arange(len(train)), spread(len(train), taken))
    return Subset(train, rest[:: -(-len(rest) // MOST)])


def fresh_scenes() -> Subset:
    """Scenes of the training digits that digit-scenes does not have."""
    first, last = FRESH
    scenes = scenes_of(open_data("digits").splits["train"], last)
    return Subset(scenes, np.flatnonzero(np.arange(len(scenes)) % last >= first))


def logits(model: Model, calibration: np.ndarray, choices: Choices, images: np.ndarray) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        native.export(model, Path(folder, "m"), "int8", calibration, choices=choices)
        return native.load(Path(folder, "m"), threads=1)(images)


def named(choices: Choices) -> dict[str, str]:
    return {"calibration": choices.calibration, "migrate": f"{choices.migrate:g}", "fit": str(choices.fit),
            "headroom": f"{choices.headroom:g}"}  # fmt: skip


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown: a line for each choice, the best first."""
    errors: dict[tuple[str, ...], dict[tuple[str, ...], float]] = {}
    for row in rows:
        choice = tuple(row[column] for column in KEY[len(CASE) :])
        errors.setdefault(choice, {})[tuple(row[column] for column in CASE)] = float(row["rms_error"])
    default = next(errors[key] for choices in DEFAULTS if (key := tuple(named(choices).values())) in errors)
    kinds = list(dict.fromkeys((case[0], case[1], case[3]) for case in default))

    def ratio(of: Mapping[tuple[str, ...], float], kind: tuple[str, str, str] | None = None) -> float:
        ratios = [error / default[case] for case, error in of.items()
                  if kind is None or (case[0], case[1], case[3]) == kind]
        return statistics.geometric_mean(ratios) if ratios else math.nan

    lines = [f"| {' | '.join(KEY[len(CASE) :])} | all | smaller in | {' | '.join(map(', '.join, kinds))} |",
             "|---" * 4 + "|---:" * (2 + len(kinds)) + "|"]
    for choice, of in sorted(errors.items(), key=lambda item: ratio(item[1])):
        smaller = sum(error < default[case] for case, error in of.items())
        lines.append(f"| {' | '.join(choice)} | {ratio(of):.3f} | {smaller} of {len(of)} | "
                     + " | ".join(f"{ratio(of, kind):.3f}".replace("nan", "") for kind in kinds) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits,digit-scenes")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--weights", default="trained,planted")
    parser.add_argument("--headroom", action="store_true", help="only choices that differ in headroom")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", type=Path, default=Path("runs", "accuracy_price"))
    parser.add_argument("--csv", type=Path, default=RESULTS, metavar="FILE", help="where rows go")
    parser.add_argument("--table", action="store_true", help="show what is in the rows, and measure nothing")
    options = parser.parse_args()
    if options.table:
        print(table(read(options.csv)))
        return
    torch.set_num_threads(1)
    here = machine()
    trains = {data: open_data(data.removesuffix("-fresh")).splits["train"] for data in options.data.split(",")}
    asked = (options.data, options.seeds, options.families, options.weights)
    for data, seed, family, weights in itertools.product(*(value.split(",") for value in asked)):
        train = trains[data]
        others = fresh_scenes() if data.endswith("-fresh") else all_but(train, CALIBRATION)
        model = network(data.removesuffix("-fresh"), family, int(seed), options.runs)
        calibration = pictures(train, model.preprocess, CALIBRATION)
        images, labels = pictures(others, model.preprocess, len(others)), np.asarray(others.labels)
        version = planted(model, int(seed)) if weights == "planted" else model
        exact = PyTorchPredictor(version)(images)
        found = []
        for choices in OF_HEADROOM if options.headroom else CHOICES:
            figures = compared(logits(version, calibration, choices, images), exact, labels)
            found.append({"data": data, "network": family, "seed": seed, "weights": weights}
                         | named(choices) | {column: figures[column] for column in COLUMNS if column in figures}
                         | {"processor": here["processor"], "commit": here["commit"],
                            "date": datetime.date.today().isoformat(),
                            "command": "python benchmarks/int8_choices.py"})  # fmt: skip
            print(*(found[-1][column] for column in COLUMNS[:10]), flush=True)
        new = {tuple(row[column] for column in KEY) for row in found}
        kept = [old for old in read(options.csv) if tuple(old[column] for column in KEY) not in new]
        write(options.csv, COLUMNS, [*kept, *found])


if __name__ == "__main__":
    main()
