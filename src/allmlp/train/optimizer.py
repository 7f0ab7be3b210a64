"""The optimizer, what it decays, and the learning rate at each step."""

import math

import torch
from torch import nn

from allmlp.recipe import Optimizer, Schedule


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups: kernels, which are decayed, and all the rest, which is not.

    A kernel is the weight of a linear layer or a convolution. Biases, norms, Aff, and LayerScale are never decayed
    (big_vision decays arrays called `kernel`; Aff's (1, 1, C) shape would fool a rule that counts dimensions).
    Frozen parameters are left out.
    """
    kernels = {
        id(module.weight) for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d))
    }
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in learning if id(p) in kernels], "weight_decay": weight_decay},
        {"params": [p for p in learning if id(p) not in kernels], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """A torch optimizer (LAMB: timm's) over `parameter_groups`; its learning rate is set at each step."""
    groups = parameter_groups(model, settings.weight_decay)
    rate = settings.learning_rate
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum)
    if settings.name == "lamb":
        from timm.optim.lamb import Lamb

        # Clipping is ours, before the step, as for the others.
        return Lamb(groups, lr=rate, betas=settings.betas, eps=settings.epsilon, max_grad_norm=None)
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate, betas=settings.betas, eps=settings.epsilon, fused=True)


def learning_rate_factor(schedule: Schedule, step: int, steps_per_epoch: int) -> float:
    """The learning rate at `step` (from 0) as a fraction of its peak.

    Warm-up: (step + 1) / warm-up steps. Decay: from 1 at the end of the warm-up to `final_factor` at the last step.
    """
    total, warmup = total_steps(schedule, steps_per_epoch), round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    progress = min((step - warmup) / max(total - 1 - warmup, 1), 1.0)
    if schedule.decay == "constant":
        return 1.0
    remaining = (1 + math.cos(math.pi * progress)) / 2 if schedule.decay == "cosine" else 1 - progress
    return schedule.final_factor + (1 - schedule.final_factor) * remaining


def total_steps(schedule: Schedule, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole training."""
    return max(round(schedule.epochs * steps_per_epoch), 1)
