"""A whole training: the loop, then the final measurement, `results.json` and `report.html`."""

import datetime
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allmlp.backends import Predictor
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.data import open_data
from allmlp.data.dataset import Data, ImageDataset, is_mapped
from allmlp.evaluate import SegmentationEvaluation, evaluate_segmentation, worst_mistakes
from allmlp.evaluate.dataset import Evaluation, evaluate_dataset
from allmlp.evaluate.pixels import as_pixel_predictor
from allmlp.inspection.flops import count_macs, count_parameters
from allmlp.models.model import Model
from allmlp.recipe import Recipe
from allmlp.report import RunReport, Speed, mistake_pictures, write_report
from allmlp.report.overlays import overlay_pictures
from allmlp.train import run_folder
from allmlp.train.distributed import ALONE, Processes
from allmlp.train.judge import judge, kind_of_score
from allmlp.train.loop import Outcome, run
from allmlp.train.start import network_name
from allmlp.train.state import Counters

SPEED_BATCHES = (1, 64)
SPEED_SECONDS = 0.5  # of measuring, for each batch size


@dataclass(frozen=True)
class Result:
    """What a training came to. `summary` is what `results.json` holds; empty for a run stopped by a signal."""

    output: Path
    model: Model
    counters: Counters
    stopped: str | None
    summary: dict[str, Any]

    def lines(self) -> list[str]:
        """The result for a terminal."""
        text = []
        for split, found in self.summary["splits"].items():
            line = f"{split} {found['score_name']} {found['score_percent']:.2f} % on {found['count']:,} images"
            if found.get("interval_percent"):
                line += " (95 % interval {:.2f} to {:.2f} %)".format(*found["interval_percent"])
            text.append(line)
        epochs = self.summary["epochs"]
        text.append(f"trained {epochs} epoch{'' if epochs == 1 else 's'} in {self.summary['seconds']:.0f} s; "
                    f"{self.summary['parameters']:,} parameters; best epoch {self.counters.best_epoch}")
        text.append(f"checkpoint {self.output / 'best.safetensors'}")
        text.append(f"report {self.output / 'report.html'}")
        return text


def train(
    recipe: Recipe,
    data: Data | str,
    output: str | Path,
    *,
    workers: int = 0,
    source: dict[str, Any] | None = None,
    processes: Processes = ALONE,
    **how: Any,
) -> Result:
    """Train `recipe` on `data` (a `Data`, "digits", or a folder) into the run folder `output`, measure, and report.

    See `loop.run` for the arguments, also those in `how`, and the errors. `source`: how `data` was opened, noted so
    that `--resume` can open it again. Of several `processes` the first measures and reports.
    """
    output = Path(output)
    if isinstance(data, str):
        source = source or {"data": data, "val_fraction": 0.2, "seed": 0, "skip_bad": False}
        data = open_data(data)
    outcome = run(recipe, data, output, workers=workers, source=source, processes=processes, **how)
    if (outcome.stopped and outcome.stopped.startswith("SIG")) or not processes.first:
        return Result(output, outcome.model, outcome.counters, outcome.stopped, {})
    predictor = judge(outcome.model, data.splits["train"], workers)
    found = {split: measured(predictor, data.splits[split], workers)
             for split in ("val", "test") if split in data.splits}
    summary = summarise(outcome, recipe, found)
    run_folder.write_json(output / "results.json", summary)
    report(outcome, recipe, data, found)
    return Result(output, outcome.model, outcome.counters, outcome.stopped, summary)


def measured(predictor: Predictor, dataset: ImageDataset, workers: int) -> Evaluation | SegmentationEvaluation:
    if is_mapped(dataset):
        return evaluate_segmentation(as_pixel_predictor(predictor, "the network"), dataset)
    return evaluate_dataset(predictor, dataset, workers)


def summarise(outcome: Outcome, recipe: Recipe,
              found: dict[str, Evaluation | SegmentationEvaluation]) -> dict[str, Any]:
    """`results.json`: the final metrics of each held-out split, and what they cost."""
    counters, config = outcome.counters, outcome.model.config
    return {
        "run": str(outcome.output), "recipe": recipe.name, "model": recipe.model, "data": recipe.data,
        "seed": recipe.seed, "epochs": len(counters.history), "best_epoch": counters.best_epoch,
        "seconds": round(counters.seconds, 3), "stopped": outcome.stopped, "finished_by": outcome.finished_by,
        "train_loss": counters.history[-1]["train_loss"] if counters.history else None,
        "parameters": count_parameters(config), "macs": count_macs(config),
        "splits": {
            split: {"score_name": kind_of_score(outcome.model, evaluation.score_name),
                    "score_percent": evaluation.score_percent,
                    "interval_percent": getattr(evaluation.metrics, "top1_interval_percent", None),
                    **evaluation.metrics.model_dump(mode="json", exclude={"classes", "confusion", "reliability"})}
            for split, evaluation in found.items()
        },
    }  # fmt: skip


def report(outcome: Outcome, recipe: Recipe, data: Data,
           found: dict[str, Evaluation | SegmentationEvaluation]) -> None:
    """Write `report.html`: the test split where there is one, else the validation split."""
    split = "test" if "test" in found else "val" if "val" in found else None
    evaluation = found[split] if split else None
    mistakes, overlays = (), ()
    if isinstance(evaluation, SegmentationEvaluation) and split is not None:
        overlays = overlay_pictures(PyTorchPredictor(outcome.model), data.splits[split])
    elif isinstance(evaluation, Evaluation) and split is not None:
        worst = worst_mistakes(evaluation.logits, evaluation.labels, loss=outcome.model.output)
        mistakes = mistake_pictures(worst, data.splits[split], outcome.model.classes or data.classes)
    about = run_folder.read_run(outcome.output)
    write_report(
        RunReport(
            model_name=network_name(recipe), model=outcome.model.config, data_name=data.name,
            images={name: len(dataset) for name, dataset in data.splits.items()}, split=split or "none",
            metrics=evaluation.metrics if evaluation else None, finished=datetime.datetime.now().astimezone(),
            command=about["command"], recipe_json=recipe.to_json(indent=2), history=outcome.counters.history,
            best_epoch=outcome.counters.best_epoch, mistakes=mistakes, overlays=overlays,
            augmented=list(outcome.first_images.permute(0, 2, 3, 1).numpy()),
            speed=[measure_speed(PyTorchPredictor(outcome.model), batch) for batch in SPEED_BATCHES],
            machine={"device": about["device"], "threads": about["threads"], **about["machine"]}, notes=data.notes,
        ),
        outcome.output / "report.html",
    )  # fmt: skip


def measure_speed(predictor: PyTorchPredictor, batch_size: int) -> Speed:
    """Images per second of the predictor, from uint8 images to logits: the median of the calls in half a second."""
    device = next(predictor.model.parameters()).device
    images = np.zeros((batch_size, *predictor.preprocess.image_size, 3), np.uint8)
    predictor(images)
    seconds, end = [], time.perf_counter() + SPEED_SECONDS
    while time.perf_counter() < end or len(seconds) < 3:
        start = time.perf_counter()
        predictor(images)  # ends with a copy to the CPU, which waits for the device
        seconds.append(time.perf_counter() - start)
    threads = torch.get_num_threads() if device.type == "cpu" else None
    return Speed(batch_size, batch_size / float(np.median(seconds)), str(device), threads)
