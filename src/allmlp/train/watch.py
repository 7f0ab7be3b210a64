"""Measuring a network while it learns, each process its part of the images."""

from typing import Any

import numpy as np

from allmlp.backends import Predictor
from allmlp.data.dataset import Data, ImageDataset, Subset, is_mapped
from allmlp.data.memory import kept_where_it_fits
from allmlp.errors import BadSetting
from allmlp.evaluate.dataset import measure
from allmlp.evaluate.pixels import as_pixel_predictor
from allmlp.evaluate.predict import predict_dataset
from allmlp.evaluate.segmentation import Counts, count_dataset, metrics_of
from allmlp.models.model import Model
from allmlp.preprocess import Preprocess
from allmlp.recipe import Recipe
from allmlp.train.distributed import Processes
from allmlp.train.judge import judge, kind_of_score


class Watch:
    """What is measured after each epoch: `split`, the validation split, else the test split, else None.

    Raises `BadSetting` where the recipe stops early by a validation split that is not there. Images are read once and
    kept where they fit. A network that is judged by its neighbours is watched only where the
    training images fit too: otherwise that would take longer than to learn.
    """

    def __init__(self, data: Data, preprocess: Preprocess, recipe: Recipe, processes: Processes, workers: int):
        self.processes, self.workers = processes, workers
        self.split = "val" if "val" in data.splits else "test" if "test" in data.splits else None
        self.train = data.splits["train"]
        if recipe.dino and self.split:
            self.train = kept_where_it_fits(self.train, preprocess, workers)
            self.split = self.split if self.train is not data.splits["train"] else None
        if recipe.early_stopping_epochs and self.split != "val":
            raise BadSetting("early_stopping_epochs needs a validation split (a val/ folder), and there is none")
        if self.split:
            self.images: ImageDataset = data.splits[self.split]
            mine = self.images
            if processes.count > 1:
                mine = Subset(mine, np.arange(processes.rank, len(mine), processes.count))
            self.mine = mine if is_mapped(mine) else kept_where_it_fits(mine, preprocess, workers)

    def row(self, network: Model) -> dict[str, Any]:
        """What `network` comes to, as part of a row of the history; the same in all processes, which ask together."""
        if self.split is None:
            return {}
        predictor, processes = judge(network, self.train, self.workers), self.processes
        if is_mapped(self.images):
            pixels = as_pixel_predictor(predictor, "the network")
            counts = processes.gather(processes.agreed(lambda: count_dataset(pixels, self.mine)[0]))
            return processes.from_first(processes.agreed(lambda: self._overlap(counts) if processes.first else {}))
        parts = processes.gather(processes.agreed(lambda: predict_dataset(predictor, self.mine, self.workers)))
        return processes.from_first(processes.agreed(
            lambda: self._measured(parts, predictor, network) if processes.first else {}))

    def _overlap(self, counts: list[Counts]) -> dict[str, Any]:
        metrics = metrics_of(sum(counts[1:], counts[0]), tuple(self.images.classes))
        return {"eval_split": self.split, "eval_loss": metrics.negative_log_likelihood,
                "eval_score": metrics.mean_iou_percent, "score_name": "mIoU",
                "eval_pixel_accuracy": metrics.pixel_accuracy_percent}

    def _measured(self, parts: list[np.ndarray], predictor: Predictor, network: Model) -> dict[str, Any]:
        logits = np.empty((len(self.images), parts[0].shape[1]), np.float32)
        for rank, part in enumerate(parts):
            logits[rank :: self.processes.count] = part
        found = measure(logits, predictor, self.images)
        return {"eval_split": self.split, "eval_loss": found.metrics.negative_log_likelihood,
                "eval_score": found.score_percent, "score_name": kind_of_score(network, found.score_name),
                "eval_top1": getattr(found.metrics, "top1_percent", None),
                "eval_top5": getattr(found.metrics, "top5_percent", None)}
