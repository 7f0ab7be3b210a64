"""A small data set of real digits and a recipe that trains on it in a second."""

import numpy as np
import pytest
import torch

from allmlp.data.dataset import Data
from allmlp.data.digits import open_digits
from allmlp.recipe import Affine, Augment, Optimizer, Recipe, Schedule


class Few:
    """The first `count` images of a data set."""

    def __init__(self, dataset, count: int):
        self.dataset, self.classes, self.labels = dataset, dataset.classes, dataset.labels[:count]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        return self.dataset.image(index)

    def name(self, index: int) -> str:
        return self.dataset.name(index)


@pytest.fixture(scope="session")
def digits() -> Data:
    """100 images to train on and 50 to validate with, so that the last batch of 32 is short."""
    whole = open_digits()
    splits = {"train": Few(whole.splits["train"], 100), "val": Few(whole.splits["test"], 50)}
    return Data("digits", whole.classes, splits)


@pytest.fixture
def recipe() -> Recipe:
    """Everything random is on: order, affine, mixup, cutmix, stochastic depth, EMA."""
    return Recipe(
        name="small", model="mixer_p2_8",
        augment=Augment(affine=Affine(degrees=10, translate=0.1), mixup=0.2, cutmix=1.0),
        optimizer=Optimizer(learning_rate=2e-3), schedule=Schedule(epochs=3, warmup_epochs=0.5),
        batch_size=32, gradient_accumulation=2, stochastic_depth=0.1, ema_decay=0.9, seed=5,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
