"""The optimizer, what it decays, and the learning rate at each step.

Where we differ from the sources: Google's fine-tuning keeps SGD's momentum in bfloat16, to save a TPU's memory; ours is
float32. DeiT changes the rate once an epoch, and, as it passes the number of the epoch that is over, trains its first
two epochs at the first rate; ours changes at every step.
"""

import math
from typing import Literal

import torch
from torch import nn

from allmlp.errors import BadSetting
from allmlp.models.blocks.mixer_variants import LinearPerChannel
from allmlp.recipe import Optimizer, Schedule


def parameter_groups(model: nn.Module, weight_decay: float,
                     mask: Literal["kernels", "dimensions"] = "kernels") -> list[dict]:
    """Two groups: what is decayed, and all the rest, which is not. Frozen parameters are left out.

    "kernels": the weight of each linear layer or convolution. Biases, norms, Aff, and LayerScale are never decayed
    (big_vision decays arrays called `kernel`). "dimensions": parameters of more than one axis (timm's and DeiT's rule;
    it takes in Aff, whose shape is (1, 1, C), and so pulls its scale from 1 towards 0).
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, LinearPerChannel)
    kernels = {id(module.weight) for module in model.modules() if isinstance(module, kinds)}
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = {id(p) for p in learning if (id(p) in kernels if mask == "kernels" else p.ndim > 1)}
    return [
        {"params": [p for p in learning if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in learning if id(p) not in decayed], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """A torch optimizer (LAMB: timm's) over `parameter_groups`; `set_rates` sets its learning rate at each step."""
    groups = parameter_groups(model, _decay(settings, settings.weight_decay), settings.decay_mask)
    rate = settings.learning_rate
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum)
    if settings.name == "lamb":
        from timm.optim.lamb import Lamb

        # Clipping is ours, before the step, as for the others.
        return Lamb(groups, lr=rate, betas=settings.betas, eps=settings.epsilon, max_grad_norm=None)
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate, betas=settings.betas, eps=settings.epsilon, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, settings: Optimizer, schedule: Schedule, step: int,
              steps_per_epoch: int) -> float:
    """Set the learning rate and the decay of `step` (from 0) in the groups of `optimizer`; returns the rate."""
    rate = settings.learning_rate * learning_rate_factor(schedule, step, steps_per_epoch)
    for group in optimizer.param_groups:
        group["lr"] = rate
    if settings.weight_decay_end is not None:
        remaining = (1 + math.cos(math.pi * step / total_steps(schedule, steps_per_epoch))) / 2
        span = settings.weight_decay - settings.weight_decay_end
        optimizer.param_groups[0]["weight_decay"] = _decay(settings, settings.weight_decay_end + span * remaining)
    return rate


def _decay(settings: Optimizer, decay: float) -> float:
    """The decay as AdamW takes it, which multiplies it by the rate: that is the peak times the schedule's factor."""
    return decay / settings.learning_rate if settings.decay_semantics == "schedule" else decay


def learning_rate_factor(schedule: Schedule, step: int, steps_per_epoch: int) -> float:
    """The learning rate at `step` (from 0) as a fraction of its peak, by the rules that `Schedule` describes."""
    total, warmup = total_steps(schedule, steps_per_epoch), warmup_steps(schedule, steps_per_epoch)
    if schedule.decay == "steps":
        constant = schedule.with_(decay="constant", milestones=())
        return learning_rate_factor(constant, step, steps_per_epoch) * 0.1 ** sum(m < step for m in schedule.milestones)
    if schedule.rule == "google":
        progress = min(max((step - warmup) / max(total - warmup, 1), 0.0), 1.0)
        return min(1.0, step / warmup if warmup else 1.0) * _remaining(schedule, progress)
    if schedule.rule == "timm":
        if step < warmup:
            return schedule.warmup_factor + (1 - schedule.warmup_factor) * step / warmup
        return _remaining(schedule, min(step / total, 1.0))
    if step < warmup:
        return schedule.warmup_factor + (1 - schedule.warmup_factor) * ((step + 1) / warmup)
    return _remaining(schedule, min((step - warmup) / max(total - 1 - warmup, 1), 1.0))


def _remaining(schedule: Schedule, progress: float) -> float:
    """The decay's factor after a share `progress` of it."""
    if schedule.decay == "constant":
        return 1.0
    remaining = (1 + math.cos(math.pi * progress)) / 2 if schedule.decay == "cosine" else 1 - progress
    return schedule.final_factor + (1 - schedule.final_factor) * remaining


def total_steps(schedule: Schedule, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole training. Raises `BadSetting` where a warm-up counted in steps is longer."""
    total = schedule.steps or max(round(schedule.epochs * steps_per_epoch), 1)
    warmup = warmup_steps(schedule, steps_per_epoch)
    if warmup >= total and (schedule.warmup_steps or schedule.steps):
        raise BadSetting(f"schedule: the warm-up of {warmup:,} steps leaves nothing of the {total:,} steps of this "
                         "training; lower schedule.warmup_steps, or set it to none and schedule.warmup_epochs below "
                         "schedule.epochs")
    return total


def warmup_steps(schedule: Schedule, steps_per_epoch: int) -> int:
    """Steps of the warm-up."""
    return round(schedule.warmup_epochs * steps_per_epoch) if schedule.warmup_steps is None else schedule.warmup_steps
