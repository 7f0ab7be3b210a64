"""Every network by name. Names follow timm: `family_size+patch_resolution`.

Widths, depths and hidden widths: MLP-Mixer Table 1, ResMLP section 3, gMLP Table 1 (through timm). S/8 is in Google's
GSAM release; S/4, B/8 and B/4 follow the same rule ("size / patch") and have no published result. The networks for 8,
32, 64 and 96 pixels are our own, and so are those with a stem of convolutions ("mixer_stem", docs/experiments.md); the
papers' ablations stand in `ablations.py`.
"""

import fnmatch
from collections.abc import Sequence
from typing import Any

from allmlp.errors import unknown_name
from allmlp.models.ablations import ABLATIONS
from allmlp.models.blocks import BlockConfig
from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.config import ModelConfig, height_width
from allmlp.models.init import seeded
from allmlp.models.layers import AffineConfig
from allmlp.models.model import Model, build, one_name_per_class
from allmlp.models.stems import ConvolutionStem
from allmlp.preprocess import HALF, IMAGENET_MEAN, IMAGENET_STD, Preprocess

# depth, width C, token hidden D_S, channel hidden D_C
MIXER_SIZES = {
    "s": (8, 512, 256, 2048),
    "b": (12, 768, 384, 3072),
    "l": (24, 1024, 512, 4096),
    "h": (32, 1280, 640, 5120),
    "p": (4, 64, 32, 128),  # pico, nano and tiny: ours
    "n": (6, 96, 48, 192),
    "t": (8, 192, 96, 768),
}


def _mixer(size: str, patch: int, image: int, **fields: Any) -> ModelConfig:
    depth, width, token_hidden, channel_hidden = MIXER_SIZES[size]
    # Ours have nothing to be equal to, and the erf GELU takes half the time of the other on a CPU.
    activation = "erf" if size in "pnt" else "tanh"
    block = MixerConfig(token_hidden=token_hidden, channel_hidden=channel_hidden, activation=activation)
    return _square(image, patch, width, depth, block, init="flax", **fields)


def _gmixer(depth: int) -> ModelConfig:
    block = MixerConfig(token_hidden=384, channel_hidden=1536, activation="swiglu")
    return _square(224, 16, 384, depth, block, init="timm")


def _resmlp(depth: int, width: int, patch: int, layer_scale: float, image: int = 224) -> ModelConfig:
    block = ResMLPConfig(channel_hidden=4 * width, layer_scale=layer_scale)
    return _square(image, patch, width, depth, block, init="deit", norm=AffineConfig())


def _gmlp(depth: int, width: int, hidden: int, patch: int = 16, image: int = 224) -> ModelConfig:
    return _square(image, patch, width, depth, GMLPConfig(hidden=hidden), init="timm")


def _square(image: int, patch: int, width: int, depth: int, block: BlockConfig, **fields: Any) -> ModelConfig:
    return ModelConfig(
        image_size=(image, image), patch_size=(patch, patch), width=width, depth=depth, blocks=(block,), **fields
    )


