"""Exponential moving average of the weights (Polyak averaging), the network that is evaluated and saved."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class Ema(Generic[Network]):
    """A copy of `model` whose weights follow it: w ← d·w + (1 - d)·model. Its buffers (running statistics) are taken
    over as they are.

    With `warmup`, d = min(decay, (1 + t)/(10 + t)), so that the average forgets the random start; t counts updates from
    0. Without, d is `decay` throughout (timm's ModelEma, and so DeiT's, with 0.99996).
    """

    def __init__(self, model: Network, decay: float, warmup: bool = True):
        self.decay, self.warmup = decay, warmup
        self.model: Network = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: Network, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay
        for average, parameter in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(parameter, 1 - decay)
        for kept, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)
