"""The first training batch as the network sees it: the quickest way to find a wrong augmentation."""

import numpy as np
import torch

from allmlp.data.batch import augment_batch
from allmlp.data.loader import Loader
from allmlp.data.palette import overlay
from allmlp.recipe import Recipe
from allmlp.train.losses import to_targets

MOST_IMAGES = 32


def first_batch(loader: Loader, recipe: Recipe, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Up to 32 augmented images, uint8 `(N, 3, H, W)`, and their targets, float `(N, K)`. Images with label maps have
    these laid over them, and as targets the share of each class."""
    images, labels, _, place = next(iter(loader.epoch(0)))
    images, targets = augment_batch(images, to_targets(labels, num_classes), recipe.augment, recipe.seed, 0, place)
    if images.ndim == 5:  # views, side by side
        images, targets = images.flatten(0, 1), targets.repeat_interleave(images.shape[1], 0)
    images, targets = images[:MOST_IMAGES].round().clamp(0, 255).to(torch.uint8), targets[:MOST_IMAGES]
    if targets.ndim == 3:
        pairs = zip(images.permute(0, 2, 3, 1).numpy(), targets.numpy(), strict=True)
        images = torch.from_numpy(np.stack([overlay(*pair) for pair in pairs])).permute(0, 3, 1, 2)
        targets = torch.stack([(targets == k).float().mean((1, 2)) for k in range(num_classes)], 1)
    return images, targets