VARIANTS: dict[str, ModelConfig] = {
    "mixer_s32_224": _mixer("s", 32, 224),
    "mixer_s16_224": _mixer("s", 16, 224),
    "mixer_s8_224": _mixer("s", 8, 224),
    "mixer_s4_224": _mixer("s", 4, 224),
    "mixer_b32_224": _mixer("b", 32, 224),
    "mixer_b16_224": _mixer("b", 16, 224),
    "mixer_b8_224": _mixer("b", 8, 224),
    "mixer_b4_224": _mixer("b", 4, 224),
    "mixer_l32_224": _mixer("l", 32, 224),
    "mixer_l16_224": _mixer("l", 16, 224),
    "mixer_h14_224": _mixer("h", 14, 224),
    "gmixer_12_224": _gmixer(12),
    "gmixer_24_224": _gmixer(24),
    "resmlp_12_224": _resmlp(12, 384, 16, 0.1),
    "resmlp_12_p32_224": _resmlp(12, 384, 32, 0.1),
    "resmlp_12_p14_224": _resmlp(12, 384, 14, 0.1),
    "resmlp_12_p8_224": _resmlp(12, 384, 8, 0.1),
    "resmlp_24_224": _resmlp(24, 384, 16, 1e-5),
    "resmlp_36_224": _resmlp(36, 384, 16, 1e-6),
    "resmlp_big_24_224": _resmlp(24, 768, 8, 1e-6),  # the published "B24" checkpoint is the patch-8 network
    "resmlp_big_24_p16_224": _resmlp(24, 768, 16, 1e-6),  # its LayerScale start is not published
    "gmlp_ti16_224": _gmlp(30, 128, 768),
    "gmlp_s16_224": _gmlp(30, 256, 1536),
    "gmlp_b16_224": _gmlp(30, 512, 3072),
    "mixer_s4_32": _mixer("s", 4, 32),
    "mixer_p2_8": _mixer("p", 2, 8),
    "mixer_p4_40": _mixer("p", 4, 40),
    "mixer_t4_32": _mixer("t", 4, 32),
    "mixer_t8_64": _mixer("t", 8, 64),
    "mixer_t8_96": _mixer("t", 8, 96),
    "mixer_t16_224": _mixer("t", 16, 224),
    "mixer_stem_p8_32": _mixer("p", 8, 32, stem=ConvolutionStem()),
    "mixer_stem_n8_32": _mixer("n", 8, 32, stem=ConvolutionStem()),
    "mixer_stem_p16_96": _mixer("p", 16, 96, stem=ConvolutionStem()),
    "mixer_stem_n16_96": _mixer("n", 16, 96, stem=ConvolutionStem()),
    "mixer_stem_p32_224": _mixer("p", 32, 224, stem=ConvolutionStem()),
    "mixer_stem_n32_224": _mixer("n", 32, 224, stem=ConvolutionStem()),
    "resmlp_p2_8": _resmlp(4, 64, 2, 0.1, image=8),
    "gmlp_p2_8": _gmlp(6, 64, 256, patch=2, image=8),
    **ABLATIONS,
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of all networks that match a shell pattern, in the order of the table above."""
    return [name for name in VARIANTS if fnmatch.fnmatch(name, pattern)]


def default_preprocess(name: str, config: ModelConfig) -> Preprocess:
    """How the published weights of this family want their images: ResMLP and gmixer ImageNet's mean and deviation,
    the others [-1, 1]. ResMLP's own evaluation crops at 0.9 (timm at 0.875), Mixer's and gMLP's at 0.875."""
    imagenet = name.startswith(("resmlp", "gmixer"))
    return Preprocess(
        image_size=config.image_size,
        crop_ratio=0.9 if name.startswith("resmlp") else 0.875,
        mean=IMAGENET_MEAN if imagenet else HALF,
        std=IMAGENET_STD if imagenet else HALF,
        channels=1 if config.in_channels == 1 else 3,
    )


def model_config(
    name: str,
    *,
    num_classes: int | None = None,
    image_size: int | Sequence[int] | None = None,
    patch_size: int | Sequence[int] | None = None,
    in_channels: int | None = None,
    activation: str | None = None,
    stochastic_depth: float | None = None,
    drop_rate: float | None = None,
    global_pool: str | None = None,
) -> ModelConfig:
    """The config of a named network, changed where an argument says so. An int size means a square.

    `activation`: of every block, "tanh" or "erf" (see `layers.Gelu`): "erf" makes a Mixer equal to timm's.
    `drop_rate`: dropout before the head; `global_pool` "": no mean over tokens, the head answers for each.
    Raises `UnknownName`, or `BadSetting` where the result makes no network (an image not divisible by the patch).
    """
    if name not in VARIANTS:
        raise unknown_name("model", name, VARIANTS, "`allmlp models` lists them")
    config = VARIANTS[name]
    changes: dict[str, Any] = {
        "num_classes": num_classes,
        "image_size": None if image_size is None else height_width("image_size", image_size),
        "patch_size": None if patch_size is None else height_width("patch_size", patch_size),
        "in_channels": in_channels,
        "drop_rate": drop_rate,
        "global_pool": global_pool,
    }
    if activation is not None:
        changes["blocks"] = tuple(block.with_(activation=activation) for block in config.blocks)
    if stochastic_depth is not None:
        changes["stochastic_depth"] = config.stochastic_depth.with_(rate=stochastic_depth)
    return config.with_(**{key: value for key, value in changes.items() if value is not None})


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    image_size: int | Sequence[int] | None = None,
    patch_size: int | Sequence[int] | None = None,
    in_channels: int | None = None,
    activation: str | None = None,
    stochastic_depth: float | None = None,
    drop_rate: float | None = None,
    global_pool: str | None = None,
    classes: Sequence[str] | None = None,
    seed: int | None = None,
) -> Model:
    """A named network with fresh weights, in evaluation mode, float32 on the CPU.

    `num_classes` 0 means no head; sizes are pixels, (height, width) or one number; `seed` fixes the weights (None:
    torch's global generator). Raises `UnknownName` (with the nearest names) and `BadSetting`.
    """
    classes = one_name_per_class(classes, num_classes)
    if num_classes is None and classes is not None:
        num_classes = len(classes)
    config = model_config(name, num_classes=num_classes, image_size=image_size, patch_size=patch_size,
                          in_channels=in_channels, activation=activation, stochastic_depth=stochastic_depth,
                          drop_rate=drop_rate, global_pool=global_pool)
    return build(config, default_preprocess(name, config), classes, seeded(seed)).eval()
