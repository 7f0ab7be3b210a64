"""What logits say to a person: the likeliest classes by name, with probabilities."""

from collections.abc import Sequence

import numpy as np


def to_probabilities(logits: np.ndarray, output: str) -> np.ndarray:
    """`(N, K)` to `(N, K)`: over all classes together ("softmax"), or each for itself ("sigmoid")."""
    if output == "sigmoid":
        return np.exp(-np.logaddexp(0, -logits))
    return np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def top_classes(probabilities: np.ndarray, classes: Sequence[str] | None, top: int) -> list[dict]:
    """The `top` likeliest of `(K,)` as `{"class", "probability"}`; a model without class names gives class numbers."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [{"class": classes[k] if classes else str(k), "probability": float(probabilities[k])} for k in order]
