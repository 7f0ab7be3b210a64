"""Does a predictor that says 80 % hit 80 times in 100? The reliability table and the expected calibration error.

Source: Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599), equations 2 and 3: images are put
into 15 bins of equal width by the probability of the predicted class, bin i being (i/15, (i+1)/15], and
    ECE = sum over bins of (images of the bin / N) * |accuracy of the bin - mean confidence of the bin|.
"""

import numpy as np

from allmlp.values import Value

BINS = 15


class ReliabilityBin(Value):
    """The images whose confidence is in (low, high]; both rates are None where there is none."""

    low_percent: float
    high_percent: float
    count: int
    confidence_percent: float | None
    accuracy_percent: float | None


def reliability_table(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """All `bins` rows, empty ones too.

    `confidence`: `(N,)` in [0, 1], the probability of the predicted class; `correct`: `(N,)`, whether it was right.
    """
    edges = np.linspace(0, 1, bins + 1)
    number = np.searchsorted(edges[1:-1], confidence)  # the inner edges; "left" closes each bin above
    counts = np.bincount(number, minlength=bins)
    confidences = np.bincount(number, weights=confidence, minlength=bins)
    hits = np.bincount(number, weights=correct, minlength=bins)
    return tuple(
        ReliabilityBin(
            low_percent=100 * float(edges[i]),
            high_percent=100 * float(edges[i + 1]),
            count=int(counts[i]),
            confidence_percent=100 * float(confidences[i] / counts[i]) if counts[i] else None,
            accuracy_percent=100 * float(hits[i] / counts[i]) if counts[i] else None,
        )
        for i in range(bins)
    )


def calibration_error_percent(table: tuple[ReliabilityBin, ...]) -> float | None:
    """The expected calibration error of a reliability table, in percentage points; None without images."""
    total = sum(row.count for row in table)
    gaps = (
        row.count * abs(row.accuracy_percent - row.confidence_percent)
        for row in table
        if row.accuracy_percent is not None and row.confidence_percent is not None
    )
    return sum(gaps) / total if total else None
