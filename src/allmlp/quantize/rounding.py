"""Weights rounded for the sums that they are part of: each rounding error is made up for by the weights behind it.

The method is GPTQ's (arXiv 2210.17323): weights are rounded input by input, and what one rounding adds to the output,
on average over sample operands, the weights not yet rounded take back as well as they can. Where we differ: eight bits,
and inputs from the largest to the smallest (its "act order"), always. Scales are those of rounding to nearest, so
nothing but the whole numbers changes. A layer with more than `MOST_INPUTS`, such as a stem of huge patches, is rounded
in stretches of at most so many, each for itself: what that takes grows by the square of their number.
"""

import numpy as np

DAMPING = 0.01  # of the mean of the products' diagonal: what keeps the solution from fitting the sample's noise
MOST_ROWS = 8192  # of the sample; more change nothing
MOST_INPUTS = 6144  # 5 matrices of so many squared are 1.5 GB; Mixer-H has 5120


def thinned(rows: np.ndarray, most: int = MOST_ROWS) -> np.ndarray:
    """At most so many of the rows, evenly over them."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def compensated(weight: np.ndarray, scale: np.ndarray, operands: np.ndarray) -> np.ndarray:
    """int8 (outputs, inputs): `weight` over `scale` (outputs,), rounded for operands like `operands` (rows, inputs)."""
    rows, parts = thinned(operands), -(-weight.shape[1] // MOST_INPUTS)
    return np.concatenate([_compensated(some, scale, of_rows.astype(np.float64)) for some, of_rows in zip(
        np.array_split(weight, parts, axis=1), np.array_split(rows, parts, axis=1), strict=True)], axis=1)


def _compensated(weight: np.ndarray, scale: np.ndarray, rows: np.ndarray) -> np.ndarray:
    products = rows.T @ rows
    order = np.argsort(-np.diag(products), kind="stable")
    products = products[np.ix_(order, order)]
    diagonal = np.diag(products).copy()
    products[np.diag_indices_from(products)] += DAMPING * max(float(diagonal.mean()), 1e-12)
    upper = np.linalg.cholesky(np.linalg.inv(products)).T  # row i: how a change of weight i is made up for
    left = (weight / scale[:, None])[:, order]
    whole = np.empty_like(left)
    block = 64  # so that most of the work is products of matrices
    for first in range(0, left.shape[1], block):
        last = min(first + block, left.shape[1])
        errors = np.empty((len(left), last - first))
        for i in range(first, last):
            whole[:, i] = np.clip(np.rint(left[:, i]), -127, 127)
            errors[:, i - first] = (left[:, i] - whole[:, i]) / upper[i, i]
            left[:, i:last] -= errors[:, i - first, None] * upper[i, i:last]
        left[:, last:] -= errors @ upper[first:last, last:]
    result = np.empty(weight.shape, np.int8)
    result[:, order] = whole.astype(np.int8)
    return result
