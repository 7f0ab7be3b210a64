"""The papers' tables: MLP-Mixer 2 and 3, ResMLP 3, row by row, and what of each row can be had today.

Speeds and costs of Mixers stand in `plan.published` and are taken from there. Which weights exist:

    same weights      published by the paper's authors, for this very row
    close             the authors' weights, fine-tuned at another size
    other recipe      the same network, trained otherwise
    pre-trained only  the weights that were fine-tuned for the row, without its ImageNet head
    none public       none of these
"""

from typing import Literal, NamedTuple

from allmlp.plan.published import MIXER_COST, MIXER_SPEED, RESMLP_SPEED

TIMM = "timm:"
Weights = Literal["same weights", "close", "other recipe", "pre-trained only", "none public"]
Table = Literal["Mixer T2", "Mixer T3", "ResMLP T3"]
IN1K, IN21K, JFT, OTHER = "ImageNet", "ImageNet-21k", "JFT-300M", "unlabelled or weakly labelled"


class System(NamedTuple):
    """A row. Accuracies in percent; speed in images/s of one TPUv3 core (ResMLP: one V100, its table 1), cost in
    TPUv3-core-days. `px`: of the images at the end; None: not stated. `network`: one of `allmlp models`, or timm's
    behind "timm:"; None: in neither."""

    table: Table
    name: str
    data: str
    px: int | None
    epochs: int | None = None
    imagenet: float | None = None
    real: float | None = None
    avg5: float | None = None
    vtab: float | None = None
    v2: float | None = None
    images_per_second: float | None = None
    core_days: float | None = None
    millions: float | None = None  # of parameters
    gmacs: float | None = None  # the table's "GFLOPs"
    network: str | None = None
    weights: Weights = "none public"
    weights_name: str | None = None

    @property
    def label(self) -> str:
        size = f", {self.px} px" if self.table == "Mixer T3" else ""
        return f"{self.table}: {self.name}, {self.data}{f', {self.epochs} epochs' if self.epochs else ''}{size}"


NETWORKS = {
    **{f"Mixer-{name}": f"mixer_{name.lower().replace('/', '')}_224"
       for name in ("S/32", "S/16", "B/32", "B/16", "L/32", "L/16", "H/14")},
    "ViT-B/16": "timm:vit_base_patch16_224", "ViT-L/16": "timm:vit_large_patch16_224",
    "ViT-H/14": "timm:vit_huge_patch14_224", "BiT-R50x1": "timm:resnetv2_50x1_bit",
    "BiT-R152x2": "timm:resnetv2_152x2_bit", "BiT-R152x4": "timm:resnetv2_152x4_bit",
    "ALIGN (EfficientNet-L2)": "timm:tf_efficientnet_l2",
}  # HaloNet-H4, NFNet-F4+, MPL's EfficientNet-B6-Wide, BiT-R152x1, -R50x2 and -R200x3 are not in timm
EXIST: dict[tuple[str, str], tuple[Weights, str]] = {
    ("Mixer-B/16", IN1K): ("same weights", "mixer_b16_224.goog_in1k"),
    ("Mixer-L/16", IN1K): ("same weights", "mixer_l16_224.goog_in1k"),
    ("Mixer-B/16", IN21K): ("pre-trained only", "mixer_b16_224.goog_in21k"),
    ("Mixer-L/16", IN21K): ("pre-trained only", "mixer_l16_224.goog_in21k"),
    ("ViT-B/16", IN1K): ("other recipe", "timm:vit_base_patch16_224.augreg_in1k"),
    ("ViT-B/16", IN21K): ("other recipe", "timm:vit_base_patch16_224.augreg_in21k_ft_in1k"),
    ("ViT-L/16", IN21K): ("other recipe", "timm:vit_large_patch16_224.augreg_in21k_ft_in1k"),
    ("BiT-R152x4", IN21K): ("close", "timm:resnetv2_152x4_bit.goog_in21k_ft_in1k"),
}
SPEED = {row.name: row.images_per_second for row in (*MIXER_SPEED, *RESMLP_SPEED)}
COST = {(row.name, row.data, row.epochs): row.core_days for row in MIXER_COST}


