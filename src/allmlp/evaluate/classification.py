"""Metrics of one label per image.

Where logits tie, the lower class number wins, in top-1 as in top-5. Means over classes (balanced accuracy, macro F1)
are over the classes that have images, so that a model of 1000 classes can be measured on a set of 10.
"""

from collections.abc import Sequence

import numpy as np

from allmlp.evaluate.calibration import ReliabilityBin, calibration_error_percent, reliability_table
from allmlp.evaluate.probabilities import (
    BLOCK,
    LossKind,
    check_class_numbers,
    check_logits,
    negative_log_likelihood,
    top_probability,
)
from allmlp.evaluate.scores import ClassMetrics, class_metrics, mean, percent, wilson_interval_percent
from allmlp.values import Value


class Metrics(Value):
    """How well `count` images were classified. All rates are None without images."""

    count: int
    top1_percent: float | None
    top1_interval_percent: tuple[float, float] | None  # 95 %, Wilson
    top5_percent: float | None  # None with 5 classes or fewer, where it says nothing
    balanced_accuracy_percent: float | None  # mean recall
    macro_f1_percent: float | None  # mean F1
    negative_log_likelihood: float | None  # nats per image; for "sigmoid" the sum over classes
    calibration_error_percent: float | None  # see `calibration.py`
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, int, int], ...]  # (true, predicted, images) where there are images, in that order
    reliability: tuple[ReliabilityBin, ...]

    def confusion_matrix(self) -> np.ndarray:
        """int64 `(K, K)`, rows true, columns predicted (4 GB for the classes of ImageNet-21k: hence the list)."""
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for true, predicted, images in self.confusion:
            matrix[true, predicted] = images
        return matrix


def classification_metrics(
    logits: np.ndarray, labels: np.ndarray, classes: Sequence[str], loss: LossKind = "softmax"
) -> Metrics:
    """`logits` `(N, K)`, `labels` class numbers `(N,)`, `classes` K names; `loss` is what the network was trained with.

    With "sigmoid" the confidence of a prediction is the sigmoid of its logit. Raises `BadData` for shapes that do not
    fit, labels out of range and logits that are not finite (says how many).
    """
    check_class_numbers(labels, len(classes))
    check_logits(logits, len(labels), len(classes))
    count, num_classes = logits.shape
    predicted = logits.argmax(axis=1)
    blocks = [slice(i, i + BLOCK) for i in range(0, max(count, 1), BLOCK)]
    rank = np.concatenate([_rank(logits[block], labels[block]) for block in blocks])
    nats = np.concatenate([negative_log_likelihood(logits[block], labels[block], loss) for block in blocks])
    right = rank == 0
    hits = int(right.sum())
    rows = class_metrics(
        classes,
        hits=np.bincount(labels[right], minlength=num_classes),
        predicted=np.bincount(predicted, minlength=num_classes),
        support=np.bincount(labels, minlength=num_classes),
    )
    reliability = reliability_table(top_probability(logits, loss), right)
    return Metrics(
        count=count,
        top1_percent=percent(hits, count),
        top1_interval_percent=wilson_interval_percent(hits, count),
        top5_percent=percent((rank < 5).sum(), count) if num_classes > 5 else None,
        balanced_accuracy_percent=mean(row.recall_percent for row in rows),
        macro_f1_percent=mean(row.f1_percent for row in rows),
        negative_log_likelihood=float(nats.mean()) if count else None,
        calibration_error_percent=calibration_error_percent(reliability),
        classes=rows,
        confusion=_confusion(labels, predicted),
        reliability=reliability,
    )


def _rank(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes stand before the true one, `(N,)`: 0 where argmax is right."""
    true = logits[np.arange(len(labels)), labels][:, None]
    lower = np.arange(logits.shape[1]) < labels[:, None]
    return ((logits > true) | ((logits == true) & lower)).sum(axis=1)


def _confusion(labels: np.ndarray, predicted: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    pairs, images = np.unique(np.stack([labels, predicted], axis=1), axis=0, return_counts=True)
    return tuple((int(t), int(p), int(n)) for (t, p), n in zip(pairs, images, strict=True))
