"""One optimizer step: the gradients of a batch, over its parts and processes, then clipping, then the optimizer."""

import math

import torch
from torch import nn

from allmlp.data.place import Place
from allmlp.data.seeds import derived_seed
from allmlp.models.layers import draw_for_whole_batch
from allmlp.recipe import Recipe
from allmlp.train.distributed import ALONE, Processes
from allmlp.train.engine import synchronising
from allmlp.train.objective import Objective
from allmlp.train.sam import perturbed


def take_step(network: nn.Module, objective: Objective, optimizer: torch.optim.Optimizer, pixels: torch.Tensor,
              targets: torch.Tensor, recipe: Recipe, step: int, where: Place | None = None,
              processes: Processes = ALONE) -> float:
    """Move `network` by one batch; returns its loss. With a loss that is not finite, nothing moves.

    `pixels`: float32 in [0, 255], `(N, 3, H, W)`; `targets`: `(N, K)`; `step` counts from 0. `where`: which images of
    the whole batch these are, where other `processes` have the rest; all of them take the step together and get the
    same loss. The learning rate is the one that the optimizer's groups hold.
    """
    def gradients_here() -> float:
        return gradients(network, objective, pixels, targets, recipe, step, where, processes)

    loss = gradients_here()
    if recipe.optimizer.sam_rho and math.isfinite(loss):
        with perturbed(network, recipe.optimizer.sam_rho):
            optimizer.zero_grad(set_to_none=True)
            there = gradients_here()
        loss = loss if math.isfinite(there) else there
    if math.isfinite(loss):
        if recipe.optimizer.clip_norm:
            learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
            nn.utils.clip_grad_norm_(learning, recipe.optimizer.clip_norm)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss


def gradients(network: nn.Module, objective: Objective, pixels: torch.Tensor, targets: torch.Tensor, recipe: Recipe,
              step: int, where: Place | None = None, processes: Processes = ALONE) -> float:
    """Add the gradient of the whole batch's mean loss to the parameters' `.grad`; returns that loss.

    The batch is computed in `recipe.gradient_accumulation` parts (fewer where it has fewer images), image i of it in
    part i modulo their number. Stochastic depth is drawn for the whole part from (seed, step, part), so a second call
    draws the same, and so does any number of processes. Dropout, drawn number by number, differs between processes.
    """
    total = len(pixels) if where is None else where.total
    parts = min(recipe.gradient_accumulation, total)
    key = (processes.rank,) if recipe.dropout and processes.rank else ()
    losses = []
    for part in range(parts):
        part_pixels, part_targets = pixels[part::parts], targets[part::parts]
        share = len(part_pixels) / total
        if len(part_pixels) == 0 or (where is not None and where.idle):  # take part, as the others wait, without weight
            part_pixels, part_targets, share = pixels[:1], targets[:1], 0.0
        if where is not None and processes.count > 1 and not key:
            groups = where.rows[: where.own][part::parts] // parts if share else where.rows[:1] * 0
            draw_for_whole_batch(network, groups, math.ceil((total - part) / parts))
        torch.manual_seed(derived_seed(recipe.seed, "depth", step, part, *key))
        with synchronising(network, now=part == parts - 1):
            with torch.autocast(pixels.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                loss = objective.loss(network, part_pixels, part_targets, step)
            (loss * (share * processes.count)).backward()  # of all processes' gradients, the mean is taken
        losses.append(loss.detach() * share)
    return processes.sum(sum(torch.stack(losses).tolist()))  # one wait for the device, not one for each part
