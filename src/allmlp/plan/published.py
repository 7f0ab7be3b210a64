"""What the papers measured, to calibrate on and to be compared with.

    MIXER_SPEED         MLP-Mixer Tables 2 and 3: images/s of one TPUv3 core, inference, the best of several batch sizes
    MIXER_COST          MLP-Mixer Table 3: TPUv3-core-days of pre-training, in thousands, two digits after the point:
                        a row of .01 is anything from 5 to 15 core-days
    RESMLP_SPEED        ResMLP Table 1: images/s and peak memory (2^20 bytes) of inference on one V100 32GB, batch 32
    BIG_VISION_MINUTES  the recipe's own note: Mixer-B/16, 300 epochs of ImageNet, 2 h 11 min on 128 TPUv3 cores

The tables' rows of ViT, BiT and others are left out: attention and convolutions are not in our networks, so not in our
counts. Images: ImageNet's training part, ImageNet-21k (14.2 million) and JFT-300M ("300M" in the paper).
At 448 pixels the networks are MLP-Mixer's Appendix C's: 2x2 copies of each token-mixing MLP side by side.
"""

from typing import NamedTuple

from allmlp.models.config import ModelConfig
from allmlp.models.variants import VARIANTS

IMAGES = {"ImageNet": 1_281_167, "ImageNet-21k": 14_197_122, "JFT-300M": 300_000_000}


class SpeedRow(NamedTuple):
    name: str
    config: ModelConfig
    images_per_second: float


class CostRow(NamedTuple):
    name: str
    config: ModelConfig  # as it was trained: at 224 pixels
    data: str
    epochs: int
    core_days: float


class MemoryRow(NamedTuple):
    name: str
    config: ModelConfig
    mebibytes: float


def _at_448(config: ModelConfig) -> ModelConfig:
    return config.with_(image_size=(448, 448), blocks=tuple(block.beside(4) for block in config.blocks))


_S32, _S16, _B32, _B16, _L32, _L16, _H14 = (
    VARIANTS[f"mixer_{name}_224"] for name in ("s32", "s16", "b32", "b16", "l32", "l16", "h14")
)
_RESMLP = {"ResMLP-S12": VARIANTS["resmlp_12_224"], "ResMLP-S24": VARIANTS["resmlp_24_224"],
           "ResMLP-B24/16": VARIANTS["resmlp_big_24_p16_224"]}

MIXER_SPEED = (
    SpeedRow("Mixer-S/32", _S32, 11489),
    SpeedRow("Mixer-B/32", _B32, 4208),
    SpeedRow("Mixer-S/16", _S16, 3994),
    SpeedRow("Mixer-B/16", _B16, 1384),
    SpeedRow("Mixer-L/32", _L32, 1314),
    SpeedRow("Mixer-L/16", _L16, 419),
    SpeedRow("Mixer-H/14", _H14, 194),
    SpeedRow("Mixer-L/16 at 448", _at_448(_L16), 105),
    SpeedRow("Mixer-H/14 at 448", _at_448(_H14), 40),
)

MIXER_COST = (
    CostRow("Mixer-B/16", _B16, "ImageNet", 300, 10),
    CostRow("Mixer-L/16", _L16, "ImageNet", 300, 40),
    CostRow("Mixer-B/16", _B16, "ImageNet-21k", 300, 150),
    CostRow("Mixer-L/16", _L16, "ImageNet-21k", 300, 410),
    CostRow("Mixer-S/32", _S32, "JFT-300M", 5, 10),
    CostRow("Mixer-B/32", _B32, "JFT-300M", 7, 50),
    CostRow("Mixer-S/16", _S16, "JFT-300M", 5, 30),
    CostRow("Mixer-B/16", _B16, "JFT-300M", 7, 80),
    CostRow("Mixer-L/32", _L32, "JFT-300M", 7, 120),
    CostRow("Mixer-L/16", _L16, "JFT-300M", 7, 230),
    CostRow("Mixer-L/16", _L16, "JFT-300M", 14, 450),
    CostRow("Mixer-H/14", _H14, "JFT-300M", 14, 1010),
)
ROUNDING_CORE_DAYS = 5  # the table's digits: +- half of .01 thousand

RESMLP_SPEED = tuple(
    SpeedRow(name, config, speed) for (name, config), speed in zip(_RESMLP.items(), (1415.1, 715.4, 231.3), strict=True)
)
RESMLP_MEMORY = tuple(
    MemoryRow(name, config, peak) for (name, config), peak in zip(_RESMLP.items(), (179.5, 235.3, 663.0), strict=True)
)
RESMLP_BATCH = 32

BIG_VISION_MINUTES, BIG_VISION_CORES, BIG_VISION_BATCH = 131, 128, 4096
