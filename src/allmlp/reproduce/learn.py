"""Data and training inside an experiment: `allmlp train`'s steps without its run folder, for networks of timm too."""

import functools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from allmlp.data import open_data
from allmlp.data.batch import augment_batch
from allmlp.data.dataset import Data, ImageDataset, Subset
from allmlp.data.loader import Loader
from allmlp.errors import BadData, BadSetting, TrainingStopped
from allmlp.preprocess import Preprocess
from allmlp.recipe import Recipe
from allmlp.reproduce.experiment import Job
from allmlp.train.ema import Ema
from allmlp.train.losses import to_targets
from allmlp.train.objective import labels_objective
from allmlp.train.optimizer import build_optimizer, set_rates, total_steps
from allmlp.train.step import take_step
from allmlp.train.teacher import Teacher

FEW = 320  # images of a split, for a job of the tests' size
NO_DATA = "--scale paper needs --data, such as imagenet:DIR (or a set with masks, such as voc:DIR, for segmentation)"
CLASSES = 10  # of digits and digit-scenes, and so of all networks of the laptop scale


def learn(network: nn.Module, recipe: Recipe, train: ImageDataset, *, preprocess: Preprocess, device: str = "cpu",
          every: int | None = None, watch: Callable[[int, nn.Module], None] | None = None,
          teacher: Teacher | None = None) -> nn.Module:
    """Train `network` in place by a recipe; returns the one to evaluate, in evaluation mode: its average where the
    recipe keeps one.

    Loader, augmentation, objective, optimizer, schedule and step are those of `allmlp train`; the recipe's model, init
    and stochastic depth are the caller's business, as the network is there already. `watch(steps done, the network to
    evaluate)` is called after every `every` steps and after the last one. `teacher`: in place of the one that the
    recipe's distillation names. Raises `BadSetting` for a recipe with `dino`
    or `freeze_backbone`, and `TrainingStopped` at the first loss that is not finite.
    """
    if recipe.dino is not None or recipe.freeze_backbone:
        raise BadSetting(f"recipe {recipe.name}: an experiment's networks learn labels, with all their weights; "
                         "leave dino and freeze_backbone out")
    where = torch.device(device)
    network = network.to(where).train()
    objective = labels_objective(recipe, train, preprocess, where, teacher)
    ema = Ema(network, recipe.ema_decay, recipe.ema_warmup) if recipe.ema_decay else None
    judged = ema.model if ema else network
    optimizer = build_optimizer(network, recipe.optimizer)
    loader = Loader(train, preprocess, recipe.augment, recipe.batch_size, recipe.seed)
    last = total_steps(recipe.schedule, loader.steps_per_epoch)
    step = 0
    while step < last:
        for batch in loader.epoch(step // loader.steps_per_epoch):
            targets = to_targets(batch.labels.to(where), len(train.classes))
            pixels, targets = augment_batch(batch.images.to(where), targets, recipe.augment, recipe.seed, step,
                                            batch.place)
            set_rates(optimizer, recipe.optimizer, recipe.schedule, step, loader.steps_per_epoch)
            loss = take_step(network, objective, optimizer, pixels, targets, recipe, step, batch.place)
            if not math.isfinite(loss):
                raise TrainingStopped(f"the loss became {loss} at step {step + 1}; lower optimizer.learning_rate")
            objective.after_step(network, step)
            if ema:
                ema.update(network, step)
            step += 1
            if watch is not None and (step == last or (every and step % every == 0)):
                watch(step, judged.eval())
                network.train()
            if step == last:
                break
    return judged.eval()


def check_data(job: Job) -> None:
    """Open what the user gave as --data, so that a wrong name or folder is refused before anything runs. Raises what
    opening does, and `BadSetting` at paper scale without data."""
    if job.data is not None:
        _opened(job.data, job.data_dir, job.download)
    elif job.scale == "paper":
        raise BadSetting(NO_DATA)


def open_job(job: Job, own: str | Callable[[], Data]) -> Data:
    """The data of a job: what the user gave, else at laptop scale the experiment's `own`, by name or made. Of a reduced
    job the first `FEW` images of each split. Raises what opening does, and `BadSetting` at paper scale without data."""
    if job.data is None and job.scale == "paper":
        raise BadSetting(NO_DATA)
    data = _opened(job.data or own, job.data_dir, job.download)
    if job.scale == "laptop" and len(data.classes) != CLASSES:
        raise BadSetting(f"--data {job.data}: has {len(data.classes)} classes; the laptop's networks have {CLASSES}")
    if not job.reduced:
        return data
    few = {name: Subset(part, np.arange(min(FEW, len(part)))) for name, part in data.splits.items()}
    return Data(data.name, data.classes, few)


def part_to_measure(data: Data) -> ImageDataset:
    """The test part, else the validation part. Raises `BadData` where there is neither."""
    found = data.splits.get("test") or data.splits.get("val")
    if found is None:
        raise BadData(f"{data.name} has a train split only; an experiment needs a test or val split to measure on")
    return found


@functools.lru_cache(maxsize=2)
def _opened(source: str | Callable[[], Data], data_dir: Path | None, download: bool) -> Data:
    """Every arm asks for the same."""
    return source() if callable(source) else open_data(source, data_dir=data_dir, download=download)
