"""A predictor on a data set, from images to metrics."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from allmlp.backends import Predictor
from allmlp.data.dataset import ImageDataset
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
    """Run `predictor` over `dataset` and measure. Classes are matched by name; raises `BadData` where they differ."""
    labels, note = align_labels(dataset.classes, predictor.classes, dataset.labels)
    logits = predict_dataset(predictor, dataset, workers=workers, progress=progress)
    classes = predictor.classes or tuple(dataset.classes)
    several = labels.ndim == 2
    metrics = multilabel_metrics(logits, labels, classes) if several else classification_metrics(
        logits, labels, classes, predictor.output)
    return Evaluation(metrics, logits, labels, note)
