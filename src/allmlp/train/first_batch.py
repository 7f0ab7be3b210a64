"""The first training batch as the network sees it: the quickest way to find a wrong augmentation."""

import torch

from allmlp.data.batch import augment_batch
from allmlp.data.loader import Loader
from allmlp.recipe import Recipe
from allmlp.train.losses import to_targets

MOST_IMAGES = 32


def first_batch(loader: Loader, recipe: Recipe, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Up to 32 augmented images, uint8 `(N, 3, H, W)`, and their targets, float `(N, K)`."""
    images, labels, _, place = next(iter(loader.epoch(0)))
    images, targets = augment_batch(images, to_targets(labels, num_classes), recipe.augment, recipe.seed, 0, place)
    if images.ndim == 5:  # views, side by side
        images, targets = images.flatten(0, 1), targets.repeat_interleave(images.shape[1], 0)
    return images[:MOST_IMAGES].round().clamp(0, 255).to(torch.uint8), targets[:MOST_IMAGES]
