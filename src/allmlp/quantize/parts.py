"""A network taken apart into what an inference engine runs: norms, linear layers, and nothing of PyTorch.

Everything that can be multiplied out beforehand is: scales and shifts of norms into the layers beside them (`fold`),
the normalisation of pixels into the stem. All numbers are float64 numpy arrays, exact to the rounding of the weights.

Axes: S tokens, C channels, F hidden, K classes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from allmlp.errors import BadData, BadSetting, NotForThisNetwork
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.config import AnyLayer
from allmlp.models.fold import fold
from allmlp.models.layers import Affine
from allmlp.models.model import Model
from allmlp.models.stems import PatchStem
from allmlp.preprocess import LUMA, channel_statistics

OTHERWISE = "use the PyTorch backend for it, or --to onnx, in fp32 or with --quantiser ort"
PIXEL_CENTRE = 128  # the stem sees bytes - 128: exact in bf16, and a zero point in int8


@dataclass(frozen=True)
class Norm:
    """`y * scale + shift`, y the normalised token (`epsilon` a number) or the token itself (None); `(C,)` both."""

    epsilon: float | None
    scale: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Linear:
    """`weight` (outputs, inputs), `bias` (outputs,)."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class MixerParts:
    norm1: Norm
    tokens1: Linear  # (D_S, S)
    tokens2: Linear  # (S, D_S)
    norm2: Norm
    channels1: Linear  # (D_C, C)
    channels2: Linear  # (C, D_C)
    gelu: Literal["erf", "tanh"]


@dataclass(frozen=True)
class ResMLPParts:
    """`x + shift + column_scale * (tokens @ norm1(x))`, then channels as in Mixer."""

    norm1: Norm
    tokens: np.ndarray  # (S, S)
    column_scale: np.ndarray  # (C,)
    shift: np.ndarray  # (S, C)
    norm2: Norm
    channels1: Linear
    channels2: Linear
    gelu: Literal["erf", "tanh"]


@dataclass(frozen=True)
class GMLPParts:
    """`x + out(gelu(carrier(norm1(x))) * tokens(norm2(gelu(gate(norm1(x))))))`."""

    norm1: Norm
    carrier: Linear  # (F / 2, C)
    gate: Linear  # (F / 2, C)
    norm2: Norm  # over F / 2 channels
    tokens: Linear  # (S, S)
    out: Linear  # (C, F / 2)
    gelu: Literal["erf", "tanh"]


BlockParts = MixerParts | ResMLPParts | GMLPParts


