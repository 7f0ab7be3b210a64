"""The ranges of a network's activations, from images of the training set: what int8 has its scales from.

Three choices of a range: all that was seen (`minmax`); all but a thousandth of a percent at either end (`percentile`),
so that one odd pixel does not cost all others their precision; or the one that loses least, cutting and rounding taken
together, over what was seen (`mse`). Token mixing has a range for each channel, which is given some room beyond.
Which images: from the training split only; the caller chooses, since evaluation would otherwise be of images that the
network was fitted to.

Activations are seen twice: once for their extremes, and once counted in bins between them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from allmlp.errors import BadData
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.config import ModelConfig
from allmlp.models.fold import fold
from allmlp.models.model import Model
from allmlp.preprocess import to_network_input
from allmlp.quantize.choices import BEST, Calibration, Choices
from allmlp.quantize.tables import gelu, gelu_table, index_range, to_entry

PERCENTILE = 99.999  # of a tensor's values, at either end
BATCH = 16
MOST_NUMBERS = 1 << 26  # of a layer, of all images that are looked at together: 512 MB in float64
MOST_COUNTED = 1 << 24  # numbers at a time
TENSOR_BINS, CHANNEL_BINS = 4096, 512
CUTS = np.linspace(1, 0.3, 36)  # parts of a range that `mse` tries


@dataclass(frozen=True)
class BlockRanges:
    """Of one block. `tokens_in` (C,): of each channel that token mixing sees (gMLP: the gate), the largest distance
    from `tokens_centre`. `tokens_hidden`: lowest and highest before GELU. `channels_in`: as tokens_in.
    `channels_hidden`: before GELU; in gMLP of the gated values."""

    tokens_in: np.ndarray
    tokens_hidden: tuple[float, float]
    channels_in: np.ndarray
    channels_hidden: tuple[float, float]
    tokens_centre: np.ndarray | float = 0.0
    channels_centre: np.ndarray | float = 0.0


# What is watched: by module, the range's name, and what it is: channels around zero, channels around a centre of their
# own, the arguments of GELU, or any tensor.
Watched = tuple[tuple[str, str, Literal["zero", "centre", "gelu", "tensor"]], ...]
MIXER: Watched = (("norm1", "tokens_in", "zero"), ("mlp_tokens.fc1", "tokens_hidden", "gelu"),
                  ("norm2", "channels_in", "centre"), ("mlp_channels.fc1", "channels_hidden", "gelu"))
RESMLP: Watched = (("norm1", "tokens_in", "centre"), *MIXER[2:])
GMLP: Watched = (("norm", "channels_in", "centre"), ("mlp_channels.gate.norm", "tokens_in", "zero"),
                 ("mlp_channels.gate", "channels_hidden", "tensor"))
WATCHED: dict[str, Watched] = {"mixer": MIXER, "resmlp": RESMLP, "gmlp": GMLP}


@torch.inference_mode()
def calibrate(model: Model, images: np.ndarray, choices: Choices = BEST) -> tuple[BlockRanges, ...]:
    """The ranges of every block over `images`, uint8 `(N, H, W, 3)` from the training set.

    Raises `BadData` for none, and where the network's numbers do not stay finite.
    """
    if not len(images):
        raise BadData("calibration needs at least one image of the training set; 64 are enough")
    folded = fold(model).eval()
    extremes: dict[Key, np.ndarray] = {}

    def see(key: Key, values: torch.Tensor) -> None:
        low, high = (values.amin(0), values.amax(0)) if key.what != "zero" else (-values.abs().amax(0),) * 2
        low_high = torch.stack([low, -low if key.what == "zero" else high]).double().numpy()
        if not np.isfinite(low_high).all():
            raise _overflows(f"in block {key.block}")
        before = extremes.get(key, low_high)
        extremes[key] = np.stack([np.minimum(before[0], low_high[0]), np.maximum(before[1], low_high[1])])

    _watch(folded, images, see)
    ranges = extremes
    if choices.calibration != "minmax":
        counts: dict[Key, np.ndarray] = {}

        def count(key: Key, values: torch.Tensor) -> None:
            counts[key] = counts.get(key, 0) + _count(values, extremes[key])

        _watch(folded, images, count)
        ranges = {key: _chosen(choices.calibration, key, extremes[key], counts[key]) for key in extremes}
    found: list[dict[str, Any]] = [{"tokens_hidden": (0.0, 0.0)} for _ in folded.blocks]
    for key, (low, high) in ranges.items():
        if key.what in ("zero", "centre"):
            half = (high - low) / 2 * (choices.headroom if key.name == "tokens_in" else 1)
            found[key.block] |= {key.name: half, key.name.replace("_in", "_centre"): (high + low) / 2}
        else:
            found[key.block][key.name] = (float(low[0]), float(high[0]))
    return tuple(BlockRanges(**ranges_) for ranges_ in found)


def images_at_once(config: ModelConfig, most: int) -> int:
    """How many images, at most `most` and at least one, have no layer of more than `MOST_NUMBERS`. `config`: of a
    network that int8 is for."""
    tokens = math.prod(config.grid)
    largest = max(3 * math.prod(config.image_size), tokens * config.width)
    for layer in config.layers:
        if isinstance(layer, MixerConfig):
            largest = max(largest, layer.token_hidden * config.width)
        hidden = layer.channel_hidden if isinstance(layer, MixerConfig | ResMLPConfig) else getattr(layer, "hidden", 0)
        largest = max(largest, tokens * hidden)
    return max(1, min(most, MOST_NUMBERS // largest))


class Key(NamedTuple):
    block: int
    name: str
    what: str
    gelu: str  # which


def _watch(folded: Model, images: np.ndarray, see: Callable[[Key, torch.Tensor], None]) -> None:
    """Run the images through, and show what is watched as (values, channels), one channel where it is a tensor's."""

    def hook(key: Key) -> Callable[..., None]:
        def call(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            see(key, output.flatten(0, -2) if key.what in ("zero", "centre") else output.reshape(-1, 1))

        return call

    hooks = [
        block.get_submodule(module).register_forward_hook(hook(Key(number, name, what, str(config.activation))))
        for number, (config, block) in enumerate(zip(folded.config.layers, folded.blocks, strict=True))
        for module, name, what in WATCHED[config.kind]
    ]
    try:
        batch = images_at_once(folded.config, BATCH)
        for first in range(0, len(images), batch):
            if not folded(to_network_input(images[first : first + batch], folded.preprocess)).isfinite().all():
                raise _overflows("at its end")
    finally:
        for each in hooks:
            each.remove()


def _overflows(where: str) -> BadData:
    return BadData(f"{where} the network's numbers are not finite for the calibration images, so that int8 has no "
                   "range for them; its training diverged or its weights are damaged: take an earlier checkpoint")


def _bins(channels: int) -> int:
    return TENSOR_BINS if channels == 1 else CHANNEL_BINS


def _count(values: torch.Tensor, low_high: np.ndarray) -> np.ndarray:
    """How many of each channel's values lie in each bin of its range: (channels, bins)."""
    channels, bins = values.shape[1], _bins(values.shape[1])
    low, high = torch.from_numpy(low_high)
    width = torch.clamp((high - low) / bins, min=1e-30)
    counts = torch.zeros(channels * bins, dtype=torch.long)
    for part in values.split(max(1, MOST_COUNTED // channels)):
        index = ((part.double() - low) / width).long().clamp_(0, bins - 1) + torch.arange(channels) * bins
        counts += torch.bincount(index.flatten(), minlength=channels * bins)
    return counts.reshape(channels, bins).numpy()


def _chosen(calibration: Calibration, key: Key, low_high: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The range (2, channels) that is kept of `low_high`, given what lies where in it."""
    (low, high), bins = low_high, counts.shape[1]
    width = (high - low) / bins
    if calibration == "percentile":
        below = counts.cumsum(1) / counts.sum(1, keepdims=True)
        first = (below < 1 - PERCENTILE / 100).sum(1)
        last = (below < PERCENTILE / 100).sum(1)
        low, high = low + first * width, low + (last + 1) * width
        return np.stack([np.minimum(low, -high), np.maximum(-low, high)] if key.what == "zero" else [low, high])
    centres = low[:, None] + (np.arange(bins) + 0.5) * width[:, None]
    if key.what == "gelu":
        return _least_loss_of_table(centres[0], counts[0], float(low[0]), float(high[0]), key.gelu)
    middle, half = (low + high)[:, None] / 2, (high - low)[:, None] / 2
    away = np.abs(centres - middle)
    losses = [(counts * (np.maximum(away - cut * half, 0) ** 2 + (cut * half / 127) ** 2 / 12)).sum(1) for cut in CUTS]
    kept = CUTS[np.argmin(losses, 0)] * half[:, 0]
    return np.stack([middle[:, 0] - kept, middle[:, 0] + kept])


def _least_loss_of_table(centres: np.ndarray, counts: np.ndarray, low: float, high: float, kind: str) -> np.ndarray:
    """The range of arguments for which the table of GELU loses least."""
    exact, best, found = gelu(centres, kind), np.inf, (low, high)
    lowest, highest = index_range(low, high)
    for bottom in np.linspace(lowest, min(lowest, -0.5) / 3, 13):
        for top in highest * CUTS[::2]:
            begin, end = index_range(float(bottom), float(top))
            table = gelu_table(begin, end, kind)
            found_bytes = table.entries[to_entry((centres - table.low) / table.step)].astype(np.float64)
            loss = float((counts * ((found_bytes - table.zero_point) * table.scale - exact) ** 2).sum())
            if loss < best:
                best, found = loss, (begin, end)
    return np.array(found)[:, None]
