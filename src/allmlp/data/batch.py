"""What happens to a whole training batch, on its device: random affine maps, mixup, CutMix.

It works on pixel values in [0, 255], before normalisation, and on the batch of one optimizer step, before that is cut
into parts for gradient accumulation. The random numbers are drawn on the CPU from (seed, step), so that a step is the
same on every device and after a resumption.

Sources: mixup, arXiv 1710.09412, with one lambda per batch and the batch rolled by one as partner (big_vision's; the
partner of the first image is the last one); CutMix, arXiv 1905.04899, Algorithm A1. Both are symmetric in an image and
its partner, so lambda is not folded to [0.5, 1] as big_vision does.
"""

import math
from typing import Literal

import numpy as np
import torch

from allmlp.data.seeds import generator
from allmlp.recipe import Affine, Augment


def augment_batch(images: torch.Tensor, targets: torch.Tensor, augment: Augment, seed: int,
                  step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment one batch. `images`: uint8 or float in [0, 255], `(N, 3, H, W)`; `targets`: float `(N, K)`.

    Returns float32 images, again in [0, 255], and targets of the same shapes; the arguments are left as they are.
    In a batch of one image, mixup and CutMix mix it with itself, that is, do nothing.
    """
    images = images.to(torch.float32)
    if augment.affine is not None and augment.affine != Affine(outside=augment.affine.outside):
        count, _, height, width = images.shape
        maps = inverse_maps(augment.affine, count, height, width, generator(seed, "affine", step))
        images = affine(images, maps, augment.affine.outside)
    draws = generator(seed, "mix", step)
    use_cutmix = augment.cutmix > 0 and (augment.mixup == 0 or draws.random() < augment.cutmix_probability)
    if use_cutmix:
        return cutmix(images, targets, draws.beta(augment.cutmix, augment.cutmix), draws)
    if augment.mixup > 0:
        return mixup(images, targets, draws.beta(augment.mixup, augment.mixup))
    return images, targets


def mixup(images: torch.Tensor, targets: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image and target, with weight `share`, plus that of its partner with weight 1 - `share`."""
    return (images * share + images.roll(1, 0) * (1 - share),
            targets * share + targets.roll(1, 0) * (1 - share))


def cutmix(images: torch.Tensor, targets: torch.Tensor, share: float,
           draws: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image with one box, the same for the whole batch, taken from its partner.

    The box has 1 - `share` of the area before it is cut at the borders of the image; the targets are mixed by the area
    that it really has.
    """
    height, width = images.shape[-2:]
    top, bottom = _cut(height, share, draws)
    left, right = _cut(width, share, draws)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[..., top:bottom, left:right].roll(1, 0)
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, targets * kept + targets.roll(1, 0) * (1 - kept)


def _cut(side: int, share: float, draws: np.random.Generator) -> tuple[int, int]:
    half, centre = int(side * math.sqrt(1 - share)) // 2, int(draws.integers(side))
    return max(centre - half, 0), min(centre + half, side)


def inverse_maps(ranges: Affine, count: int, height: int, width: int, draws: np.random.Generator) -> torch.Tensor:
    """`count` random maps, float32 `(count, 2, 3)`, from a place (x, y, 1) in the result to (x, y) in the source.

    Places are in pixels from the centre of the image, so turning keeps shapes in images that are not square. The
    forward map is torchvision's: shear along x, scale, turn (clockwise for the eye, as y points down), then shift; each
    of them is drawn uniformly, as `RandomAffine` does, but shifts are not rounded to pixels.
    """
    degrees, across, down, scale, shear = draws.uniform(-1, 1, (count, 5)).T
    angle, tangent = np.radians(ranges.degrees * degrees), np.tan(np.radians(ranges.shear * shear))
    cos, sin, scale = np.cos(angle), np.sin(angle), 1 + ranges.scale * scale
    # forward: p -> scale R S p + t with R = [cos, -sin; sin, cos], S = [1, -tangent; 0, 1]
    inverse = np.stack([cos - tangent * sin, sin + tangent * cos, -sin, cos], 1).reshape(count, 2, 2)
    inverse /= scale[:, None, None]  # S^-1 R^-1 / scale
    shift = np.stack([ranges.translate * width * across, ranges.translate * height * down], 1)
    offset = -np.einsum("nij,nj->ni", inverse, shift)
    return torch.from_numpy(np.concatenate([inverse, offset[:, :, None]], 2).astype(np.float32))


def affine(images: torch.Tensor, inverse: torch.Tensor,
           outside: Literal["border", "black"] = "border") -> torch.Tensor:
    """Move each of `images`, float `(N, C, H, W)`, by its own map (see `inverse_maps`); bilinear.

    The sampling places are summed up element by element and not with `affine_grid`, which is a matrix product and loses
    up to a pixel when autocast or TF32 rounds it.
    """
    height, width = images.shape[-2:]
    x = torch.arange(width, dtype=torch.float32, device=images.device) - (width - 1) / 2
    y = torch.arange(height, dtype=torch.float32, device=images.device)[:, None] - (height - 1) / 2
    place = inverse.to(images.device)[:, :, :, None, None]  # (N, 2, 3, 1, 1)
    source = place[:, :, 0] * x + place[:, :, 1] * y + place[:, :, 2]  # (N, 2, H, W), in pixels from the centre
    half = torch.tensor([width / 2, height / 2], device=images.device).view(2, 1, 1)
    grid = (source / half).permute(0, 2, 3, 1)  # grid_sample's -1 and 1 are the outer edges of the border pixels
    return torch.nn.functional.grid_sample(images, grid, mode="bilinear", align_corners=False,
                                           padding_mode="zeros" if outside == "black" else "border")
