"""Accuracy against measured speed: is an all-MLP network a good bargain? (MLP-Mixer, tables 2 and 3, figure 3.)

Each family in two sizes learns the same images for the same steps; the speeds of all are then measured together, in
turns, each network in a process of its own (`allmlp.evaluate.cost`), so that a busy machine is busy for all.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from allmlp import figures
from allmlp.compare.pareto import front, log_axis
from allmlp.data.seeds import derived_seed
from allmlp.errors import BadSetting
from allmlp.evaluate.cost import measure_costs
from allmlp.models.blocks import BlockConfig
from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.config import ModelConfig
from allmlp.models.layers import AffineConfig
from allmlp.models.model import build
from allmlp.reproduce.baselines import resnet, vit
from allmlp.reproduce.experiment import Arm, Experiment, Found, Job, Row
from allmlp.reproduce.learn import learn, open_job
from allmlp.reproduce.small import CLASSES, PATCH_PX, PREPROCESS, SIZE_PX, accuracy_percent, few_shot_percent, recipe
from allmlp.reproduce.spread import at_end, deviation

SIZES = {"S": (48, 3), "M": (80, 5)}  # width, blocks
RESNET_WIDTHS = {"S": 6, "M": 10}  # of the first of four stages
FAMILIES = ("Mixer", "ResMLP", "gMLP", "ViT", "ResNet")
SPEED, STEPS, BATCHES, ROUNDS = "speed", 150, (1, 64), 5


def arms(job: Job) -> Iterator[Arm]:
    if job.scale == "paper":
        raise BadSetting("--scale paper: throughput has none; `allmlp reproduce tables --scale paper` measures "
                         "published networks, and `allmlp compare` any")
    for seed in range(job.seeds):
        for name in names():
            yield Arm(name, seed, partial(trained, job, name, seed))
    yield Arm(SPEED, 0, partial(speeds, job))


def names() -> list[str]:
    return [f"{family}-{size}" for size in SIZES for family in FAMILIES]


def network_of(name: str, seed: int = 0) -> nn.Module:
    """A network with fresh weights by its name here, "Mixer-S"."""
    family, _, size = name.partition("-")
    width, depth = SIZES[size]
    if family == "ResNet":
        return resnet(SIZE_PX, CLASSES, width=RESNET_WIDTHS[size], seed=seed)
    if family == "ViT":
        return vit(SIZE_PX, PATCH_PX, width, depth, CLASSES, seed=seed)
    block: BlockConfig = {"Mixer": MixerConfig(token_hidden=width // 2, channel_hidden=4 * width),
                          "ResMLP": ResMLPConfig(channel_hidden=4 * width, layer_scale=0.1),
                          "gMLP": GMLPConfig(hidden=6 * width)}[family]
    more: dict[str, Any] = {"norm": AffineConfig(), "init": "deit"} if family == "ResMLP" else (
        {"init": "timm"} if family == "gMLP" else {})
    config = ModelConfig(image_size=(SIZE_PX, SIZE_PX), patch_size=(PATCH_PX, PATCH_PX), width=width, depth=depth,
                         blocks=(block,), num_classes=CLASSES, **more)
    return build(config, PREPROCESS, generator=torch.Generator().manual_seed(derived_seed(seed, name)))


def trained(job: Job, name: str, seed: int) -> Mapping[str, Any]:
    data = open_job(job, "digit-scenes")
    train, test = data.splits["train"], data.splits["test"]
    network = learn(network_of(name, seed), recipe(seed, 12 if job.reduced else STEPS), train, preprocess=PREPROCESS,
                    device=job.device)
    return {"network": name, "test_accuracy_percent": accuracy_percent(network, test),
            "few_shot_percent": few_shot_percent(network, train, test)}


def speeds(job: Job) -> Iterator[Mapping[str, Any]]:
    """A row for each network: its best batch size, on one thread of this machine's processor."""
    chosen = names()[:2] if job.reduced else names()
    costs = measure_costs({name: partial(network_of, name) for name in chosen}, (SIZE_PX, SIZE_PX), BATCHES,
                          rounds=1 if job.reduced else ROUNDS, seconds=0.05 if job.reduced else 0.2)
    for name, cost in costs.items():
        best = next(speed for speed in cost.speeds if speed.batch_size == cost.batch_size)
        yield {"network": name, "parameters": cost.parameters,
               "macs": cost.macs, "images_per_second": cost.images_per_second, "slowest": best.slowest,
               "fastest": best.fastest, "batch_size": cost.batch_size, "latency_ms": cost.latency_ms_p50,
               "peak_memory_mib": cost.peak_memory_mib}


def measured(rows: Sequence[Row]) -> dict[str, Row]:
    """The speeds, by network."""
    return {str(row["network"]): row for row in rows if row["what"] == SPEED}


