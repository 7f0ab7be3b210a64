"""Precision, recall and F1 of each class from three counts, and their means."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from allmlp.values import Value

Z_95 = 1.959963984540054  # the normal quantile at 0.975


class ClassMetrics(Value):
    """One class. `support` is its number of images; without any, recall, F1 and average precision are None.

    Precision is None for a class that was never predicted. Average precision is for several labels per image only.
    """

    name: str
    support: int
    precision_percent: float | None
    recall_percent: float | None
    f1_percent: float | None
    average_precision_percent: float | None = None


def class_metrics(
    names: Sequence[str],
    hits: np.ndarray,
    predicted: np.ndarray,
    support: np.ndarray,
    average_precision_percent: Sequence[float | None] | None = None,
) -> tuple[ClassMetrics, ...]:
    """One row per class from `(K,)` counts: images rightly given the class, all given it, all that belong to it."""
    return tuple(
        ClassMetrics(
            name=name,
            support=int(support[k]),
            precision_percent=percent(hits[k], predicted[k]),
            recall_percent=percent(hits[k], support[k]),
            f1_percent=percent(2 * hits[k], predicted[k] + support[k]) if support[k] else None,
            average_precision_percent=None if average_precision_percent is None else average_precision_percent[k],
        )
        for k, name in enumerate(names)
    )


def percent(part: float, whole: float) -> float | None:
    """`part` of `whole` in percent; None of nothing."""
    return 100 * float(part) / float(whole) if whole else None


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are defined; None where none is."""
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


def wilson_interval_percent(hits: int, count: int) -> tuple[float, float] | None:
    """The 95 % interval of a rate of `hits` in `count`, after Wilson (JASA 22, 1927); None without a trial.

    Unlike the textbook's +-1.96 standard errors it is right for few images and for rates near 0 and 100 %.
    """
    if not count:
        return None
    rate, z2 = hits / count, Z_95**2
    centre = (rate + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 / (1 + z2 / count) * math.sqrt(rate * (1 - rate) / count + z2 / (4 * count**2))
    # At 0 and all hits the formula gives exactly 0 and 1, up to rounding.
    return (0.0 if hits == 0 else 100 * (centre - half), 100.0 if hits == count else 100 * (centre + half))
