"""`allmlp evaluate MODEL vtab` and `allmlp evaluate MODEL imagenet-c:DIR`: many data sets, one table."""

import argparse
import json
import sys
from pathlib import Path

from allmlp.backends import load_features, load_predictor
from allmlp.data import data_folder, kind_of, open_data
from allmlp.data.dataset import Data, ImageDataset
from allmlp.errors import BadSetting, CannotDownload

VTAB = "vtab"


def several(options: argparse.Namespace) -> bool:
    """Whether DATA is one of these, and not a single data set."""
    return options.data == VTAB or _corruptions(options.data) is not None


def run(options: argparse.Namespace) -> int:
    idle = {"--split": options.split, "--per-class": options.per_class, "--knn": options.knn, "--tta": options.tta,
            "--temperature": options.temperature, "--few-shot": options.few_shot, "--and": options.pairs,
            "--real-labels": options.real_labels, "--linear-probe": options.linear_probe and options.data != VTAB,
            "--permute": options.permute, "--any-size": options.any_size, "--other-sizes": options.other_sizes,
            "--task": options.task == "segmentation", "--val-fraction": options.val_fraction is not None,
            "--split-seed": options.split_seed is not None, "--data-dir": options.data_dir and options.data != VTAB,
            "--download": options.download and options.data != VTAB}
    if given := [flag for flag, value in idle.items() if value]:
        raise BadSetting(f"{', '.join(given)}: not for {options.data}, whose table has its own protocol; leave it out")
    return vtab(options) if options.data == VTAB else corruption(options)


def vtab(options: argparse.Namespace) -> int:
    from allmlp.evaluate.vtab import lines, probe_all

    features = load_features(options.model, options.device, options.image_size)
    folder = data_folder(options.data_dir)

    def open_task(task: str) -> Data:
        return open_data(f"{VTAB}:{task}", data_dir=folder, download=options.download, skip_bad=options.skip_bad)

    found = probe_all(features, open_task, absent=(CannotDownload,), workers=options.workers, progress=_say)
    if not found.scores:
        raise CannotDownload(f"none of VTAB's tasks is in {folder}: {next(iter(found.missing.values()))}")
    if options.json:
        print(json.dumps({"model": options.model, "data": VTAB, **found.model_dump(mode="json")}))
    else:
        print("\n".join(lines(found)))
    return 0


def corruption(options: argparse.Namespace) -> int:
    from allmlp.evaluate.corruption import lines, measure_corruptions

    folders = _corruptions(options.data)
    assert folders is not None
    predictor = load_predictor(options.model, options.device, options.image_size, options.threads)

    def open_part(folder: Path) -> ImageDataset:
        return open_data(f"imagenet-c:{folder}", skip_bad=options.skip_bad).splits["test"]

    found = measure_corruptions(predictor, folders, open_part, options.workers, _say)
    if options.json:
        print(json.dumps({"model": options.model, "data": options.data, **found.model_dump(mode="json")}))
    else:
        print("\n".join(lines(found)))
    return 0


def _corruptions(source: str) -> dict[str, dict[str, Path]] | None:
    """What of ImageNet-C a folder has; None for other data, and for a folder with a single severity in it."""
    if not source.startswith("imagenet-c:"):
        return None
    from allmlp.data.imagenet_variants import corruptions

    root = Path(kind_of(source)[1]).expanduser()
    return (corruptions(root) if root.is_dir() else {}) or None


def _say(what: str) -> None:
    print(what, file=sys.stderr)