def _t2(name: str, data: str, imagenet: float, real: float | None, avg5: float | None, vtab: float | None,
        images_per_second: float | None, core_days: float, px: int | None = None) -> System:
    weights = EXIST.get((name, data), ("none public", None))
    return System("Mixer T2", name, data, px, None, imagenet, real, avg5, vtab, None, images_per_second, core_days,
                  network=NETWORKS.get(name), weights=weights[0], weights_name=weights[1])


def _t3(name: str, data: str, px: int, epochs: int, imagenet: float, real: float, avg5: float | None,
        images_per_second: float | None = None, core_days: float | None = None) -> System:
    weights = EXIST.get((name, data), ("none public", None))
    if weights[0] == "same weights" and px != 224:
        weights = ("none public", None)
    speed = SPEED.get(name if px == 224 else f"{name} at {px}", images_per_second)
    return System("Mixer T3", name, data, px, epochs, imagenet, real, avg5, None, None, speed,
                  COST.get((name, data, epochs), core_days), network=NETWORKS.get(name), weights=weights[0],
                  weights_name=weights[1])


def _resmlp(name: str, millions: float, gmacs: float, imagenet: float, real: float, v2: float,
            network: str | None = None, weights: str | None = None, data: str = IN1K) -> System:
    return System("ResMLP T3", name, data, 224, None, imagenet, real, None, None, v2, SPEED.get(f"ResMLP-{name}"), None,
                  millions, gmacs, network, "same weights" if weights else "none public", weights)


