"""How a command opens its DATA: the options of `train` and `evaluate` that say so, kept with a run."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from allmlp.backends import manifest as manifests
from allmlp.data import AT_HAND, KINDS, SOURCES, canonical, data_folder, kind_of, open_data
from allmlp.data.dataset import Data
from allmlp.errors import AllMLPError, BadData, BadSetting

VAL_FRACTION, SPLIT_SEED = 0.2, 0


def source_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say, with defaults filled in; a path by its absolute one, so that `--resume` finds it."""
    return {
        "data": canonical(options.data),
        "val_fraction": VAL_FRACTION if options.val_fraction is None else options.val_fraction,
        "seed": SPLIT_SEED if options.split_seed is None else options.split_seed,
        "skip_bad": options.skip_bad,
        "data_dir": str(data_folder(options.data_dir).resolve()),
    }


def reopened(source: Mapping[str, Any], split_files: Mapping[str, Sequence[str]] | None) -> Data:
    """The data of an earlier run, opened as `source_of` then said. Raises what `open_data` does."""
    choices = {name: value for name, value in source.items() if name != "data"}
    known = {"val_fraction", "seed", "skip_bad", "data_dir"}
    if not isinstance(source.get("data"), str):
        raise BadData("the run does not say where its data is; give DATA too")
    if not choices.keys() <= known:
        raise BadData("how the run's data was opened, a newer version of allmlp wrote; go on with that version")
    return open_data(source["data"], split_files=split_files, **choices)


def lost_place(source: Mapping[str, Any]) -> str | None:
    """Where the data of an earlier run lay, of which nothing is there any more; None for other data."""
    data = str(source.get("data"))
    kind, _, where = data.partition(":")
    place = where if kind in KINDS else data
    if kind == "vtab" or (data in SOURCES and data not in AT_HAND):
        place = str(source.get("data_dir"))
    a_pattern = any(sign in place for sign in "*?[{")
    return None if a_pattern or not os.path.isabs(place) or os.path.exists(place) else place


def run_folder_of(model: str) -> Path | None:
    """The run folder that a MODEL is or lies in; None where it is of no run."""
    if not os.path.exists(model):  # a name, which lies in no folder, be the current one a run or not
        return None
    folder = Path(model) if os.path.isdir(model) else Path(model).parent
    return folder if os.path.exists(folder / "run.json") else None


def run_data(model: str) -> Data | None:
    """The data that a MODEL's run learnt from, split as it was then; None without a run, or where it is not there any
    more."""
    from allmlp.train import run_folder

    folder = run_folder_of(model)
    try:
        return folder and reopened(run_folder.read_run(folder).get("source") or {}, run_folder.read_split(folder))
    except AllMLPError:
        return None


def split_of_run(model: str, options: argparse.Namespace) -> dict[str, list[str]] | None:
    """What the run that a MODEL is of, or was exported from, held out of this very DATA: it is not to be measured on
    images it learnt from. Of an exported folder it is drawn again, as that says."""
    if manifests.is_export(model):
        division = manifests.read(model).division
        if division is None or division.data != canonical(options.data):
            return None
        how = {"val_fraction": division.val_fraction, "seed": division.seed}
        drawn = open_source(options, source_of(options) | how).split_files
        return None if drawn is None else {split: list(files) for split, files in drawn.items()}
    from allmlp.train import run_folder

    folder = run_folder_of(model)
    if folder is None:
        return None
    source = run_folder.read_run(folder).get("source") or {}
    return run_folder.read_split(folder) if source.get("data") == canonical(options.data) else None


def division_of_run(model: str) -> manifests.Division | None:
    """How the run that a MODEL is of held images out, for what is exported from it; None where it drew nothing, or its
    description is damaged or says too little."""
    from allmlp.train import run_folder

    folder = run_folder_of(model)
    try:
        if folder is None or run_folder.read_split(folder) is None:
            return None
        source = run_folder.read_run(folder).get("source") or {}
        how: dict[str, Any] = {name: source.get(name) for name in manifests.Division.model_fields}
        return manifests.Division(**how)
    except AllMLPError:
        return None


def as_learnt(model: str, data: Data, options: argparse.Namespace) -> Data:
    """`data`, which the options opened, divided as in the run that a MODEL is of, where that learnt from it.

    What a run held out whose description is damaged is not known: then `data` as it is. Raises what opening does."""
    try:
        split = split_of_run(model, options)
    except AllMLPError:
        return data
    return data if split is None else open_source(options, source_of(options), split)


def open_source(
    options: argparse.Namespace, source: Mapping[str, Any], split_files: Mapping[str, Sequence[str]] | None = None
) -> Data:
    """The data, with a note for each option that has no effect on it. Raises what `open_data` does."""
    data = open_data(options.data, val_fraction=source["val_fraction"], seed=source["seed"],
                     skip_bad=source["skip_bad"], split_files=split_files, data_dir=source["data_dir"],
                     download=options.download)
    idle: list[str] = []
    if data.split_files is None or split_files is not None:
        why = "the split is that of the run" if split_files is not None else "the data has its own splits"
        given = {"--val-fraction": options.val_fraction, "--split-seed": options.split_seed}
        idle += [f"{flag} has no effect: {why}" for flag, value in given.items() if value is not None]
    kind, name = kind_of(options.data)
    if options.download and (kind not in ("name", "hf", "vtab") or name in AT_HAND):
        idle.append("--download has no effect: only named data sets and those of the Hub are fetched by it")
    if options.data_dir and (kind not in ("name", "vtab") or name in AT_HAND):
        idle.append("--data-dir has no effect: only named data sets lie there")
    return replace(data, notes=(*data.notes, *idle))


def given_flags(options: argparse.Namespace) -> list[str]:
    """The options that say how DATA is opened, as far as the command has them and they were given."""
    given = {"--val-fraction": getattr(options, "val_fraction", None) is not None,
             "--split-seed": getattr(options, "split_seed", None) is not None,
             "--skip-bad": getattr(options, "skip_bad", False), "--data-dir": options.data_dir,
             "--download": options.download}
    return [flag for flag, value in given.items() if value]


def refuse_idle(options: argparse.Namespace, further: Mapping[str, object] = MappingProxyType({})) -> None:
    """Raises `BadSetting` for options that say how DATA is opened, without one: that of a run is opened as it was.

    `further`: other options about DATA, by their flags, and what they were given."""
    if options.data:
        return
    if idle := given_flags(options):
        raise BadSetting(f"{idle[0]} says how DATA is opened; give --data too")
    if idle := [flag for flag, value in further.items() if value]:
        raise BadSetting(f"{idle[0]} is about the images of DATA; give --data too")


def refuse_masks(data: Data, what: str) -> None:
    """Raises `BadSetting` for data with a mask for each image, for `what` knows labels of whole images only."""
    if data.task == "segmentation":
        raise BadSetting(f"{data.name} has a mask for each image, and {what} is for labels of whole images; "
                         "masks are for `allmlp train`, `evaluate` and `predict`")
