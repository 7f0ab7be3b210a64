"""Features of many images in the plane: t-SNE, or UMAP where it is installed.

Neighbours stay neighbours; distances between far groups, their sizes and the axes mean nothing.
"""

from typing import Literal

import numpy as np

from allmlp.data.seeds import derived_seed
from allmlp.errors import BadData, MissingPackage

Method = Literal["tsne", "umap"]
LEAST_IMAGES = 10
PERPLEXITY = 30.0  # scikit-learn's own; smaller for few images, as it must stay below a third of them


def embed(features: np.ndarray, method: Method = "tsne", seed: int = 0) -> np.ndarray:
    """`features` `(N, C)` as points `(N, 2)`; the same ones for the same `seed`.

    Raises `BadData` for fewer than 10 images, `MissingPackage` for UMAP without its package.
    """
    if len(features) < LEAST_IMAGES:
        raise BadData(f"{len(features)} images: an embedding needs at least {LEAST_IMAGES}")
    drawn = derived_seed(seed, "embedding") % 2**32
    if method == "umap":
        try:
            from umap import UMAP  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise MissingPackage("UMAP is not installed; `pip install umap-learn`, or take --embedding tsne") from None
        return np.asarray(UMAP(random_state=drawn, n_jobs=1).fit_transform(features))
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=drawn).fit_transform(features)
