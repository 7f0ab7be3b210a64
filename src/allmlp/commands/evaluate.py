"""`allmlp evaluate`."""

import argparse
import json
from pathlib import Path

import torch

from allmlp.backends import Predictor, load_features, load_predictor
from allmlp.commands.source import open_source, source_of
from allmlp.data import canonical
from allmlp.data.dataset import Data
from allmlp.errors import BadData, BadSetting, printable
from allmlp.evaluate.classification import Metrics
from allmlp.evaluate.dataset import Evaluation, evaluate_dataset
from allmlp.evaluate.knn import knn_predictor
from allmlp.evaluate.linear import linear_probe
from allmlp.train import run_folder


def run(options: argparse.Namespace) -> int:
    if options.threads:
        torch.set_num_threads(options.threads)
    frozen = bool(options.knn or options.linear_probe)
    load = load_features if frozen else load_predictor
    predictor = load(options.model, options.device, options.image_size)
    data = open_source(options, source_of(options), split_of_run(options.model, options.data))
    split = options.split or next(name for name in ("test", "val", "train") if name in data.splits)
    if split not in data.splits:
        raise BadData(f"{data.name} has no {split} split; it has {', '.join(data.splits)}")
    if frozen:
        predictor = fitted(predictor, data, split, options)
    found = evaluate_dataset(predictor, data.splits[split], workers=options.workers)
    if options.json:
        print(json.dumps({"model": options.model, "data": options.data, "split": split, "notes": list(data.notes),
                          "classifier": classifier(options), "alignment": found.note,
                          **found.metrics.model_dump(mode="json")}))
    else:
        notes = [*data.notes, *([f"by {classifier(options)}, not by the network's head"] if frozen else [])]
        for line in lines(found, split, notes, options.per_class):
            print(line)
    return 0


def fitted(features: Predictor, data: Data, split: str, options: argparse.Namespace) -> Predictor:
    """The classifier on frozen features that the options ask for. Raises `BadSetting` for the images it learnt from."""
    if split == "train":
        raise BadSetting(f"{classifier(options)} is fitted on the training images and cannot be measured on them; "
                         f"{data.name} needs a test or val split")
    train = data.splits["train"]
    if options.knn:
        return knn_predictor(features, train, options.knn, workers=options.workers)
    return linear_probe(features, train, workers=options.workers)


def classifier(options: argparse.Namespace) -> str:
    """What names the classes, in words."""
    if options.knn:
        return f"the {options.knn} nearest neighbours among the training images' features"
    return "a linear probe on the training images' features" if options.linear_probe else "the network"


def split_of_run(model: str, data: str) -> dict[str, list[str]] | None:
    """What a run held out of this very folder, so that it is not measured on images it learnt from."""
    folder = Path(model) if Path(model).is_dir() else Path(model).parent
    if not (folder / "run.json").exists():
        return None
    source = run_folder.read_run(folder).get("source") or {}
    return run_folder.read_split(folder) if source.get("data") == canonical(data) else None


def lines(found: Evaluation, split: str, notes: list[str], per_class: bool) -> list[str]:
    """The result for a terminal."""
    metrics = found.metrics
    text = [*notes, *([found.note] if found.note else [])]
    if isinstance(metrics, Metrics):
        low, high = metrics.top1_interval_percent or (0.0, 0.0)
        text.append(f"{split} accuracy {percent(metrics.top1_percent)} on {metrics.count:,} images "
                    f"(95 % interval {low:.2f} to {high:.2f} %)")
        if metrics.top5_percent is not None:
            text.append(f"top-5 {percent(metrics.top5_percent)}")
        text.append(f"balanced accuracy {percent(metrics.balanced_accuracy_percent)}, "
                    f"macro F1 {percent(metrics.macro_f1_percent)}, "
                    f"calibration error {percent(metrics.calibration_error_percent)}")
    else:
        text.append(f"{split} mAP {percent(metrics.mean_average_precision_percent)} on {metrics.count:,} images, "
                    f"micro F1 {percent(metrics.micro_f1_percent)}, macro F1 {percent(metrics.macro_f1_percent)}, "
                    f"all labels right {percent(metrics.exact_match_percent)}")
    if per_class:
        width = max(len(row.name) for row in metrics.classes)
        text.append(f"{'class':{width}}  precision   recall       F1   images")
        text += [f"{printable(row.name):{width}}  {percent(row.precision_percent):>9}{percent(row.recall_percent):>9}"
                 f"{percent(row.f1_percent):>9}{row.support:>9,}" for row in metrics.classes]
    return text


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} %"
