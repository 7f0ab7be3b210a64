"""The ranges of a network's activations, from images of the training set: what int8 has its scales from.

A range is not the largest value that was seen but a percentile of the magnitudes, so that one odd pixel does not cost
all others their precision. Which images: from the training split only; the caller chooses, since evaluation would
otherwise be of images that the network was fitted to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from allmlp.errors import BadData
from allmlp.models.fold import fold
from allmlp.models.model import Model
from allmlp.preprocess import to_network_input

PERCENTILE = 99.99  # of a tensor's magnitudes; a channel, with far fewer values, takes its largest
BATCH = 16


@dataclass(frozen=True)
class BlockRanges:
    """Of one block. `tokens_in` (C,): largest magnitude of each channel that token mixing sees (gMLP: the gate).
    `tokens_hidden`: (low, high) before GELU. `channels_in` (C,): as tokens_in. `channels_hidden`: (low, high) before
    GELU; in gMLP of the gated values, symmetric."""

    tokens_in: np.ndarray
    tokens_hidden: tuple[float, float]
    channels_in: np.ndarray
    channels_hidden: tuple[float, float]


@torch.inference_mode()
def calibrate(model: Model, images: np.ndarray, percentile: float = PERCENTILE) -> tuple[BlockRanges, ...]:
    """The ranges of every block over `images`, uint8 `(N, H, W, 3)` from the training set.

    Raises `BadData` for none.
    """
    if not len(images):
        raise BadData("calibration needs at least one image of the training set; 64 are enough")
    folded = fold(model).eval()
    found: dict[tuple[int, str], Any] = {}
    hooks = [
        hook
        for number, (config, block) in enumerate(zip(folded.config.layers, folded.blocks, strict=True))
        for hook in _watch(config.kind, block, number, found, percentile)
    ]
    try:
        for first in range(0, len(images), BATCH):
            folded(to_network_input(images[first : first + BATCH], folded.preprocess))
    finally:
        for hook in hooks:
            hook.remove()
    nothing = (0.0, 0.0)
    return tuple(
        BlockRanges(found[number, "tokens_in"], found.get((number, "tokens_hidden"), nothing),
                    found[number, "channels_in"], found[number, "channels_hidden"])
        for number in range(folded.config.depth)
    )  # fmt: skip


def _watch(kind: str, block: nn.Module, number: int, found: dict[tuple[int, str], Any], percentile: float) -> list[Any]:
    def channels(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            largest = output.abs().flatten(0, -2).amax(0).double().numpy()
            found[number, name] = np.maximum(found[number, name], largest) if (number, name) in found else largest

        return hook

    def tensor(name: str, symmetric: bool = False) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            low, high = _percentiles(output.abs() if symmetric else output, percentile)
            before = found.get((number, name), (low, high))
            found[number, name] = (min(low, before[0]), max(high, before[1]))

        return hook

    get = block.get_submodule
    if kind == "gmlp":
        watched = [("norm", channels("channels_in")), ("mlp_channels.gate.norm", channels("tokens_in")),
                   ("mlp_channels.gate", tensor("channels_hidden", symmetric=True))]
    else:
        watched = [("norm1", channels("tokens_in")), ("norm2", channels("channels_in")),
                   ("mlp_channels.fc1", tensor("channels_hidden"))]
        if kind == "mixer":
            watched.append(("mlp_tokens.fc1", tensor("tokens_hidden")))
    return [get(name).register_forward_hook(hook) for name, hook in watched]


def _percentiles(values: torch.Tensor, percentile: float) -> tuple[float, float]:
    flat = values.flatten()
    beyond = max(1, round(flat.numel() * (100 - percentile) / 100))
    high = flat.topk(beyond).values[-1].item()
    low = flat.topk(beyond, largest=False).values[-1].item()
    return low, high