@figures.style()
def figure(rows: Sequence[Row]) -> Figure:
    speed = measured(rows)
    drawn, left, right = figures.new(figures.TEXT_WIDTH_CM, 7.6, columns=2, sharey=True)
    costs = ((left, {name: row["images_per_second"] for name, row in speed.items()}, "images per second, one core"),
             (right, {name: row["macs"] for name, row in speed.items()}, "multiply-adds per image"))
    for axes, cost, label in costs:
        points = {name: at_end(rows, name, "test_accuracy_percent") for name in cost}
        for family in FAMILIES:
            here = [name for name in cost if name.startswith(f"{family}-")]
            axes.errorbar([cost[name] for name in here], [fmean(points[name]) for name in here],
                          yerr=[deviation(points[name]) for name in here], color=figures.FAMILIES[family],
                          marker=figures.MARKERS[FAMILIES.index(family)], label=family, elinewidth=0.8, linewidth=1)
            for name in here:
                axes.annotate(name[-1], (cost[name], fmean(points[name])), xytext=(4, -9), textcoords="offset points",
                              fontsize=6, color=figures.QUIET)
        log_axis(axes)
        axes.set_xlabel(label)
        axes.margins(x=0.12)
    for name, row in speed.items():  # from the slowest to the fastest round
        height, colour = fmean(at_end(rows, name, "test_accuracy_percent")), figures.FAMILIES[name.partition("-")[0]]
        left.hlines(height, row["slowest"], row["fastest"], color=colour, linewidth=0.8)
    left.set_ylabel("test accuracy, %")
    drawn.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(FAMILIES))
    return drawn


def found(rows: Sequence[Row]) -> Found:
    speed = measured(rows)
    accuracy = {name: fmean(at_end(rows, name, "test_accuracy_percent")) for name in speed}
    ordered = list(speed)
    best = [ordered[i] for i in front([-float(speed[name]["images_per_second"] or 0) for name in ordered],
                                      [accuracy[name] for name in ordered])]
    ratios = {size: float(speed[f"Mixer-{size}"]["images_per_second"] or 0) / float(
        speed[f"ViT-{size}"]["images_per_second"] or 1) for size in SIZES if f"ViT-{size}" in speed}
    faster = all(float(speed[f"Mixer-{size}"]["slowest"] or 0) > float(speed[f"ViT-{size}"]["fastest"] or 0)
                 for size in ratios)
    on_front = any(name.startswith("Mixer") for name in best)
    text = (f"Of {len(ordered)} networks nobody beats {', '.join(best)} in both accuracy and images per second (from "
            "the fastest to the most accurate). Mixer's images per second over those of the ViT of the same width and "
            f"depth: {', '.join(f'{size} {ratio:.2f}' for size, ratio in ratios.items())}, "
            f"which is {'beyond' if faster else 'within'} what the rounds differ by. Accuracy: "
            + ", ".join(f"{name} {value:.1f} ± {deviation(at_end(rows, name, 'test_accuracy_percent')):.1f} %"
                        for name, value in accuracy.items()) + ".")
    return Found("as claimed" if faster and on_front else "in part" if faster or on_front else "not found", text)


EXPERIMENT = Experiment(
    name="throughput",
    title="Accuracy against measured speed",
    source="MLP-Mixer, section 3.1, tables 2 and 3, figure 3",
    claim="""Mixer is faster than a ViT of comparable size and lies on the front of accuracy over throughput with the
    best convolutional and attention networks: pre-trained on JFT-300M and fine-tuned at 448 pixels, Mixer-H/14 reaches
    87.94 % on ImageNet at 40 images per second and TPUv3 core, ViT-H/14 88.55 % at 15, BiT-R152x4 87.54 % at 26.
    Without much data it loses more accuracy than they do: from ImageNet alone Mixer-B/16 has 76.44 %, ViT-B/16 79.67 %,
    at 1384 and 861 images per second.""",
    laptop="""Mixer, ResMLP, gMLP and ViT of two sizes (S: width 48, 3 blocks; M: width 80, 5 blocks; patches of 8
    pixels, hidden width 4 times the width, in gMLP 6 times) and ResNets of four basic blocks (first width 6 and 10)
    learn 5,748 digit scenes for 150 steps of 64 images by one recipe, which is tuned for none of them. Accuracy on
    1,440 test scenes. Images per second: on one core, float32, PyTorch, the best of batches of 1 and 64, in turns;
    the median of 5 rounds, with the slowest and the fastest. Pre-training on more data is not repeated. So
    few steps tell how fast a network starts rather than how far it gets: ViT, ResMLP and ResNet have learnt little.""",
    paper="""Not by this command: `allmlp reproduce tables --scale paper` measures the published networks, `allmlp
    compare` any. The paper's throughput is that of one TPUv3 core, the best of several batch sizes.""",
    columns=("network", "test_accuracy_percent", "few_shot_percent", "parameters", "macs", "images_per_second",
             "slowest", "fastest", "batch_size", "latency_ms", "peak_memory_mib"),
    arms=arms,
    figure=figure,
    found=found,
)
