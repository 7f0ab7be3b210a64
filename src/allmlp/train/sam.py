"""Sharpness-aware minimisation: learn from the gradient at the worst point nearby, not at the weights themselves.

Source: Foret et al., arXiv 2010.01412, Algorithm 1 with p = 2: with g the gradient at w, and

    e = rho · g / ||g||₂        over all weights together,

the optimizer takes the gradient at w + e and applies it to w (the gradient of e itself is left out, as there). With
several processes g is the gradient of the whole batch, not of each process's part ("m-sharpness" would take the
latter): the result does not depend on their number.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.distributed.tensor import DTensor


@contextlib.contextmanager
def perturbed(model: nn.Module, rho: float) -> Iterator[None]:
    """Inside the `with`, the weights of `model` stand `rho` away, uphill along the gradient that `.grad` holds.

    Afterwards, also after an error, they are what they were, bit for bit; `.grad` is left to the caller. Weights
    without a gradient stay, and so do all of them where the gradient is zero. Takes the weights' memory once more.
    """
    moved = [parameter for parameter in model.parameters() if parameter.grad is not None]
    before = [parameter.detach().clone() for parameter in moved]
    with torch.no_grad():
        slopes = [parameter.grad for parameter in moved if parameter.grad is not None]
        norm = nn.utils.get_total_norm(slopes)
        if isinstance(norm, DTensor):  # sharded weights: each process has part of the sum
            norm = norm.full_tensor()
        scale = torch.where(norm > 0, rho / norm, 0.0)
        for parameter, slope in zip(moved, slopes, strict=True):
            parameter.add_(slope * scale)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, weight in zip(moved, before, strict=True):
                parameter.copy_(weight)
