"""What happens to a whole training batch, on its device: random affine maps, mixup, CutMix.

It works on pixel values in [0, 255], before normalisation, and on the batch of one optimizer step, before that is cut
into parts for gradient accumulation. The random numbers are drawn on the CPU from (seed, step), so that a step is the
same on every device and after a resumption.

Sources: mixup, arXiv 1710.09412, with one lambda per batch and the batch rolled by one as partner (big_vision's; the
partner of the first image is the last one); CutMix, arXiv 1905.04899, Algorithm A1. Both are symmetric in an image and
its partner, so lambda need not be folded to [0.5, 1]; `mixup_kind="google"` does as big_vision all the same. With
"timm" an image's partner stands at the same place from the end of the batch. big_vision rolls the part of the batch
that each device has, timm mixes within each process; ours mixes the batch of the whole step.
"""

import math
from typing import Literal

import numpy as np
import torch

from allmlp.data.dataset import IGNORED
from allmlp.data.place import Place, place
from allmlp.data.seeds import generator
from allmlp.recipe import Affine, Augment


def augment_batch(images: torch.Tensor, targets: torch.Tensor, augment: Augment, seed: int,
                  step: int, where: Place | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment one batch, or with `where` what a process holds of one, as it would be in the whole batch.

    `images`: uint8 or float in [0, 255], `(N, 3, H, W)`, or V views of each, `(N, V, 3, H, W)`, which are never mixed;
    `targets`: float `(N, K)`, or label maps uint8 `(N, H, W)`, which follow the affine maps (nearest pixel, ignored
    where nothing was) and are never mixed. Returns float32 images, again in [0, 255], and targets of the same shapes,
    or the first `where.own` of them; the arguments are left as they are. In a batch of one image, mixup and CutMix
    mix it with itself, that is, do nothing.
    """
    where = where or place(len(images), augment)
    if images.ndim == 5:  # views of an image, each of which is moved on its own; labels stay
        views = images.shape[1]
        rows = (where.rows[:, None] * views + np.arange(views)).reshape(-1)
        each = Place(where.total * views, rows, len(rows), np.arange(len(rows)))
        moved, _ = augment_batch(images.flatten(0, 1), targets, augment, seed, step, each)
        return moved.unflatten(0, images.shape[:2]), targets
    images = images.to(torch.float32)
    if augment.affine is not None and augment.affine != Affine(outside=augment.affine.outside):
        height, width = images.shape[-2:]
        maps = inverse_maps(augment.affine, where.total, height, width, generator(seed, "affine", step))
        images = affine(images, maps[where.rows], augment.affine.outside)
        if targets.ndim == 3:
            targets = move_maps(targets, maps[where.rows])
    partners = torch.from_numpy(where.partners).to(images.device)
    draws = generator(seed, "mix", step)
    use_cutmix = augment.cutmix > 0 and (augment.mixup == 0 or draws.random() < augment.cutmix_probability)
    if use_cutmix:
        return cutmix(images, targets, draws.beta(augment.cutmix, augment.cutmix), draws, partners)
    if augment.mixup > 0:
        share = draws.beta(augment.mixup, augment.mixup)
        return mixup(images, targets, max(share, 1 - share) if augment.mixup_kind == "google" else share, partners)
    return images[: where.own], targets[: where.own]


def mixup(images: torch.Tensor, targets: torch.Tensor, share: float,
          partners: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image and target, with weight `share`, plus that of its partner with weight 1 - `share`.

    `partners`: int64 `(n,)`, where the partners of the first n images are; None: each image's is the one before it.
    """
    def mixed(held: torch.Tensor) -> torch.Tensor:
        others = held.roll(1, 0) if partners is None else held[partners]
        return held[: len(others)] * share + others * (1 - share)

    return mixed(images), mixed(targets)


def cutmix(images: torch.Tensor, targets: torch.Tensor, share: float,
           draws: np.random.Generator, partners: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image with one box, the same for the whole batch, taken from its partner; `partners` as for `mixup`.

    The box has 1 - `share` of the area before it is cut at the borders of the image; the targets are mixed by the area
    that it really has.
    """
    height, width = images.shape[-2:]
    top, bottom = _cut(height, share, draws)
    left, right = _cut(width, share, draws)
    if partners is None:
        partners = torch.arange(len(images), device=images.device).roll(1)
    mixed = images[: len(partners)].clone()
    mixed[..., top:bottom, left:right] = images[partners, :, top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, targets[: len(partners)] * kept + targets[partners] * (1 - kept)


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


def move_maps(maps: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """Label maps uint8 `(N, H, W)` as `affine` moves their images; what comes in from outside is ignored."""
    above = (maps.to(torch.float32) + 1).unsqueeze(1)  # 0 is then what lies outside, and 256 what is ignored
    moved = affine(above, inverse, "black", "nearest").squeeze(1) - 1
    return torch.where(moved < 0, IGNORED, moved).to(torch.uint8)


def affine(images: torch.Tensor, inverse: torch.Tensor, outside: Literal["border", "black"] = "border",
           mode: Literal["bilinear", "nearest"] = "bilinear") -> torch.Tensor:
    """Move each of `images`, float `(N, C, H, W)`, by its own map (see `inverse_maps`).

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
    return torch.nn.functional.grid_sample(images, grid, mode=mode, align_corners=False,
                                           padding_mode="zeros" if outside == "black" else "border")
