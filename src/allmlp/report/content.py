"""What a report is made of. Whoever ran the training fills it; nothing here is measured or looked up later."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from allmlp.data.dataset import ImageDataset
from allmlp.evaluate import Metrics, Mistake, MultiLabelMetrics, SegmentationMetrics
from allmlp.models.model import ModelConfig


@dataclass(frozen=True)
class MistakePicture:
    """An image that the network got wrong. `image`: uint8 `(H, W, 3)` of any size; `true` and `predicted` are names."""

    image: np.ndarray
    true: str
    predicted: str
    probability: float  # of `predicted`, in [0, 1]
    name: str  # where the image comes from


@dataclass(frozen=True)
class OverlayPicture:
    """An image, its mask over it, and the network's answer over it: uint8 `(H, W, 3)` of one size."""

    image: np.ndarray
    true: np.ndarray
    found: np.ndarray
    wrong_percent: float  # of the pixels with a class
    name: str


@dataclass(frozen=True)
class Speed:
    """Measured inference, normalisation included. `threads`: on the CPU, else None."""

    batch_size: int
    images_per_second: float
    device: str
    threads: int | None = None


@dataclass(frozen=True)
class RunReport:
    """Everything on the page. What is empty or None leaves its section out."""

    model_name: str
    model: ModelConfig
    data_name: str
    images: Mapping[str, int]  # of each split
    split: str  # the one that `metrics` and `mistakes` are of
    metrics: Metrics | MultiLabelMetrics | SegmentationMetrics | None
    finished: datetime.datetime
    command: str  # that made the run
    recipe_json: str
    # One row per epoch: "epoch", and where known "train_loss", "eval_loss", "eval_score" (else "eval_top1"; percent),
    # "score_name", "eval_split", "lr", "images_per_second", "seconds" since the start. None and NaN count as unknown.
    history: Sequence[Mapping[str, Any]] = ()
    best_epoch: int | None = None  # the one whose weights were kept
    mistakes: Sequence[MistakePicture] = ()
    overlays: Sequence[OverlayPicture] = ()
    augmented: Sequence[np.ndarray] = ()  # training images as the network saw them, uint8 (H, W, 3)
    speed: Sequence[Speed] = ()
    machine: Mapping[str, Any] = field(default_factory=dict)  # name -> value, or a mapping of such (versions)
    notes: Sequence[str] = ()


def mistake_pictures(
    mistakes: Sequence[Mistake], dataset: ImageDataset, classes: Sequence[str]
) -> tuple[MistakePicture, ...]:
    """The pictures of `evaluate.worst_mistakes`, from the data set they were found in; `classes` are the model's."""
    return tuple(
        MistakePicture(
            image=dataset.image(mistake.index),
            true=", ".join(classes[k] for k in mistake.true) or "none",
            predicted=classes[mistake.predicted],
            probability=mistake.probability,
            name=dataset.name(mistake.index),
        )
        for mistake in mistakes
    )
