"""VTAB-1k, the visual task adaptation benchmark: 19 tasks with 1,000 labelled images each.

`vtab:TASK` has 800 images to train on, 200 to choose by, and the whole test part; `vtab:TASK+val` trains on all 1,000,
for the run whose test result counts. Nothing is held out or drawn anew: `--val-fraction` has no effect.

A folder `vtab-1k/` of lists, as it is passed on, is taken first (`archive.py`); else the sets themselves are read.
Where TensorFlow Datasets' keys are known the images are the benchmark's own (`pool.py`); a note says where they are
not (`tasks.py`). UNVERIFIED: the real downloads were not at hand, so each format was tried on small files made by its
description, and the order of the images on CIFAR-10's, which is published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from allmlp.data.assemble import Choices, assemble
from allmlp.data.dataset import Data, ImageDataset
from allmlp.errors import BadData, CannotDownload, unknown_name

if TYPE_CHECKING:
    from allmlp.data.vtab.tasks import Task

BOTH = "+val"
NUM_TRAIN, NUM_VAL = 800, 200


@dataclass(frozen=True, eq=False)
class Joined:
    """The images of two data sets of the same classes, one after the other."""

    first: ImageDataset
    second: ImageDataset
    labels: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", np.concatenate([self.first.labels, self.second.labels]))

    @property
    def classes(self) -> Sequence[str]:
        return self.first.classes

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def image(self, index: int) -> np.ndarray:
        return self.first.image(index) if index < len(self.first) else self.second.image(index - len(self.first))

    def name(self, index: int) -> str:
        return self.first.name(index) if index < len(self.first) else self.second.name(index - len(self.first))

    key = name


def open_vtab(where: str, choices: Choices) -> Data:
    """The task `where`, with "+val" or not. Raises `UnknownName` with the nearest names or all, `CannotDownload` for
    what is not there, and `BadData`, one line."""
    from allmlp.data.vtab.archive import archive_of, open_archive

    name = where.removesuffix(BOTH)
    task = task_named(name)
    splits: Mapping[str, ImageDataset]
    if archive := archive_of(name, choices.data_dir):
        splits = open_archive(archive, task.num_classes)
        notes = [f"{task.title}: by the lists in {archive}", *_counts(task, splits)]
    else:
        splits, notes = _from_sources(where, task, choices)
    if where.endswith(BOTH):
        splits = {"train": Joined(splits["train"], splits["val"]), "test": splits["test"]}
    return assemble(f"vtab:{where}", splits, notes, choices)  # pyright: ignore[reportArgumentType]  # drawn from no keys


def _from_sources(where: str, task: "Task", choices: Choices) -> tuple[dict[str, ImageDataset], list[str]]:
    from allmlp.data.vtab.pool import drawn

    try:
        pools = task.open_pools(choices)
        train, val, test = task.parts
        splits = drawn(pools, {"train": train, "val": val, "test": test}, {"train": NUM_TRAIN, "val": NUM_VAL})
    except CannotDownload as error:
        raise CannotDownload(f"vtab:{where}: {error}") from None
    if empty := [split for split, images in splits.items() if not len(images)]:
        raise BadData(f"vtab:{where}: no images for {' and '.join(empty)}; the set is incomplete")
    notes = [f"{task.title}: {task.ours}"] if task.ours else []
    return splits, notes + [
        f"{task.title}: {len(pool.labels):,} images in {name}, the benchmark has {task.images[name]:,}: other images "
        "are drawn from an incomplete set, and results cannot be compared with others'"
        for name, pool in pools.items() if len(pool.labels) != task.images[name]]


def _counts(task: "Task", splits: Mapping[str, ImageDataset]) -> list[str]:
    """What lists name too few or too many of."""
    last = task.parts[2]
    total = task.images[last.pool]
    expected = {"train": NUM_TRAIN, "val": NUM_VAL, "test": total * last.stop // 100 - total * last.start // 100}
    return [f"{task.title}: {len(splits[split]):,} images for {split}, the benchmark has {count:,}"
            for split, count in expected.items() if len(splits[split]) != count]


def task_named(name: str) -> "Task":
    from allmlp.data.vtab.tasks import TASKS

    if name not in TASKS:
        raise unknown_name("VTAB task", name, TASKS, f"each with {BOTH} or not", shown=len(TASKS))
    return TASKS[name]
