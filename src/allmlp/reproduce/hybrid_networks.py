"""The networks of the experiment `hybrids`: each idea brought to the multiply-adds of the same plain Mixer.

A Mixer of 4 blocks sets the cost; every other network has as many layers of its kind and is made wider or narrower
until one image takes it as many multiply-adds: first the width (in steps of the heads), then the hidden width of the
channel MLPs, between 1.5 and 2.5 times the width where the Mixer's is twice. So parameters differ, and so does speed,
which is measured.
"""

from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import nn

from allmlp.data.seeds import derived_seed
from allmlp.evaluate.cost_process import macs
from allmlp.inspection.flops import count_macs
from allmlp.models.config import ModelConfig
from allmlp.models.model import build
from allmlp.models.spelling import spelled_blocks
from allmlp.models.stems import ConvolutionStem, PatchStem
from allmlp.preprocess import Preprocess
from allmlp.reproduce.baselines import resnet, vit
from allmlp.reproduce.learn import CLASSES

HEADS, DEPTH = 4, 4


class Images(NamedTuple):
    """A set of images: their side, the plain Mixer's patch, and its width."""

    size_px: int
    patch_px: int
    width: int

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess(image_size=(self.size_px, self.size_px), crop_ratio=1.0)


SETS = {"digit-scenes": Images(32, 8, 64), "digits": Images(8, 2, 48)}  # 16 tokens both


class Idea(NamedTuple):
    """`blocks` in words (`models/spelling.py`); of what kind the stem is, and its B over the Mixer's patch P."""

    group: str
    blocks: str
    stem: Literal["patches", "overlap", "convolutions"] = "patches"
    block: float = 1


MIXER, VIT, RESNET = "Mixer", "ViT", "ResNet"
STEM, COMPOSED, CONVOLVED, CONTROL = "stems", "Mixer and attention", "convolution, stages", "controls"
IDEAS: dict[str, Idea] = {
    MIXER: Idea(CONTROL, "mixer*4"),
    "identity": Idea(CONTROL, "identity*4"),
    "pooling": Idea(CONTROL, "pooling*4"),
    "overlapping patches": Idea(STEM, "mixer*4", "overlap"),
    "convolutional stem, B = P/2": Idea(STEM, "mixer*4", "convolutions", 0.5),
    "convolutional stem, B = P": Idea(STEM, "mixer*4", "convolutions"),
    "convolutional stem, B = 2P": Idea(STEM, "mixer*4", "convolutions", 2),
    "Mixer, attention in turn": Idea(COMPOSED, "mixer,attention,mixer,attention"),
    "first Mixer, then attention": Idea(COMPOSED, "mixer*2,attention*2"),
    "first attention, then Mixer": Idea(COMPOSED, "attention*2,mixer*2"),
    "Mixer + attention, fixed": Idea(COMPOSED, ",".join(["mixer+attention"] * DEPTH)),
    "Mixer + attention, learned": Idea(COMPOSED, ",".join(["mixer~attention"] * DEPTH)),
    "depthwise convolution after Mixer": Idea(CONVOLVED, ",".join(["mixer,conv"] * DEPTH)),
    "full convolution after Mixer": Idea(CONVOLVED, ",".join(["mixer,full_conv"] * DEPTH)),
    "pyramid from P/2": Idea(CONVOLVED, "mixer*2,merging,mixer*2", block=0.5),
    "convolutional stem, pyramid": Idea(CONVOLVED, "mixer*2,merging,mixer*2", "convolutions", 0.5),
    "convolutional stem, depthwise": Idea(CONVOLVED, ",".join(["mixer,conv"] * DEPTH), "convolutions"),
}
TRANSFORMER = Idea(CONTROL, f"attention*{DEPTH}")  # as many multiply-adds as timm's ViT of the same sizes
NAMES = (MIXER, VIT, RESNET, *list(IDEAS)[1:])
GROUPS = {name: IDEAS[name].group if name in IDEAS else CONTROL for name in NAMES}


def config_of(idea: Idea, images: Images, width: int, channel_hidden: int) -> ModelConfig:
    """The network of an idea at one size. Raises `BadSetting` for sizes that make none."""
    patch = int(images.patch_px * idea.block)
    stem = {"patches": PatchStem(), "overlap": PatchStem(overlap=max(patch // 4, 1)),
            "convolutions": ConvolutionStem()}[idea.stem]
    layers = spelled_blocks(idea.blocks, width, channel_hidden, heads=HEADS)
    return ModelConfig(image_size=(images.size_px, images.size_px), patch_size=(patch, patch), width=width,
                       depth=len(layers), blocks=layers, stem=stem, num_classes=CLASSES)


@cache
def target(images: Images) -> int:
    """Multiply-adds of the plain Mixer."""
    return count_macs(config_of(IDEAS[MIXER], images, images.width, 2 * images.width))


@cache
def sizes(idea: Idea, images: Images) -> tuple[int, int]:
    """The width, and then the hidden width, at which an idea's multiply-adds are nearest to the Mixer's."""
    def off(width: int, hidden: int) -> float:
        return abs(count_macs(config_of(idea, images, width, hidden)) / target(images) - 1)

    if idea == IDEAS[MIXER]:
        return images.width, 2 * images.width
    width = min(range(HEADS, 4 * images.width, HEADS), key=lambda width: off(width, 2 * width))
    return width, min(range(3 * width // 2, 5 * width // 2 + 1), key=lambda hidden: (off(width, hidden), hidden))


def sized(name: str, images: Images) -> ModelConfig:
    return config_of(IDEAS[name], images, *sizes(IDEAS[name], images))


@cache
def resnet_width(images: Images) -> int:
    """Of the first of four stages of one block each."""
    return min(range(2, 20), key=lambda width: abs(_macs(resnet(images.size_px, CLASSES, width), images)
                                                   - target(images)))


def _macs(network: nn.Module, images: Images) -> int:
    return macs(network.eval(), torch.zeros(1, 3, images.size_px, images.size_px))


def network_of(name: str, data: str, seed: int = 0) -> nn.Module:
    """A network with fresh weights, for the images of `data`. Raises `AllMLPError` where it cannot be built."""
    images = SETS[data]
    if name == VIT:
        width, hidden = sizes(TRANSFORMER, images)
        return vit(images.size_px, images.patch_px, width, DEPTH, CLASSES, HEADS, seed, hidden / width)
    if name == RESNET:
        return resnet(images.size_px, CLASSES, resnet_width(images), seed=seed)
    return build(sized(name, images), images.preprocess,
                 generator=torch.Generator().manual_seed(derived_seed(seed, "hybrids", name)))
