"""Metrics of several labels per image: each class is a yes-or-no question of its own.

Average precision of a class is the area under its precision-recall steps, without interpolation:
    AP = sum over thresholds n of (recall_n - recall_(n-1)) * precision_n,
images with equal logits passing a threshold together. Yes means a probability above 0.5 (a logit above 0). Means over
classes are over those that some image has.
"""

from collections.abc import Sequence

import numpy as np

from allmlp.errors import BadData
from allmlp.evaluate.probabilities import check_indicators, check_logits, negative_log_likelihood
from allmlp.evaluate.scores import ClassMetrics, class_metrics, mean, percent
from allmlp.values import Value


class MultiLabelMetrics(Value):
    """How well the labels of `count` images were found. Rates are None where nothing defines them (no image)."""

    count: int
    mean_average_precision_percent: float | None
    micro_f1_percent: float | None  # over all (image, class) pairs; None where no label holds and none was predicted
    macro_f1_percent: float | None  # mean F1
    exact_match_percent: float | None  # images with every label right
    negative_log_likelihood: float | None  # nats per image, summed over classes
    classes: tuple[ClassMetrics, ...]


def multilabel_metrics(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> MultiLabelMetrics:
    """`logits` `(N, K)`, `labels` `(N, K)` of 0 and 1, `classes` K names.

    Raises `BadData` for shapes that do not fit, other labels, and logits that are not finite (says how many).
    """
    check_indicators(labels)
    check_logits(logits, len(labels), len(classes))
    if labels.shape != logits.shape:
        raise BadData(f"labels are {labels.shape}, but there are {len(classes)} classes")
    held, said = labels.astype(bool), logits > 0
    hits, predicted, support = (pairs.sum(axis=0) for pairs in (held & said, said, held))
    precisions = [average_precision_percent(logits[:, k], held[:, k]) for k in range(len(classes))]
    rows = class_metrics(classes, hits, predicted, support, precisions)
    return MultiLabelMetrics(
        count=len(labels),
        mean_average_precision_percent=mean(precisions),
        micro_f1_percent=percent(2 * hits.sum(), predicted.sum() + support.sum()),
        macro_f1_percent=mean(row.f1_percent for row in rows),
        exact_match_percent=percent((held == said).all(axis=1).sum(), len(labels)),
        negative_log_likelihood=mean(negative_log_likelihood(logits, labels, "sigmoid").tolist()),
        classes=rows,
    )


def average_precision_percent(scores: np.ndarray, held: np.ndarray) -> float | None:
    """Of one class: `scores` `(N,)`, any increasing function of the probability; `held` `(N,)` bool.

    None where no image has the class.
    """
    if not held.any():
        return None
    order = np.argsort(-scores, kind="stable")
    hits = held[order].cumsum()
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # the last image of each group of equal scores
    precision = hits[last] / (last + 1)
    recall = hits[last] / hits[-1]
    return 100 * float((np.diff(recall, prepend=0) * precision).sum())
