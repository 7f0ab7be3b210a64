"""The images a network is most sure of and wrong about: the first place to look for bad labels and odd pictures."""

from dataclasses import dataclass

import numpy as np

from allmlp.evaluate.probabilities import (
    LossKind,
    check_class_numbers,
    check_indicators,
    check_logits,
    sigmoid,
    top_probability,
)


@dataclass(frozen=True)
class Mistake:
    """Image `index` has the classes `true` (one, or several in a multi-label set), but was called `predicted`."""

    index: int
    true: tuple[int, ...]
    predicted: int
    probability: float  # of `predicted`, in [0, 1]


def worst_mistakes(
    logits: np.ndarray, labels: np.ndarray, count: int = 24, loss: LossKind = "softmax"
) -> tuple[Mistake, ...]:
    """At most `count` mistakes, the most confident first, equal ones by index.

    `logits` `(N, K)`; `labels` class numbers `(N,)`, or 0 and 1 `(N, K)`: then, per image, the most probable class that
    does not hold, where that is above 0.5. Raises `BadData` like the metrics.
    """
    if labels.ndim == 1:
        check_class_numbers(labels, logits.shape[1])
    else:
        check_indicators(labels)
    check_logits(logits, len(labels), logits.shape[1])
    if labels.ndim == 1:
        predicted = logits.argmax(axis=1)
        confidence = top_probability(logits, loss)
        wrong = np.flatnonzero(predicted != labels)
    else:
        wrongly = np.where(labels.astype(bool), -1.0, sigmoid(logits))
        predicted, confidence = wrongly.argmax(axis=1), wrongly.max(axis=1)
        wrong = np.flatnonzero(confidence > 0.5)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    return tuple(
        Mistake(int(i), _held(labels[i]), int(predicted[i]), float(confidence[i])) for i in worst
    )


def _held(label: np.ndarray) -> tuple[int, ...]:
    return (int(label),) if label.ndim == 0 else tuple(int(k) for k in np.flatnonzero(label))
