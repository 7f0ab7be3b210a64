"""`allmlp evaluate`."""

import argparse
import json
from pathlib import Path

import torch

from allmlp.backends import load_predictor
from allmlp.commands.source import open_source, source_of
from allmlp.errors import BadData
from allmlp.evaluate.classification import Metrics
from allmlp.evaluate.dataset import Evaluation, evaluate_dataset
from allmlp.train import run_folder


def run(options: argparse.Namespace) -> int:
    if options.threads:
        torch.set_num_threads(options.threads)
    predictor = load_predictor(options.model, options.device, options.image_size)
    data = open_source(options, source_of(options), split_of_run(options.model, options.data))
    split = options.split or next(name for name in ("test", "val", "train") if name in data.splits)
    if split not in data.splits:
        raise BadData(f"{data.name} has no {split} split; it has {', '.join(data.splits)}")
    found = evaluate_dataset(predictor, data.splits[split], workers=options.workers)
    if options.json:
        print(json.dumps({"model": options.model, "data": options.data, "split": split, "notes": list(data.notes),
                          "alignment": found.note, **found.metrics.model_dump(mode="json")}))
    else:
        for line in lines(found, split, list(data.notes), options.per_class):
            print(line)
    return 0


def split_of_run(model: str, data: str) -> dict[str, list[str]] | None:
    """What a run held out of this very folder, so that it is not measured on images it learnt from."""
    folder = Path(model) if Path(model).is_dir() else Path(model).parent
    if not (folder / "run.json").exists():
        return None
    source = run_folder.read_run(folder).get("source") or {}
    return run_folder.read_split(folder) if source.get("data") == str(Path(data).resolve()) else None


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
        text += [f"{row.name:{width}}  {percent(row.precision_percent):>9}{percent(row.recall_percent):>9}"
                 f"{percent(row.f1_percent):>9}{row.support:>9,}" for row in metrics.classes]
    return text


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} %"
