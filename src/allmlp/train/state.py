"""Everything a run needs to go on exactly where it stopped, as one safetensors file written atomically.

Randomness has no state (it follows from seed, epoch, step and image), so the weights, their average, the optimizer's
moments and the counters are all there is.
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
from allmlp.train.ema import Ema

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


def save_state(
    path: str | os.PathLike, model: Model, ema: Ema | None, optimizer: torch.optim.Optimizer, counters: Counters
) -> None:
    """Write the state of a run. Raises `CannotWrite`; the earlier state is then untouched."""
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    if ema is not None:
        tensors |= {f"ema/{name}": tensor for name, tensor in ema.model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"optimizer/{key}/{name}"] = torch.as_tensor(value)
    group_steps = [float(group.get("step", 0)) for group in optimizer.param_groups]  # where timm's LAMB counts
    about = {"format": FORMAT, "group_steps": group_steps, **asdict(counters)}
    save_tensors(tensors, path, {"allmlp-run": json.dumps(about)})


def load_state(
    path: str | os.PathLike, model: Model, ema: Ema | None, optimizer: torch.optim.Optimizer
) -> Counters:
    """Put a saved state into `model`, `ema` and `optimizer`. Raises `BadCheckpoint` where it does not fit them."""
    device = next(model.parameters()).device
    tensors, metadata = load_tensors(path, str(device))
    try:
        about = json.loads(metadata["allmlp-run"])
        if about.pop("format") != FORMAT:
            raise ValueError
        group_steps = about.pop("group_steps")
        counters = Counters(**about)
    except (KeyError, ValueError, TypeError):
        raise BadCheckpoint(f"{path}: not the state of a run that this version of allmlp can resume") from None
    _restore(tensors, "model/", model, path)
    if ema is not None:
        _restore(tensors, "ema/", ema.model, path)
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, moment, name = key.split("/", 2)
            optimizer.state[parameters[name]][moment] = value
    for group, step in zip(optimizer.param_groups, group_steps, strict=True):
        if step:
            group["step"] = torch.tensor(step)
    return counters


def _restore(tensors: dict[str, torch.Tensor], prefix: str, model: Model, path: str | os.PathLike) -> None:
    part = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    check_tensors(part, model.state_dict(), str(path))
    model.load_state_dict(part)
