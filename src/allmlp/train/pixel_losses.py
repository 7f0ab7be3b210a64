"""Losses of label maps: cross entropy and dice over the pixels that have a class.

    cross entropy   - mean over all H·W pixels of w_k log p_k of the true class k; ignored pixels count as 0
    dice            1 - mean over the classes k of the image of 2 Σ p_k g_k / (Σ p_k + Σ g_k), sums over its pixels with
                    a class, g_k 1 where the class is k (V-Net, arXiv 1606.04797, without squares in the denominator)

Both are means over images of what an image costs by itself, so parts of a batch and processes add up to the whole
batch. mmsegmentation divides by all pixels too, unless told otherwise; torch's own mean is over those with a class.

Axes: B batch, K classes, H W image.
"""

import numpy as np
import torch
from torch.nn import functional as F

from allmlp.data.dataset import IGNORED, ImageDataset
from allmlp.errors import BadSetting
from allmlp.recipe import Recipe
from allmlp.train.losses import LossFunction

MOST_COUNTED = 2_000  # images whose masks are read for balanced weights


def pixel_loss(recipe: Recipe, train: ImageDataset, device: torch.device) -> LossFunction:
    """The loss `(logits (B, K, H, W), label maps (B, H, W)) -> scalar` of a recipe, weighed by its `segmentation`.

    `loss.class_weights` "balanced" weighs class k by 1 over its share of the training pixels, to the power of 1/2,
    scaled to a mean of 1 over classes that are there. Raises `BadSetting` for a loss of whole images.
    """
    if recipe.loss.kind != "softmax":
        raise BadSetting(f"loss.kind {recipe.loss.kind!r}: a pixel has one class; take softmax for segmentation")
    if recipe.distillation is not None:
        raise BadSetting("distillation learns a teacher's answers for whole images; leave it out for segmentation")
    settings = recipe.segmentation
    assert settings is not None
    weights = None
    if recipe.loss.class_weights == "balanced":
        weights = torch.tensor(balanced_weights(train), dtype=torch.float32, device=device)
    smoothing = recipe.loss.label_smoothing

    def loss(logits: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        wide, total = logits.float(), logits.new_zeros((), dtype=torch.float32)
        if settings.cross_entropy:
            total = total + settings.cross_entropy * cross_entropy(wide, maps, weights, smoothing)
        if settings.dice:
            total = total + settings.dice * dice(wide, maps)
        return total

    return loss


def cross_entropy(logits: torch.Tensor, maps: torch.Tensor, weights: torch.Tensor | None = None,
                  smoothing: float = 0.0) -> torch.Tensor:
    """The mean over all pixels; those that are ignored count as 0."""
    total = F.cross_entropy(logits, maps.long(), weight=weights, ignore_index=IGNORED, reduction="sum",
                            label_smoothing=smoothing)
    return total / maps.numel()


def dice(logits: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """The mean over images, of the mean over the classes that an image has; 0 for one whose pixels are all ignored."""
    counted = (maps != IGNORED).unsqueeze(1)
    true = F.one_hot(torch.where(counted[:, 0], maps, 0).long(), logits.shape[1]).permute(0, 3, 1, 2) * counted
    said = logits.softmax(1) * counted
    both, sizes = (said * true).sum((2, 3)), said.sum((2, 3)) + true.sum((2, 3))
    there = true.sum((2, 3)) > 0
    overlap = torch.where(there, 2 * both / sizes.clamp(min=1e-6), 0)
    each = (there.sum(1) - overlap.sum(1)) / there.sum(1).clamp(min=1)
    return each.mean()


def balanced_weights(train: ImageDataset) -> np.ndarray:
    """float64 `(K,)`, from the masks of up to `MOST_COUNTED` images, evenly over the data set."""
    counts = np.zeros(256, np.int64)
    for index in np.linspace(0, len(train) - 1, min(len(train), MOST_COUNTED)).astype(int):
        counts += np.bincount(train.label_map(int(index)).ravel(), minlength=256)  # pyright: ignore
    counts = counts[: len(train.classes)]
    there = counts > 0
    weights = np.zeros(len(counts))
    weights[there] = (counts.sum() / counts[there]) ** 0.5
    return weights / weights[there].mean()