SYSTEMS: tuple[System, ...] = (
    _t2("HaloNet-H4", IN21K, 85.8, None, None, None, 120, 100),
    _t2("Mixer-L/16", IN21K, 84.15, 87.86, 93.91, 74.95, 105, 410, px=448),
    _t2("ViT-L/16", IN21K, 85.30, 88.62, 94.39, 72.72, 32, 180, px=512),
    _t2("BiT-R152x4", IN21K, 85.39, None, 94.04, 70.64, 26, 940, px=480),
    _t2("NFNet-F4+", JFT, 89.2, None, None, None, 46, 1860),
    _t2("Mixer-H/14", JFT, 87.94, 90.18, 95.71, 75.33, 40, 1010, px=448),
    _t2("BiT-R152x4", JFT, 87.54, 90.54, 95.33, 76.29, 26, 9900, px=480),
    _t2("ViT-H/14", JFT, 88.55, 90.72, 95.97, 77.63, 15, 2300),
    _t2("MPL (EfficientNet-B6-Wide)", OTHER, 90.0, 91.12, None, None, None, 20480),
    _t2("ALIGN (EfficientNet-L2)", OTHER, 88.64, None, None, 79.99, 15, 14820),
    _t3("Mixer-B/16", IN1K, 224, 300, 76.44, 82.36, 88.33),
    _t3("ViT-B/16", IN1K, 224, 300, 79.67, 84.97, 90.79, 861, 20),
    _t3("Mixer-L/16", IN1K, 224, 300, 71.76, 77.08, 87.25),
    _t3("ViT-L/16", IN1K, 224, 300, 76.11, 80.93, 89.66, 280, 50),
    _t3("Mixer-B/16", IN21K, 224, 300, 80.64, 85.80, 92.50),
    _t3("ViT-B/16", IN21K, 224, 300, 84.59, 88.93, 94.16, 861, 180),
    _t3("Mixer-L/16", IN21K, 224, 300, 82.89, 87.54, 93.63),
    _t3("ViT-L/16", IN21K, 224, 300, 84.46, 88.35, 94.49, 280, 550),
    _t3("Mixer-L/16", IN21K, 448, 300, 83.91, 87.75, 93.86),
    _t3("Mixer-S/32", JFT, 224, 5, 68.70, 75.83, 87.13),
    _t3("Mixer-B/32", JFT, 224, 7, 75.53, 81.94, 90.99),
    _t3("Mixer-S/16", JFT, 224, 5, 73.83, 80.60, 89.50),
    _t3("BiT-R50x1", JFT, 224, 7, 73.69, 81.92, None, 2159, 80),
    _t3("Mixer-B/16", JFT, 224, 7, 80.00, 85.56, 92.60),
    _t3("Mixer-L/32", JFT, 224, 7, 80.67, 85.62, 93.24),
    _t3("BiT-R152x1", JFT, 224, 7, 79.12, 86.12, None, 932, 140),
    _t3("BiT-R50x2", JFT, 224, 7, 78.92, 86.06, None, 890, 140),
    _t3("BiT-R152x2", JFT, 224, 14, 83.34, 88.90, None, 356, 580),
    _t3("Mixer-L/16", JFT, 224, 7, 84.05, 88.14, 94.51),
    _t3("Mixer-L/16", JFT, 224, 14, 84.82, 88.48, 94.77),
    _t3("ViT-L/16", JFT, 224, 14, 85.63, 89.16, 95.21, 280, 650),
    _t3("Mixer-H/14", JFT, 224, 14, 86.32, 89.14, 95.49),
    _t3("BiT-R200x3", JFT, 224, 14, 84.73, 89.58, None, 141, 1780),
    _t3("Mixer-L/16", JFT, 448, 14, 86.78, 89.72, 95.13),
    _t3("ViT-H/14", JFT, 224, 14, 86.65, 89.56, 95.57, 87, 2300),
    _t3("ViT-L/16", JFT, 512, 14, 87.76, 90.54, 95.63, 32, 650),
    _resmlp("S12", 15.4, 3.0, 76.6, 83.3, 64.4, "resmlp_12_224", "resmlp_12_224.fb_in1k"),
    _resmlp("S24", 30.0, 6.0, 79.4, 85.3, 67.9, "resmlp_24_224", "resmlp_24_224.fb_in1k"),
    _resmlp("B24/16", 115.7, 23.0, 81.0, 86.1, 69.0, "resmlp_big_24_p16_224"),
    _resmlp("S12, LayerNorm", 15.4, 3.0, 77.7, 84.1, 65.7),
    _resmlp("S12, class-MLP", 17.7, 3.0, 77.5, 84.0, 66.1),
    _resmlp("S12, no patch interaction", 14.9, 2.8, 56.5, 63.4, 43.1),
    _resmlp("S12, MLP along patches", 18.6, 4.3, 77.3, 84.0, 65.7),
    _resmlp("S12, 3x3 convolution", 30.8, 6.0, 77.3, 84.4, 65.7),
    _resmlp("S12, 3x3 depthwise", 14.9, 2.8, 76.3, 83.4, 64.6),
    _resmlp("S12, 3x3 depthwise-separable", 16.7, 3.2, 77.0, 84.0, 65.5),
    _resmlp("S12/14", 15.6, 4.0, 76.9, 83.7, 65.0, "resmlp_12_p14_224"),
    _resmlp("S12/8", 22.1, 14.0, 79.1, 85.2, 67.2, "resmlp_12_p8_224"),
    _resmlp("B24/8", 129.1, 100.2, 81.0, 85.7, 68.6, "resmlp_big_24_224", "resmlp_big_24_224.fb_in1k"),
    _resmlp("S12, old-style training", 15.4, 3.0, 69.2, 76.0, 56.1, "resmlp_12_224"),
    _resmlp("S12, DINO and fine-tuned", 15.4, 3.0, 76.5, 83.6, 64.5, "resmlp_12_224"),
    _resmlp("S12, distilled", 15.4, 3.0, 77.8, 84.6, 66.0, "resmlp_12_224", "resmlp_12_224.fb_distilled_in1k"),
    _resmlp("S24, DINO and fine-tuned", 30.0, 6.0, 79.9, 85.9, 68.6, "resmlp_24_224"),
    _resmlp("S24, distilled", 30.0, 6.0, 80.8, 86.6, 69.8, "resmlp_24_224", "resmlp_24_224.fb_distilled_in1k"),
    _resmlp("B24/8, distilled", 129.1, 100.2, 83.6, 88.4, 73.4, "resmlp_big_24_224",
            "resmlp_big_24_224.fb_distilled_in1k"),
    _resmlp("B24/8", 129.1, 100.2, 84.4, 88.9, 74.2, "resmlp_big_24_224", "resmlp_big_24_224.fb_in22k_ft_in1k", IN21K),
)
