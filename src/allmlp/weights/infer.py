"""A network's config from the shapes of its tensors (under our names).

Shapes say everything but the image's height and width, of which they give the number of tokens only; where the norms'
epsilon and the like are not in the file, they are those of the source. What matters to training alone (where LayerScale
starts, stochastic depth) is set as published.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from allmlp.errors import AllMLPError, BadCheckpoint, BadSetting
from allmlp.models.blocks import BlockConfig
from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.config import ModelConfig, height_width
from allmlp.models.init import InitScheme
from allmlp.models.layers import AffineConfig, LayerNormConfig
from allmlp.models.variants import default_preprocess
from allmlp.preprocess import Preprocess
from allmlp.weights.layout import Family, Layout

Shapes = Mapping[str, tuple[int, ...]]


def infer_config(
    layout: Layout, shapes: Shapes, depth: int, image_size: int | Sequence[int] | None = None
) -> ModelConfig:
    """The config of the network with these `shapes` in a file of this `layout`; all blocks are alike.

    `image_size`: pixels, (height, width) or one number; needed where the number of tokens leaves it open. Raises
    `BadCheckpoint` where it is missing or does not fit, or where the shapes make no network.
    """
    width, in_channels, *patch_size = shapes["stem.proj.weight"]
    try:
        tokens, block, init = _block(layout, shapes, depth)
        return ModelConfig(
            image_size=_image_size(tokens, (patch_size[0], patch_size[1]), image_size),
            patch_size=(patch_size[0], patch_size[1]),
            in_channels=in_channels,
            width=width,
            depth=depth,
            blocks=(block,),
            norm=AffineConfig() if layout.family == "resmlp" else LayerNormConfig(),
            num_classes=shapes["head.weight"][0] if "head.weight" in shapes else 0,
            init=init,
        )
    except BadCheckpoint:
        raise
    except AllMLPError as error:
        raise BadCheckpoint(f"its shapes make no network: {error}") from None


def _block(layout: Layout, shapes: Shapes, depth: int) -> tuple[int, BlockConfig, InitScheme]:
    """The number of tokens, the block's config, and the scheme its family starts with."""
    def usual(name: str) -> tuple[int, ...]:
        """The shape that most blocks have, so that a tensor of another shape is the one to be reported."""
        return Counter(shapes[f"blocks.{i}.{name}"] for i in range(depth)).most_common(1)[0][0]

    channel_hidden, width = usual("mlp_channels.fc1.weight")
    gelu = layout.activation
    if layout.family == "gmlp":
        tokens = usual("mlp_channels.gate.proj.weight")[1]
        return tokens, GMLPConfig(hidden=channel_hidden, activation=gelu), "timm"
    if layout.family == "resmlp":
        tokens, start = usual("linear_tokens.weight")[1], layer_scale(depth, width)
        return tokens, ResMLPConfig(channel_hidden=channel_hidden, layer_scale=start, activation=gelu), "deit"
    token_hidden, tokens = usual("mlp_tokens.fc1.weight")
    gated = layout.may_be_gated and token_hidden == 2 * usual("mlp_tokens.fc2.weight")[1]
    activation, init = ("swiglu", "timm") if gated else (gelu, "flax")
    return tokens, MixerConfig(token_hidden=token_hidden, channel_hidden=channel_hidden, activation=activation), init


def family_of(config: ModelConfig) -> Family:
    """The family of the first block."""
    block = config.blocks[0]
    return "gmlp" if isinstance(block, GMLPConfig) else "resmlp" if isinstance(block, ResMLPConfig) else "mixer"


def family_preprocess(config: ModelConfig) -> Preprocess:
    """How the published weights of this family want their images."""
    gated = config.blocks[0].activation == "swiglu"
    return default_preprocess("gmixer" if gated else family_of(config), config)


def layer_scale(depth: int, width: int) -> float:
    """Where ResMLP's LayerScale starts: 0.1 for S12, 1e-5 for S24, 1e-6 for S36 and B24 (deit's resmlp_models.py)."""
    if depth <= 12:
        return 0.1
    return 1e-5 if depth <= 24 and width < 768 else 1e-6


def _image_size(tokens: int, patch: tuple[int, int], wanted: int | Sequence[int] | None) -> tuple[int, int]:
    """(height, width) in pixels: what is wanted where it makes that number of tokens; else a square of square patches.

    Patches that are not square are a network for images of its own shape, which is then asked for.
    """
    if wanted is not None:
        try:
            size = height_width("image_size", wanted)
        except BadSetting as error:
            raise BadCheckpoint(str(error)) from None
        if min(size) < 1:
            raise BadCheckpoint(f"image_size {size}: give one number or (height, width), of at least 1 pixel")
        if any(side % length for side, length in zip(size, patch, strict=True)):
            raise BadCheckpoint(f"image size {_by(size)} is not divisible into patches of {_by(patch)} pixels")
        if (size[0] // patch[0]) * (size[1] // patch[1]) != tokens:
            raise BadCheckpoint(f"image size {_by(size)} makes {(size[0] // patch[0]) * (size[1] // patch[1])} tokens, "
                                f"but its network has {tokens}; {_choices(tokens, patch)}")
        return size
    side = math.isqrt(tokens)
    if side * side != tokens or patch[0] != patch[1]:
        raise BadCheckpoint(f"its {tokens} tokens of {_by(patch)} pixels leave the image size open; give image_size "
                            f"(height, width), or --image-size HxW: {_choices(tokens, patch)}")
    return side * patch[0], side * patch[1]


def _choices(tokens: int, patch: tuple[int, int]) -> str:
    """The sizes nearest to a square, as text."""
    rows = [rows for rows in range(1, math.isqrt(tokens) + 1) if tokens % rows == 0]
    grids = {(a, tokens // a) for a in rows} | {(tokens // a, a) for a in rows}
    sizes = sorted(((rows * patch[0], columns * patch[1]) for rows, columns in grids),
                   key=lambda size: (abs(math.log(size[0] / size[1])), size))
    return f"{', '.join(_by(size) for size in sizes[:5])} fit{', …' if len(sizes) > 5 else ''}"


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
