"""What all-MLP networks are compared with, small and for small images, made of timm's parts."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import timm
import torch
from torch import nn

from allmlp.data.seeds import derived_seed

STEM_WIDTH = 64  # timm's ResNet has no other


def resnet(image_size: int, num_classes: int, width: int = 16, layers: tuple[int, int, int, int] = (1, 1, 1, 1),
           stem_stride: Literal[1, 2, 4] | None = None, seed: int = 0) -> nn.Module:
    """A ResNet of basic blocks. Width doubles, and the image shrinks by 2, from each of four stages to the next.

    Its stem, a 3 x 3 convolution to 64 channels, shrinks the image by `stem_stride`: 2 by its stride, 4 with max
    pooling too. None: 1 below 16 pixels, 2 below 32, else 4 as usual. He's start, as timm's. `seed` fixes the weights.
    """
    with seeded(seed, "resnet"):
        block: Any = timm.models.resnet.BasicBlock  # timm's annotation asks for a block where it takes their class
        network = timm.models.resnet.ResNet(
            block, layers=layers, channels=tuple(width * 2**stage for stage in range(4)), num_classes=num_classes)
        shrink = stem_stride or (1 if image_size < 16 else 2 if image_size < 32 else 4)
        network.conv1 = nn.Conv2d(3, STEM_WIDTH, 3, min(shrink, 2), padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        if shrink < 4:
            network.maxpool = nn.Identity()
        return network


def vit(image_size: int, patch_size: int, width: int, depth: int, num_classes: int, heads: int = 4,
        seed: int = 0, mlp_ratio: float = 4.0) -> nn.Module:
    """A ViT that is pooled by the mean over tokens, as our networks are, and has no class token; `mlp_ratio` is its
    MLPs' hidden width over the width. `seed` fixes the weights."""
    with seeded(seed, "vit"):
        return timm.models.VisionTransformer(
            img_size=image_size, patch_size=patch_size, embed_dim=width, depth=depth, num_heads=heads,
            mlp_ratio=mlp_ratio, num_classes=num_classes, class_token=False, global_pool="avg", fc_norm=False)


@contextlib.contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """torch's global generator, which timm's networks draw from, at the beginning of what belongs to `key`; afterwards
    it is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(*key))
        yield
