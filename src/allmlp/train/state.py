"""Everything a run needs to go on exactly where it stopped, as one safetensors file written atomically.

Randomness has no state (it follows from seed, epoch, step and image), so the weights, their average, the optimizer's
moments, what the objective keeps and the counters are all there is.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from allmlp.checkpoint import check_tensors
from allmlp.errors import BadCheckpoint
from allmlp.files import load_tensors, save_tensors
from allmlp.models.model import Model
from allmlp.train.distributed import Processes
from allmlp.train.ema import Ema
from allmlp.train.engine import gathered, spread_as
from allmlp.train.objective import Objective

FORMAT = 1


@dataclass
class Counters:
    """Where a run stands. `step` counts finished optimizer steps over the whole run."""

    step: int = 0
    seconds: float = 0.0  # of training so far, over all parts of the run
    best_score: float | None = None  # best validation accuracy, percent
    best_epoch: int = 0
    epoch_loss_sum: float = 0.0  # over the images of the epoch under way
    epoch_images: int = 0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)  # one row per finished epoch


def tensors_of_run(model: Model, ema: Ema | None, optimizer: torch.optim.Optimizer, objective: Objective,
                   processes: Processes) -> dict[str, torch.Tensor]:
    """All that is to be kept, whole, in the first of the processes, which ask together; in the others nothing.

    What is sharded is gathered tensor by tensor: one file, written by one process, can be renamed into place in one
    step, needs no pickle (as the metadata of PyTorch's distributed checkpoints do), and fits any number of processes.
    """
    tensors = {}

    def keep(name: str, tensor: torch.Tensor) -> None:
        value = gathered(tensor)
        if processes.first:
            tensors[name] = value.cpu()

    for name, tensor in model.state_dict().items():
        keep(f"model/{name}", tensor)
    for name, tensor in ema.model.state_dict().items() if ema is not None else ():
        keep(f"ema/{name}", tensor)
    for name, tensor in objective.tensors().items():
        keep(f"objective/{name}", tensor)
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                keep(f"optimizer/{key}/{name}", torch.as_tensor(value))
    return tensors


def save_state(path: str | os.PathLike, tensors: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer,
               counters: Counters) -> None:
    """Write the state of a run, `tensors_of_run` and counters. Raises `CannotWrite`; the earlier state then stands."""
    group_steps = [float(group.get("step", 0)) for group in optimizer.param_groups]  # where timm's LAMB counts
    about = {"format": FORMAT, "group_steps": group_steps, **asdict(counters)}
    save_tensors(tensors, path, {"allmlp-run": json.dumps(about)})


def load_state(path: str | os.PathLike, model: Model, ema: Ema | None, optimizer: torch.optim.Optimizer,
               objective: Objective, processes: Processes) -> Counters:
    """Put a saved state into all but the path. Raises `BadCheckpoint` where it does not fit them, or is not the same
    for all processes."""
    tensors, metadata = load_tensors(path)
    try:
        about = json.loads(metadata["allmlp-run"])
        if about.pop("format") != FORMAT:
            raise ValueError
        group_steps = about.pop("group_steps")
        counters = Counters(**about)
    except (KeyError, ValueError, TypeError):
        raise BadCheckpoint(f"{path}: not the state of a run that this version of allmlp can resume") from None
    if processes.highest(counters.step) != -processes.highest(-counters.step):
        raise BadCheckpoint(f"{path}: the processes see different states of this run; its folder must be one and the "
                            "same for all of them")
    _restore(tensors, "model/", model, path)
    if ema is not None:
        _restore(tensors, "ema/", ema.model, path)
    objective.load(_part(tensors, "objective/"))
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, moment, name = key.split("/", 2)
            if name not in parameters:
                raise BadCheckpoint(f"{path}: has {key}, and the network no {name}")
            parameter = parameters[name]
            optimizer.state[parameter][moment] = spread_as(value.to(parameter.device), parameter)
    for group, step in zip(optimizer.param_groups, group_steps, strict=True):
        if step:
            group["step"] = torch.tensor(step)
    return counters


def _restore(tensors: dict[str, torch.Tensor], prefix: str, model: Model, path: str | os.PathLike) -> None:
    part = _part(tensors, prefix)
    held = model.state_dict()
    check_tensors(part, held, str(path))
    model.load_state_dict({name: spread_as(tensor, held[name]) for name, tensor in part.items()})


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
