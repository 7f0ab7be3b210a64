"""One contender on one data set: a row of the comparison. The same images, draws and constants for every one.

- accuracy: of its own head, where this names the data's classes
- few-shot: least squares on frozen features of a few training images of each class (`evaluate.fewshot`), drawn from
  seeds 0, 1, …, the same images for every contender
- k-NN: the nearest training images by frozen features (`evaluate.knn`)

A contender sees images in its own preprocessing and at its own size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from allmlp.compare.contenders import Contender
from allmlp.data.dataset import Data, ImageDataset, Subset
from allmlp.data.seeds import generator
from allmlp.errors import BadData, BadSetting
from allmlp.evaluate.cost import Cost
from allmlp.evaluate.cost_process import macs
from allmlp.evaluate.dataset import evaluate_dataset
from allmlp.evaluate.fewshot import few_shot_accuracies
from allmlp.evaluate.knn import NEIGHBOURS, knn_classifier
from allmlp.evaluate.predict import predict_dataset
from allmlp.values import Value


class Protocol(Value):
    """What is measured, the same for every contender. `train_images`: at most so many training images are looked at,
    drawn from seed 0; `test_images`: as many of the split that is measured on."""

    shots: int = 5
    seeds: int = 3
    neighbours: int = NEIGHBOURS
    train_images: int = 10_000
    test_images: int | None = None


class Compared(Value):
    """A row. None: not measured, or not measurable; `note` says why."""

    model: str
    source: str
    weights: str
    image_size: tuple[int, int]
    parameters: int | None = None
    macs: int | None = None  # multiply-adds for one image
    accuracy_percent: float | None = None
    few_shot_percent: float | None = None
    few_shot_deviation: float | None = None  # over the seeds
    knn_percent: float | None = None
    images_per_second: float | None = None
    slowest: float | None = None
    fastest: float | None = None
    batch_size: int | None = None
    latency_ms: float | None = None  # of one image, the median
    latency_ms_p90: float | None = None
    peak_memory_mib: float | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a comparison: those to fit classifiers on, and those to measure on."""

    train: ImageDataset
    test: ImageDataset
    split: str


def choose_images(data: Data, protocol: Protocol, split: str | None = None) -> Images:
    """The test split, else validation, and the training split, each cut to what the protocol allows.

    Raises `BadData` where there is none or where images have several labels, `BadSetting` for the training split."""
    split = split or next((name for name in ("test", "val") if name in data.splits), "")
    if split == "train":
        raise BadSetting("--split train: few-shot and k-NN learn from these images; measure on test or val")
    if split not in data.splits:
        raise BadData(f"{data.name} has no {split or 'test or val'} split; it has {', '.join(data.splits)}")
    if any(part.labels.ndim != 1 for part in data.splits.values()):
        raise BadData(f"{data.name}: its images have several labels each; comparisons are for one class per image")
    images = Images(_some(data.splits["train"], protocol.train_images), _some(data.splits[split], protocol.test_images),
                    split)
    if not len(images.train) or not len(images.test):
        raise BadData(f"{data.name}: no images in train or {split}")
    return images


def measured(contender: Contender, images: Images, protocol: Protocol, workers: int = 0) -> Compared:
    """Accuracies, parameters and multiply-adds; the speed is measured with all contenders together (`with_cost`)."""
    notes = []
    row = Compared(model=contender.name, source=contender.source, weights=contender.weights,
                   image_size=contender.image_size)
    if contender.network is not None:
        row = row.with_(parameters=sum(parameter.numel() for parameter in contender.network.parameters()),
                        macs=_macs(contender))
    accuracy, note = _accuracy(contender, images.test, workers)
    notes += [note] if note else []
    row = row.with_(accuracy_percent=accuracy)
    if contender.features is None:
        notes.append("an exported file has no features for few-shot and k-NN")
    else:
        row = _frozen(row, contender, images, protocol, workers)
    return row.with_(note="; ".join(notes))


def with_cost(row: Compared, cost: Cost) -> Compared:
    best = next(speed for speed in cost.speeds if speed.batch_size == cost.batch_size)
    return row.with_(images_per_second=cost.images_per_second, slowest=best.slowest, fastest=best.fastest,
                     batch_size=cost.batch_size, latency_ms=cost.latency_ms_p50, latency_ms_p90=cost.latency_ms_p90,
                     peak_memory_mib=cost.peak_memory_mib)


def _frozen(row: Compared, contender: Contender, images: Images, protocol: Protocol, workers: int) -> Compared:
    assert contender.features is not None
    train, test = (predict_dataset(contender.features, part, workers=workers) for part in (images.train, images.test))
    num_classes = len(images.train.classes)
    found = few_shot_accuracies(train, images.train.labels, test, images.test.labels, num_classes,
                                shots=protocol.shots, seeds=protocol.seeds)
    votes = knn_classifier(train, images.train.labels, num_classes, min(protocol.neighbours, len(train)))(test)
    return row.with_(few_shot_percent=found.mean_percent, few_shot_deviation=found.deviation_percent,
                     knn_percent=100 * float((votes.argmax(1) == images.test.labels).mean()))


def _accuracy(contender: Contender, test: ImageDataset, workers: int) -> tuple[float | None, str]:
    if contender.weights == "fresh":
        return None, "fresh weights: its head has learnt nothing"
    if not contender.has_head:
        return None, "no head"
    try:
        return evaluate_dataset(contender.predict, test, workers=workers).score_percent, ""
    except BadData as error:
        return None, f"its head is for other classes ({str(error).partition(';')[0]})"


def _macs(contender: Contender) -> int:
    assert contender.network is not None
    like = next(contender.network.parameters())
    channels = contender.predict.preprocess.channels
    image = torch.zeros(1, channels, *contender.image_size, dtype=like.dtype, device=like.device)
    return macs(contender.network, image)


def _some(dataset: ImageDataset, most: int | None) -> ImageDataset:
    """At most so many images, of all classes alike as chance has it, in the data set's order."""
    if most is None or len(dataset) <= most:
        return dataset
    return Subset(dataset, np.sort(generator(0, "compare").permutation(len(dataset))[:most]))


def best_accuracy(rows: Sequence[Compared]) -> str:
    """Which accuracy all rows can be compared by: that of the heads if every row has it, else few-shot, else k-NN."""
    for column in ("accuracy_percent", "few_shot_percent", "knn_percent"):
        if all(getattr(row, column) is not None for row in rows):
            return column
    return "few_shot_percent"
