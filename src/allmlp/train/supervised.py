"""Learning from labels as they are, the objective of most recipes."""

import torch
from torch import nn

from allmlp.models.model import Model
from allmlp.preprocess import Preprocess, normalise
from allmlp.train.losses import LossFunction


class Stateless:
    """The part of an objective that keeps nothing beside the model."""

    def after_step(self, model: nn.Module, step: int) -> None:
        pass

    def tensors(self) -> dict[str, torch.Tensor]:
        return {}

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        pass

    def judged(self, model: Model) -> Model:
        return model


class Supervised(Stateless):
    """Learn the targets."""

    def __init__(self, preprocess: Preprocess, loss_of: LossFunction):
        self.preprocess, self.loss_of = preprocess, loss_of

    def loss(self, model: nn.Module, pixels: torch.Tensor, targets: torch.Tensor, step: int) -> torch.Tensor:
        return self.loss_of(model(normalise(pixels, self.preprocess)), targets)
