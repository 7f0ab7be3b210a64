"""Token localisation: does a token still tell what stands at its place? (Raghu et al., arXiv 2108.08810, section 5.)

Linear CKA, over many images, between the token at each position and the pixels of the patch at each position. A network
that keeps places apart has a diagonal; one that has mixed everything is flat.
"""

import numpy as np
import torch

from allmlp.errors import BadSetting
from allmlp.inspection.receptive_field import token_grid
from allmlp.inspection.similarity import cka_map


def localisation(tokens_NSC: torch.Tensor, images: torch.Tensor, grid: tuple[int, int] | None = None) -> np.ndarray:
    """CKA `(S, S)` of the token at each position (rows) with the patch of the image there (columns), raster order.

    `images` `(N, 3, H, W)`, the ones the tokens come from; H and W must be divisible by the grid (rows, columns).
    Unbiased, so about 0 where a token tells nothing of a patch. NaN for a token or patch that is the same in all
    images. Raises `BadSetting`.
    """
    rows, columns = token_grid(tokens_NSC.shape[1], grid)
    height, width = images.shape[2:]
    if height % rows or width % columns:
        raise BadSetting(f"images of {height} x {width} pixels have no {rows} x {columns} equal patches")
    patches = images.unflatten(3, (columns, width // columns)).unflatten(2, (rows, height // rows))
    patches_SND = patches.permute(2, 4, 0, 1, 3, 5).reshape(rows * columns, len(images), -1)
    return cka_map([(list(tokens_NSC.transpose(0, 1)), list(patches_SND))])


def own_and_others(similarity: np.ndarray) -> tuple[float, float]:
    """Of a localisation `(S, S)`: the mean CKA of tokens with their own patch, and with all others (NaN: there is one
    token only)."""
    own = np.eye(len(similarity), dtype=bool)
    return float(np.nanmean(similarity[own])), float(np.nanmean(similarity[~own])) if len(similarity) > 1 else np.nan
