"""From logits to probabilities, in float64, and the checks that all metrics share."""

from typing import Literal

import numpy as np

from allmlp.errors import BadData

LossKind = Literal["softmax", "sigmoid"]

BLOCK = 4096  # images worked on at a time: a float64 copy of all logits of ImageNet-21k would take gigabytes


def top_probability(logits: np.ndarray, loss: LossKind) -> np.ndarray:
    """The probability of the most probable class of each image: `(N, K)` to `(N,)`."""
    top = logits.max(axis=1).astype(np.float64)
    if loss == "sigmoid":
        return sigmoid(top)
    blocks = (slice(i, i + BLOCK) for i in range(0, len(logits), BLOCK))
    return np.concatenate([top[:0], *(1 / np.exp(logits[b] - top[b, None]).sum(axis=1) for b in blocks)])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """`(N, K)` to the logarithms of probabilities that sum to 1 in each row."""
    shifted = logits - logits.max(axis=1, keepdims=True).astype(np.float64)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Each logit to a probability of its own; the form through tanh never overflows."""
    return 0.5 * (1 + np.tanh(logits.astype(np.float64) / 2))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray, loss: LossKind) -> np.ndarray:
    """What each image costs, in nats `(N,)`, with no label smoothing and no class weights.

    `labels`: class numbers `(N,)`, or for "sigmoid" also 0 and 1 `(N, K)`. "sigmoid" sums over the classes.
    """
    if loss == "softmax":
        return -log_softmax(logits)[np.arange(len(labels)), labels]
    wide = logits.astype(np.float64)
    held = wide[np.arange(len(labels)), labels] if labels.ndim == 1 else (wide * labels).sum(axis=1)
    return np.logaddexp(0, wide).sum(axis=1) - held  # -log sigmoid(x) = softplus(x) - x


def check_logits(logits: np.ndarray, num_images: int, num_classes: int) -> None:
    """Raises `BadData` unless `logits` are finite and `(num_images, num_classes)`."""
    if num_classes < 1:
        raise BadData("no classes: give at least one class name")
    if logits.shape != (num_images, num_classes):
        raise BadData(f"logits are {logits.shape}, expected ({num_images}, {num_classes}): one row per image, one "
                      "column per class name")
    bad = int((~np.isfinite(logits).all(axis=1)).sum())
    if bad:
        raise BadData(f"the logits of {bad} of {num_images} images are not finite (NaN or infinite): the weights are "
                      "damaged or training diverged; take an earlier checkpoint")


def check_class_numbers(labels: np.ndarray, num_classes: int) -> None:
    """Raises `BadData` unless `labels` are integers `(N,)` in [0, num_classes)."""
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise BadData(f"labels must be integers (N,), not {labels.dtype} {labels.shape}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise BadData(f"labels run from {labels.min()} to {labels.max()}, but there are {num_classes} classes, "
                      f"0 to {num_classes - 1}")


def check_indicators(labels: np.ndarray) -> None:
    """Raises `BadData` unless `labels` are 0 and 1, `(N, K)`."""
    if labels.ndim != 2 or not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
        raise BadData(f"labels of several classes per image must be integers (N, K), not {labels.dtype} {labels.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise BadData(f"labels of several classes per image must be 0 or 1, found {labels.min()} to {labels.max()}")
