"""A predictor on a data set, from images to metrics."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from allmlp.backends import Predictor
from allmlp.data.dataset import ImageDataset, soft
from allmlp.errors import BadData, printable
from allmlp.evaluate.classification import Metrics, classification_metrics
from allmlp.evaluate.multilabel import MultiLabelMetrics, multilabel_metrics
from allmlp.evaluate.names import align_labels
from allmlp.evaluate.predict import predict_dataset


@dataclass(frozen=True)
class Evaluation:
    """`logits` float32 `(N, K)`; `labels` as the model numbers its classes; `note`: what a person should know."""

    metrics: Metrics | MultiLabelMetrics
    logits: np.ndarray
    labels: np.ndarray
    note: str | None

    @property
    def score_percent(self) -> float | None:
        """The one number: top-1, or mean average precision where images have several labels."""
        metrics = self.metrics
        return metrics.top1_percent if isinstance(metrics, Metrics) else metrics.mean_average_precision_percent

    @property
    def score_name(self) -> str:
        return "accuracy" if isinstance(self.metrics, Metrics) else "mAP"


def evaluate_dataset(
    predictor: Predictor,
    dataset: ImageDataset,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Run `predictor` over `dataset` and measure. Classes are matched by name; raises `BadData` where they differ.
    Of soft labels the class with the largest share counts as the right one."""
    align_labels(dataset.classes, predictor.classes, dataset.labels)  # refuses at once what cannot be measured
    height, width = predictor.preprocess.image_size
    check_number(predictor(np.empty((0, height, width, 3), np.uint8)).shape[1], predictor, dataset)
    return measure(predict_dataset(predictor, dataset, workers=workers, progress=progress), predictor, dataset)


def measure(logits: np.ndarray, predictor: Predictor, dataset: ImageDataset) -> Evaluation:
    """The metrics of a predictor's `logits` `(N, K)` on the images of `dataset`."""
    labels, note = align_labels(dataset.classes, predictor.classes, dataset.labels)
    check_number(logits.shape[1], predictor, dataset)
    classes = predictor.classes or tuple(dataset.classes)
    if soft(labels):
        labels = labels.argmax(1)
        note = "; ".join(filter(None, (note, "soft labels: the class with the largest share counts as the right one")))
    several = labels.ndim == 2
    metrics = multilabel_metrics(logits, labels, classes) if several else classification_metrics(
        logits, labels, classes, predictor.output)
    return Evaluation(metrics, logits, labels, note)


def check_number(num_classes: int, predictor: Predictor, dataset: ImageDataset) -> None:
    """Raises `BadData` where classes without names, which are matched by number, are not as many as the data's."""
    if predictor.classes is None and num_classes != len(dataset.classes):
        named = [printable(repr(name), 80) for name in dataset.classes[:5]]
        raise BadData(f"the network has {num_classes} classes without names, and the data {len(dataset.classes)}: "
                      f"{', '.join(named)}{', …' if len(dataset.classes) > 5 else ''}; evaluate on data with the "
                      "network's classes, or train on this data")
