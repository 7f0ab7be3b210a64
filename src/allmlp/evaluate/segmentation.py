"""How well every pixel is named: counts over a whole data set, then rates.

    IoU of class k      pixels that are k and were called k / pixels that are k or were called k, over all images
    mean IoU            mean over the classes that occur, in the masks or in the answers (PASCAL VOC's measure)
    pixel accuracy      pixels called right / pixels
    boundary IoU        the same as IoU, of each class's pixels near its own border alone: those within d pixels of it,
                        d = 2 % of the image's diagonal, rounded, at least 1 (Cheng et al., arXiv 2103.16562, eq. 1).
                        As in their code, near means by king's moves, and the image's edge is a border. They average
                        over objects; a class has here no objects, so counts are added up over images as for IoU.

Ignored pixels are in no count; a border along them is one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from allmlp.data.dataset import IGNORED, ImageDataset
from allmlp.errors import BadData
from allmlp.evaluate.names import align_labels
from allmlp.evaluate.pixels import PixelPredictor, logits_of
from allmlp.evaluate.probabilities import log_softmax
from allmlp.evaluate.scores import mean, percent
from allmlp.preprocess import OtherSizes
from allmlp.values import Value

NEAR = 0.02  # of the diagonal
BATCH = 64


class ClassOverlap(Value):
    """One class; None where it occurs neither in the masks nor in the answers."""

    name: str
    iou_percent: float | None
    boundary_iou_percent: float | None
    pixels: int  # of the masks


class SegmentationMetrics(Value):
    """How well the pixels of `count` images were named. Rates are None without pixels."""

    count: int
    pixels: int
    mean_iou_percent: float | None
    pixel_accuracy_percent: float | None
    boundary_iou_percent: float | None  # mean over classes
    negative_log_likelihood: float | None  # nats per pixel
    classes: tuple[ClassOverlap, ...]


@dataclass(frozen=True)
class Counts:
    """`confusion` int64 `(K, K)`, true by predicted; `near_both`, `near_any` int64 `(K,)`; nats over all pixels."""

    confusion: np.ndarray = field(repr=False)
    near_both: np.ndarray = field(repr=False)
    near_any: np.ndarray = field(repr=False)
    nats: float = 0.0
    images: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.confusion + other.confusion, self.near_both + other.near_both,
                      self.near_any + other.near_any, self.nats + other.nats, self.images + other.images)


def no_counts(num_classes: int) -> Counts:
    zeros = np.zeros(num_classes, np.int64)
    return Counts(np.zeros((num_classes, num_classes), np.int64), zeros, zeros)


def count_pixels(logits: np.ndarray, labels: np.ndarray) -> Counts:
    """The counts of one image: logits `(K, H, W)`, label map uint8 `(H, W)`. Raises `BadData` for classes beyond K."""
    num_classes = len(logits)
    counted = labels != IGNORED
    if counted.any() and labels[counted].max() >= num_classes:
        raise BadData(f"a mask has class {labels[counted].max()}, and there are {num_classes} classes, 0 to "
                      f"{num_classes - 1}")
    if not np.isfinite(logits).all():
        raise BadData("logits are not finite (NaN or infinite): the weights are damaged or training diverged; take an "
                      "earlier checkpoint")
    said = logits.argmax(0)
    pairs = labels[counted].astype(np.int64) * num_classes + said[counted]
    confusion = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    near_both, near_any = (np.zeros(num_classes, np.int64) for _ in range(2))
    distance = near_px(labels.shape)
    for k in np.flatnonzero(confusion.sum(0) + confusion.sum(1)):
        true, found = (near_border(where, distance) & counted for where in (labels == k, said == k))
        near_both[k], near_any[k] = (true & found).sum(), (true | found).sum()
    rows = log_softmax(logits[:, counted].T)
    nats = -float(rows[np.arange(len(rows)), labels[counted]].sum())
    return Counts(confusion, near_both, near_any, nats, 1)


def near_px(size: tuple[int, ...]) -> int:
    return max(round(NEAR * math.hypot(*size)), 1)


def near_border(where: np.ndarray, distance: int) -> np.ndarray:
    """Those pixels of `where`, bool `(H, W)`, from which `distance` king's moves lead out of it, or out of the image.
    """
    inner = where
    for _ in range(distance):
        inner = np.pad(inner, 1)
        inner = inner[:-2] & inner[1:-1] & inner[2:]
        inner = inner[:, :-2] & inner[:, 1:-1] & inner[:, 2:]
    return where & ~inner


def metrics_of(counts: Counts, classes: tuple[str, ...]) -> SegmentationMetrics:
    right, true, said = counts.confusion.diagonal(), counts.confusion.sum(1), counts.confusion.sum(0)
    pixels = int(true.sum())
    rows = tuple(
        ClassOverlap(name=name, iou_percent=percent(right[k], true[k] + said[k] - right[k]),
                     boundary_iou_percent=percent(counts.near_both[k], counts.near_any[k]), pixels=int(true[k]))
        for k, name in enumerate(classes))
    return SegmentationMetrics(
        count=counts.images, pixels=pixels, mean_iou_percent=mean(row.iou_percent for row in rows),
        pixel_accuracy_percent=percent(right.sum(), pixels),
        boundary_iou_percent=mean(row.boundary_iou_percent for row in rows),
        negative_log_likelihood=counts.nats / pixels if pixels else None, classes=rows)


@dataclass(frozen=True)
class SegmentationEvaluation:
    """`note`: what a person should know."""

    metrics: SegmentationMetrics
    note: str | None
    score_name = "mIoU"

    @property
    def score_percent(self) -> float | None:
        return self.metrics.mean_iou_percent


def evaluate_segmentation(
    predictor: PixelPredictor, dataset: ImageDataset, progress: Callable[[int, int], None] | None = None,
    other_sizes: OtherSizes | None = None,
) -> SegmentationEvaluation:
    """Name every pixel of `dataset`, each image at its own size, and measure. Classes are matched by name; raises
    `BadData` where they differ, and for an image or mask that cannot be used."""
    counts, note = count_dataset(predictor, dataset, progress, other_sizes)
    return SegmentationEvaluation(metrics_of(counts, predictor.classes or tuple(dataset.classes)), note)


def count_dataset(
    predictor: PixelPredictor, dataset: ImageDataset, progress: Callable[[int, int], None] | None = None,
    other_sizes: OtherSizes | None = None,
) -> tuple[Counts, str | None]:
    """The counts of a data set with label maps. Images of the predictor's own size are computed in batches."""
    classes = predictor.classes or tuple(dataset.classes)
    numbers, note = align_labels(dataset.classes, predictor.classes, np.arange(len(dataset.classes)))
    table = np.full(256, IGNORED, np.uint8)
    table[: len(numbers)] = numbers
    total, waiting = no_counts(len(classes)), list[tuple[np.ndarray, np.ndarray]]()

    def finish() -> None:
        nonlocal total
        if waiting:
            for logits, (_, labels) in zip(predictor(np.stack([image for image, _ in waiting])), waiting, strict=True):
                total = total + count_pixels(logits, labels)
            waiting.clear()

    for index in range(len(dataset)):
        image, labels = dataset.image(index), dataset.label_map(index)  # pyright: ignore[reportAttributeAccessIssue]
        if image.shape[:2] != labels.shape:
            raise BadData(f"{dataset.name(index)}: its mask has {labels.shape} pixels and the image {image.shape[:2]}")
        if labels.max(initial=0, where=labels != IGNORED) >= len(dataset.classes):
            raise BadData(f"{dataset.name(index)}: its mask has a class beyond the {len(dataset.classes)} there are")
        if image.shape[:2] == predictor.preprocess.image_size:
            waiting.append((image, table[labels]))
            if len(waiting) == BATCH:
                finish()
        else:
            total = total + count_pixels(logits_of(predictor, image, other_sizes), table[labels])
        if progress is not None:
            progress(index + 1, len(dataset))
    finish()
    return total, note
