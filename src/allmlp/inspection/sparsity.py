"""How many weights of each linear map hardly matter (ResMLP, figures 3 and B.2).

The paper counts the entries below 5 % of the largest of their matrix, for the patch interaction A and the two matrices
B, C of the MLP, and finds A far sparser. One outlier among the weights makes all others look small: read the measure
beside the maps themselves.
"""

from collections.abc import Sequence

import numpy as np

THRESHOLD = 0.05


def small_share(weight: np.ndarray, threshold: float = THRESHOLD) -> float:
    """The share of the entries with |w| < threshold · max |w|, in [0, 1]; 1 for a matrix of zeros."""
    sizes = np.abs(weight.ravel())
    return float((sizes < threshold * sizes.max()).mean()) if sizes.any() else 1.0


def small_shares(weights: Sequence[np.ndarray | None], threshold: float = THRESHOLD) -> np.ndarray:
    """The same for each block, float64 `(blocks,)`; NaN where a block has no such map."""
    return np.array([np.nan if weight is None else small_share(weight, threshold) for weight in weights])
