"""SPACH's networks: convolution, token MLP and attention under one frame (arXiv 2108.13002; microsoft/SPACH).

Single-stage networks have patches of 16 pixels, multi-stage ones ("MS") start at 4 and three times merge 2 x 2 tokens
while the channels double. In multi-stage networks the first stage mixes by convolution only, whatever the network is
called. Token mixing has half as many hidden units as tokens. Attention heads have 32 channels in the first stage; their
number stays while the channels double.
"""

from collections.abc import Sequence
from typing import Literal

from allmlp.models.blocks.spach import SpachConfig
from allmlp.models.config import AnyLayer, ModelConfig
from allmlp.models.layers import LayerNormConfig, StochasticDepth
from allmlp.models.merging import MergingConfig, WholeImageNormConfig
from allmlp.models.stems import PatchStem

Mixing = Literal["convolution", "mlp", "attention"]
Stage = Sequence[tuple[Mixing, int]]  # what mixes tokens, in how many blocks, one kind after the other

HEAD_WIDTH = 32


def spach_network(
    stages: Sequence[Stage], *, width: int, ratio: int, patch: int, image: int = 224, heads: int | None = None,
    shared: bool = False, num_classes: int = 1000, drop_path: float = 0.0,
) -> ModelConfig:
    """A network of one or more stages. `ratio`: hidden units of channel mixing, in widths. `heads`: None, as above.
    `shared`: the blocks of each run of token MLPs or attention share their token mixing (SPACH's
    `shared_spatial_func`)."""
    heads = heads or max(width // HEAD_WIDTH, 1)
    layers: list[AnyLayer] = []
    side, channels = image // patch, width
    for number, stage in enumerate(stages):
        if number:
            layers.append(MergingConfig(norm=WholeImageNormConfig()))
            side, channels = side // 2, 2 * channels
        for mixing, depth in stage:
            block = SpachConfig(
                mixing=mixing, channel_hidden=ratio * channels, heads=heads if mixing == "attention" else 0,
                token_hidden=side * side // 2 if mixing == "mlp" else 0,
            )
            together = shared and mixing != "convolution"
            layers += [block.with_(layers=depth)] if together else [block] * depth
    return ModelConfig(
        image_size=(image, image), patch_size=(patch, patch), width=width, depth=len(layers), blocks=tuple(layers),
        stem=PatchStem(norm=LayerNormConfig()), init="spach", num_classes=num_classes,
        stochastic_depth=StochasticDepth(rate=drop_path, rule="constant" if len(stages) == 1 else "block"),
    )


# size: width, ratio, blocks (single-stage; attention has its own) or blocks of each stage (multi-stage)
SINGLE: dict[tuple[str, Mixing], tuple[int, int, int]] = {
    ("xxs", "mlp"): (384, 2, 12), ("xxs", "convolution"): (384, 2, 12), ("xxs", "attention"): (192, 2, 12),
    ("xs", "mlp"): (384, 2, 24), ("xs", "convolution"): (384, 2, 24), ("xs", "attention"): (384, 2, 12),
    ("s", "mlp"): (512, 3, 24), ("s", "convolution"): (512, 3, 24), ("s", "attention"): (512, 3, 12),
}  # fmt: skip
MULTI: dict[tuple[str, Mixing], tuple[int, int, tuple[int, ...]]] = {
    ("xxs", "mlp"): (64, 2, (2, 2, 6, 2)), ("xxs", "convolution"): (64, 2, (2, 2, 6, 2)),
    ("xxs", "attention"): (32, 2, (2, 2, 6, 2)),
    ("xs", "mlp"): (96, 2, (3, 4, 12, 3)), ("xs", "convolution"): (96, 2, (3, 4, 12, 3)),
    ("xs", "attention"): (64, 2, (3, 4, 12, 3)),
    ("s", "mlp"): (128, 3, (3, 4, 12, 3)), ("s", "convolution"): (128, 3, (3, 4, 12, 3)),
    ("s", "attention"): (96, 3, (3, 4, 12, 3)),
}  # fmt: skip
HYBRID: dict[str, tuple[int, int, tuple[Stage, ...]]] = {
    "xs": (96, 2, ([("convolution", 3)], [("convolution", 4)], [("convolution", 2), ("attention", 10)],
                   [("convolution", 1), ("attention", 2)])),
    "s": (128, 3, ([("convolution", 3)], [("convolution", 2), ("attention", 2)],
                   [("convolution", 2), ("attention", 10)], [("convolution", 1), ("attention", 2)])),
}  # fmt: skip


def _networks() -> dict[str, ModelConfig]:
    found = {}
    for (size, mixing), (width, ratio, depth) in SINGLE.items():
        found[f"spach_{mixing}_{size}"] = spach_network([[(mixing, depth)]], width=width, ratio=ratio, patch=16)
    for (size, mixing), (width, ratio, depths) in MULTI.items():
        kinds: tuple[Mixing, ...] = ("convolution", mixing, mixing, mixing)
        stages: list[Stage] = [[(kind, depth)] for kind, depth in zip(kinds, depths, strict=True)]
        found[f"spach_{mixing}_ms_{size}"] = spach_network(stages, width=width, ratio=ratio, patch=4)
    for size, (width, ratio, hybrid) in HYBRID.items():
        found[f"spach_hybrid_ms_{size}"] = spach_network(hybrid, width=width, ratio=ratio, patch=4)
    return found


SPACH: dict[str, ModelConfig] = _networks()
"""Their configs by name, with 1,000 classes, for `allmlp.models.model.build`."""