@dataclass(frozen=True)
class Parts:
    """`stem` (C, patch rows x patch columns x 3) takes bytes - 128 in the order of an image in memory."""

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    stem: Linear
    blocks: tuple[BlockParts, ...]
    norm: Norm
    head: Linear

    @property
    def tokens(self) -> int:
        return self.image_size[0] // self.patch_size[0] * (self.image_size[1] // self.patch_size[1])

    @property
    def width(self) -> int:
        return len(self.stem.bias)

    def rows_of(self, images: np.ndarray) -> np.ndarray:
        """The pixels of each token in a row, as the stem takes them: uint8 (N, S, patch rows x patch columns x 3)."""
        (rows, columns), (height, width) = self.patch_size, self.image_size
        if images.shape[1:] != (height, width, 3):
            raise BadData(f"images of shape {images.shape[1:]}; this network takes {(height, width, 3)}")
        grid = images.reshape(len(images), height // rows, rows, width // columns, columns, 3).swapaxes(2, 3)
        return grid.reshape(len(images), self.tokens, -1)


def check_supported(model: Model) -> None:
    """Raises `BadSetting`, by name, for a network that the engine can't run."""
    config = model.config
    for block in config.blocks:
        gated = block.kind == "mixer" and block.activation == "swiglu"
        if gated or block.kind not in ("mixer", "resmlp", "gmlp"):
            what = "gated mixers (activation 'swiglu')" if gated else f"blocks of the kind {block.kind!r}"
            raise NotForThisNetwork("the engine and our int8 are for mixer, resmlp and gmlp blocks, not "
                                    f"{what}; {OTHERWISE}")
    if config.stem != PatchStem():
        raise NotForThisNetwork("the engine and our int8 are for linear patches, and this network's stem is "
                                f"{config.stem}; {OTHERWISE}")
    if not config.num_classes:
        raise BadSetting("the engine needs a network with a head, and this one has num_classes 0; give it classes")
    if config.global_pool != "avg":
        raise BadSetting("the engine answers for whole images, and pools them by their mean; this network has "
                         f"global_pool {config.global_pool!r}, use 'avg'")
    if config.in_channels not in (1, 3) or model.preprocess.channels != config.in_channels:
        raise BadSetting(f"the engine takes RGB images for networks with 1 or 3 input channels, not "
                         f"{config.in_channels}")


@torch.no_grad()
def take_apart(model: Model) -> Parts:
    """The parts of a network. Raises `BadSetting` for one that the engine can't run."""
    check_supported(model)
    folded = fold(model)
    width = folded.config.width
    return Parts(
        image_size=folded.config.image_size,
        patch_size=folded.config.patch_size,
        stem=_stem(folded),
        blocks=tuple(_block(config, block, width)
                     for config, block in zip(folded.config.layers, folded.blocks, strict=True)),
        norm=_norm(folded.norm, width),
        head=_linear(folded.head),
    )  # fmt: skip


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _linear(layer: nn.Module) -> Linear:
    assert isinstance(layer, nn.Linear)
    return Linear(_numbers(layer.weight), _numbers(layer.bias))


def _norm(norm: nn.Module, width: int) -> Norm:
    if isinstance(norm, nn.LayerNorm):
        if norm.weight is None:
            return Norm(norm.eps, np.ones(width), np.zeros(width))
        return Norm(norm.eps, _numbers(norm.weight), _numbers(norm.bias))
    if isinstance(norm, Affine):
        return Norm(None, _numbers(norm.alpha).ravel(), _numbers(norm.beta).ravel())
    return Norm(None, np.ones(width), np.zeros(width))


def _stem(model: Model) -> Linear:
    """(u / 255 - mean) / std of every pixel, grey as a weighted sum of the colours, into weights for u - 128."""
    projection = model.stem.proj
    weight = _numbers(projection.weight)  # (C, channels, rows, columns)
    mean, std = (np.array(values)[None, :, None, None] for values in channel_statistics(model.preprocess))
    assert projection.bias is not None
    colours = np.array(LUMA) if weight.shape[1] == 1 else np.ones(3)
    grey = colours.sum() if weight.shape[1] == 1 else 1.0
    bias = _numbers(projection.bias) + (weight * ((grey * PIXEL_CENTRE / 255 - mean) / std)).sum((1, 2, 3))
    weight = weight / (255 * std) * colours[None, :, None, None]
    return Linear(weight.transpose(0, 2, 3, 1).reshape(len(weight), -1), bias)


def _block(config: AnyLayer, block: nn.Module, width: int) -> BlockParts:
    get = block.get_submodule
    if config.kind == "gmlp":
        first, half = _linear(get("mlp_channels.fc1")), config.hidden // 2
        return GMLPParts(
            _norm(get("norm"), width), Linear(first.weight[:half], first.bias[:half]),
            Linear(first.weight[half:], first.bias[half:]), _norm(get("mlp_channels.gate.norm"), half),
            _linear(get("mlp_channels.gate.proj")), _linear(get("mlp_channels.fc2")), config.activation,
        )  # fmt: skip
    assert isinstance(config, MixerConfig | ResMLPConfig)
    channels = (_norm(get("norm2"), width), _linear(get("mlp_channels.fc1")), _linear(get("mlp_channels.fc2")))
    if config.kind == "mixer":
        assert config.activation != "swiglu"
        return MixerParts(_norm(get("norm1"), width), _linear(get("mlp_tokens.fc1")), _linear(get("mlp_tokens.fc2")),
                          *channels, config.activation)
    return ResMLPParts(
        _norm(get("norm1"), width), _numbers(block.get_parameter("linear_tokens.weight")),
        _numbers(block.get_parameter("ls1")), _numbers(block.get_parameter("shift1")), *channels, config.activation,
    )  # fmt: skip
