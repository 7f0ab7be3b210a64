"""How a command opens its DATA: the options of `train` and `evaluate` that say so, kept with a run."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from allmlp.data import SOURCES, open_data
from allmlp.data.dataset import Data

VAL_FRACTION, SPLIT_SEED = 0.2, 0


def source_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say, with defaults filled in; a folder by its absolute path, so that `--resume` finds it."""
    return {
        "data": options.data if options.data in SOURCES else str(Path(options.data).resolve()),
        "val_fraction": VAL_FRACTION if options.val_fraction is None else options.val_fraction,
        "seed": SPLIT_SEED if options.split_seed is None else options.split_seed,
        "skip_bad": options.skip_bad,
    }


def open_source(
    options: argparse.Namespace, source: Mapping[str, Any], split_files: Mapping[str, Sequence[str]] | None = None
) -> Data:
    """The data, with a note for each option that has no effect on it. Raises what `open_data` does."""
    data = open_data(options.data, val_fraction=source["val_fraction"], seed=source["seed"],
                     skip_bad=source["skip_bad"], split_files=split_files)
    given = {"--val-fraction": options.val_fraction, "--split-seed": options.split_seed}
    if data.split_files is None or split_files is not None:
        why = "the split is that of the run" if split_files is not None else "the data has its own splits"
        idle = tuple(f"{flag} has no effect: {why}" for flag, value in given.items() if value is not None)
        data = Data(data.name, data.classes, data.splits, (*data.notes, *idle), data.split_files)
    return data
