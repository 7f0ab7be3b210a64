"""The order of an epoch, which follows from (seed, epoch) alone.

Where images are dear to reach one by one, because they lie in shards on a server or in row groups of a parquet file, a
data set says so (`dataset.Grouped`). Then the order of the groups is drawn, and the images of so many groups at a time
are mixed: every image still comes exactly once, each group is read in one stretch, and any step can be entered.
"""

import numpy as np

from allmlp.data.dataset import Grouped, ImageDataset
from allmlp.data.seeds import generator


def epoch_order(dataset: ImageDataset, seed: int, epoch: int) -> np.ndarray:
    """A permutation of the numbers of the images, int64 `(N,)`."""
    order = generator(seed, "order", epoch).permutation(len(dataset)).astype(np.int64, copy=False)
    groups = dataset.groups if isinstance(dataset, Grouped) else None
    if groups is None or not isinstance(dataset, Grouped) or len(order) == 0:
        return order
    # A random order of everything, sorted by window and left in its order within each.
    numbers, group = np.unique(groups, return_inverse=True)
    window = generator(seed, "groups", epoch).permutation(len(numbers)) // dataset.window
    return order[np.argsort(window[group[order]], kind="stable")]
