"""What a network learns from a batch: an objective turns pixels and targets into the loss that is minimised."""

from typing import Protocol

import torch
from torch import nn

from allmlp.data.dataset import Data, ImageDataset, is_mapped
from allmlp.data.loader import steps_per_epoch
from allmlp.errors import BadSetting
from allmlp.models.model import Model
from allmlp.preprocess import Preprocess
from allmlp.recipe import Recipe
from allmlp.train.dino import DinoObjective
from allmlp.train.distill import Distilled
from allmlp.train.losses import build_loss
from allmlp.train.pixel_losses import pixel_loss
from allmlp.train.supervised import Supervised
from allmlp.train.teacher import Teacher, open_teacher


class Objective(Protocol):
    """What the network learns from a batch."""

    def loss(self, model: nn.Module, pixels: torch.Tensor, targets: torch.Tensor, step: int) -> torch.Tensor:
        """The scalar loss, mean over the batch.

        `pixels`: float32 in [0, 255], `(N, 3, H, W)`, or V views of each image `(N, V, 3, H, W)`, augmented but not
        normalised; `targets`: float `(N, K)`. `model` may be wrapped (compiled, distributed): it is to be called, not
        looked into. Called once for each part of a batch, and with SAM once more.
        """
        ...

    def after_step(self, model: nn.Module, step: int) -> None:
        """What follows an optimizer step, for example a teacher's moving average."""
        ...

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a resumed run needs beside model and optimizer, by name."""
        ...

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take back what `tensors` gave. Raises `BadCheckpoint` for anything else."""
        ...

    def judged(self, model: Model) -> Model:
        """The network to evaluate and save: `model` (or its average) itself, unless another one is what is learnt."""
        ...


def build_objective(recipe: Recipe, data: Data, model: Model, device: torch.device) -> Objective:
    """The objective of a recipe. Raises `BadSetting` where it cannot be learnt from the data.

    For DINO `model` gets the projection head in place of its own, so this comes before whatever holds its parameters
    (the moving average, the optimizer, what distributes it).
    """
    if recipe.dino is not None:
        steps = steps_per_epoch(len(data.splits["train"]), recipe.batch_size)
        return DinoObjective(recipe, model, steps, device)
    return labels_objective(recipe, data.splits["train"], model.preprocess, device)


def labels_objective(recipe: Recipe, train: ImageDataset, preprocess: Preprocess, device: torch.device,
                     teacher: Teacher | None = None) -> Objective:
    """The objective of a recipe that learns labels, for any network whose images `preprocess` normalises. `teacher`: in
    place of the one that the recipe's distillation names."""
    if is_mapped(train):
        return Supervised(preprocess, pixel_loss(recipe, train, device))
    loss_of = build_loss(recipe.loss, train.labels, len(train.classes), device)
    if recipe.distillation is None:
        return Supervised(preprocess, loss_of)
    if recipe.loss.kind != "softmax":
        raise BadSetting(f"distillation learns one class per image; loss.kind is {recipe.loss.kind!r}, not softmax")
    teacher = teacher or open_teacher(recipe.distillation, train.classes, device)
    return Distilled(preprocess, loss_of, teacher, recipe.distillation)
