"""ImageNet with reassessed labels ("ReaL"): a prediction is right when its class is among those that people saw.

Source: Beyer et al., "Are we done with ImageNet?" (arXiv 2006.07159). Each of the 50,000 validation images has a set of
classes; the 3,163 with an empty set are skipped. `real.json` of google-research/reassessed-imagenet is a list in the
order of the files' names, ILSVRC2012_val_00000001.JPEG first; images are matched by the number in their names, so that
the order and the folders they lie in do not matter. timm ships such a list.
"""

import json
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from allmlp.data.dataset import ImageDataset
from allmlp.data.imagenet_truth import VAL_IMAGE
from allmlp.errors import BadData
from allmlp.evaluate.names import align_labels
from allmlp.evaluate.scores import percent, wilson_interval_percent
from allmlp.values import Value
from allmlp.weights.labels import synsets, words

NUM_IMAGES, NUM_CLASSES = 50_000, 1000
MAX_BYTES = 1 << 23  # of the file; the published one has 0.7 MB
TIMM = "timm"  # stands for the list that timm ships

Sets = Sequence[Collection[int]]


class RealMetrics(Value):
    """The accuracy on the `count` images that have a label; `skipped` have none. None without images."""

    count: int
    skipped: int
    accuracy_percent: float | None
    interval_percent: tuple[float, float] | None  # 95 %, Wilson


def read_real_labels(path: str | Path) -> list[frozenset[int]]:
    """The classes of each of the 50,000 images, by ImageNet's numbers, from a file or from "timm".

    Raises `BadData` for a file that cannot be read, and for anything but 50,000 lists of numbers from 0 to 999.
    """
    where = files("timm.data._info") / "imagenet_real_labels.json" if str(path) == TIMM else Path(path)
    try:
        with where.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadData(f"{path}: cannot be read: {error.strerror or error}; give real.json of reassessed-imagenet, or "
                      f"{TIMM} for the list that timm ships") from None
    try:
        found = json.loads(text) if len(text) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise BadData(f"{path}: no JSON list of at most {MAX_BYTES >> 20} MB; expected real.json of "
                      "reassessed-imagenet")
    if len(found) != NUM_IMAGES:
        raise BadData(f"{path}: labels of {len(found):,} images; ImageNet has {NUM_IMAGES:,} validation images")
    for number, labels in enumerate(found, 1):
        if not isinstance(labels, list) or not all(type(k) is int and 0 <= k < NUM_CLASSES for k in labels):
            raise BadData(f"{path}: labels of image {number} are {str(labels)[:60]}, expected a list of classes, 0 to "
                          f"{NUM_CLASSES - 1}")
    return [frozenset(labels) for labels in found]


def sets_of(dataset: ImageDataset, model_classes: Sequence[str] | None, real: Sets) -> list[frozenset[int]]:
    """The set of each image of `dataset`, in the model's numbering of classes.

    Raises `BadData` for data that is not ImageNet's validation set, whole or in part.
    """
    if tuple(dataset.classes) not in (words("imagenet-1k"), synsets("imagenet-1k")):
        raise BadData(f"reassessed labels are for ImageNet's {NUM_CLASSES:,} classes; this data has "
                      f"{len(dataset.classes):,} others; give imagenet:DIR")
    numbers, _ = align_labels(dataset.classes, model_classes, np.arange(NUM_CLASSES))
    sets = []
    for i in range(len(dataset)):
        found = VAL_IMAGE.search(dataset.name(i))
        if found is None or not 1 <= int(found[1]) <= len(real):
            raise BadData(f"{dataset.name(i)}: reassessed labels are for the validation images, which are called "
                          f"ILSVRC2012_val_00000001.JPEG to {len(real):08d}")
        sets.append(frozenset(int(numbers[k]) for k in real[int(found[1]) - 1]))
    return sets


def real_metrics(logits: np.ndarray, sets: Sets) -> RealMetrics:
    """`logits` `(N, K)` with the N sets of the images, in the same numbering of classes."""
    predicted = logits.argmax(axis=1).tolist()
    right = [best in labels for best, labels in zip(predicted, sets, strict=True) if labels]
    count, hits = len(right), sum(right)
    return RealMetrics(count=count, skipped=len(sets) - count, accuracy_percent=percent(hits, count),
                       interval_percent=wilson_interval_percent(hits, count))
