"""Which images of a batch a process computes, where several share the work, and which it needs to see for that.

A batch is the same set of images, in the same order, for any number of processes. It is dealt out in groups of
`parts` neighbours, one image for each part of gradient accumulation, so that every process has its piece of every part:
image i is in part i modulo `parts`, in one process as in many. Each process gets a stretch of groups; where images are
mixed with their mirror image in the batch, it gets a stretch from each end. It then reads the partners of its images
too: one more image where the batch is rolled, none or few where it is mirrored.
"""

import math
from dataclasses import dataclass

import numpy as np

from allmlp.recipe import Augment


@dataclass(frozen=True)
class Share:
    """What falls to process `rank` of `count`, of batches computed in `parts` parts."""

    rank: int = 0
    count: int = 1
    parts: int = 1

    def rows(self, batch_size: int, mirrored: bool = False) -> np.ndarray:
        """The numbers of this process's images in a batch of `batch_size`, ascending int64; empty where there are
        more processes than groups."""
        parts = min(self.parts, batch_size)
        groups = np.arange(math.ceil(batch_size / parts))
        if mirrored:  # 0, last, 1, last but one, …: partners side by side
            groups = np.where(groups % 2 == 0, groups // 2, groups[-1] - groups // 2)
        mine = np.sort(groups[len(groups) * self.rank // self.count : len(groups) * (self.rank + 1) // self.count])
        rows = (mine[:, None] * parts + np.arange(parts)).reshape(-1)
        return rows[rows < batch_size]


ALL = Share()  # of one process


@dataclass(frozen=True)
class Place:
    """Where the images that a process holds stand in the batch of `total` images.

    `rows` int64 `(n,)`: the place of each image held. The first `own` of them are this process's, the others only
    partners in mixing. `partners` int64 `(own,)`: which image held is mixed into each. A process without an image of
    its own holds one all the same (`idle`), so that it can take part, with weight 0.
    """

    total: int
    rows: np.ndarray
    own: int
    partners: np.ndarray
    idle: bool = False

    @property
    def weight(self) -> float:
        """This process's share of the batch's mean."""
        return 0.0 if self.idle else self.own / self.total


def partner_rows(batch_size: int, augment: Augment) -> np.ndarray:
    """Which image of the batch each image is mixed with, int64 `(batch_size,)`: `Augment.mixup_kind`."""
    rows = np.arange(batch_size)
    return rows[::-1] if is_mirrored(augment) else np.roll(rows, 1)


def is_mirrored(augment: Augment) -> bool:
    return augment.mixup_kind == "timm" and is_mixing(augment)


def is_mixing(augment: Augment) -> bool:
    return augment.mixup > 0 or augment.cutmix > 0


def place(batch_size: int, augment: Augment, share: Share = ALL) -> Place:
    """What `share` holds of a batch of `batch_size` images, at least 1."""
    own = share.rows(batch_size, is_mirrored(augment))
    idle = len(own) == 0
    if idle:
        own = np.zeros(1, np.int64)
    if not is_mixing(augment):
        return Place(batch_size, own, len(own), np.arange(len(own)), idle)
    partners = partner_rows(batch_size, augment)[own]
    rows = np.concatenate([own, np.setdiff1d(partners, own)])
    order = np.argsort(rows)
    return Place(batch_size, rows, len(own), order[np.searchsorted(rows, partners, sorter=order)], idle)
