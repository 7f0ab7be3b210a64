"""ResMLP's ablations: what its parts and its training are worth (arXiv 2105.03404, Table 3, appendices A, D.1, D.3).

Each line exchanges one part of one network, or takes one more ingredient out of its training, at equal steps. Table 3
and D.3 are about S12; appendix A, which compares activations and widths of an MLP between patches, is about a network
of S24's size; D.1 takes ingredients out of S12's training one after another.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from allmlp import figures
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.blocks.resmlp_ablation import Interaction, ResMLPAblationConfig
from allmlp.models.config import ModelConfig
from allmlp.models.layers import AffineConfig, LayerNormConfig
from allmlp.recipe import Augment, Optimizer, Recipe, Schedule
from allmlp.recipes import RECIPES
from allmlp.reproduce.experiment import Arm, Experiment, Job, Row
from allmlp.reproduce.resmlp_found import found
from allmlp.reproduce.spread import deviation
from allmlp.reproduce.variations import (
    COLUMNS,
    JITTER,
    Variation,
    arms,
    by_group,
    changes,
    digits_recipe,
    published_change,
)

PARTS, PATCHES, ACTIVATIONS, WIDTHS, TRAINING = (
    "parts", "patch size", "MLP between patches: activation", "MLP between patches: hidden units per token",
    "training, one ingredient less each")
AFF = AffineConfig()
STEPS, SMALL_BATCH = 200, 32  # the batch of the lines about training, whose augmentation takes long
TICKS = (-50, -10, -2, 0, 2, 10, 50)  # of the figure, in points
LAMB_RATE, SGD_RATE = 0.1, 1.0  # at laptop scale; of two each the one that learnt the training images better


@dataclass(frozen=True)
class Size:
    """A ResMLP by its numbers; `layer_scale` is where γ1 and γ2 start."""

    image_px: int
    patch_px: int
    width: int
    depth: int
    layer_scale: float


LAPTOP, S12, S24 = Size(8, 2, 32, 4, 0.1), Size(224, 16, 384, 12, 0.1), Size(224, 16, 384, 24, 1e-5)


def resmlp(size: Size, *, interaction: Interaction = "linear", expansion: float = 4, activation: str = "erf",
           norm: AffineConfig | LayerNormConfig = AFF, layer_scale: bool = True,
           pool: Literal["avg", "class_mlp"] = "avg", patch_px: int | None = None) -> ModelConfig:
    """A ResMLP with one part or another exchanged. `expansion`: hidden units per token of an MLP between patches."""
    patch = patch_px or size.patch_px
    tokens = (size.image_px // patch) ** 2
    fields: dict[str, Any] = {"channel_hidden": 4 * size.width, "norm": norm, "activation": activation,
                              "layer_scale": size.layer_scale if layer_scale else None}
    if interaction == "linear" and layer_scale:
        block = ResMLPConfig(**fields)
    else:
        hidden = round(expansion * tokens) if interaction == "mlp" else None
        block = ResMLPAblationConfig(**fields, interaction=interaction, token_hidden=hidden)
    return ModelConfig(image_size=(size.image_px, size.image_px), patch_size=(patch, patch), width=size.width,
                       depth=size.depth, blocks=(block,), norm=norm, init="deit", global_pool=pool)


def of_parts(size: Size, recipe: Recipe) -> Iterator[Variation]:
    """Table 3: S12 with another part, and with patches of another size."""
    base = "ResMLP"

    def line(group: str, what: str, published: float | None, **changed: Any) -> Variation:
        return Variation(group, what, base, resmlp(size, **changed), recipe, published, 76.6)

    yield line(PARTS, base, 76.6)
    yield line(PARTS, "Aff → LayerNorm", 77.7, norm=LayerNormConfig())
    yield line(PARTS, "LayerScale → none", None, layer_scale=False)
    yield line(PARTS, "average pooling → class-MLP", 77.5, pool="class_mlp")
    yield line(PARTS, "linear between patches → none", 56.5, interaction="removed")
    yield line(PARTS, "linear → MLP", 77.3, interaction="mlp")
    yield line(PARTS, "linear → 3×3 convolution", 77.3, interaction="conv")
    yield line(PARTS, "linear → 3×3 depthwise", 76.3, interaction="depthwise")
    yield line(PARTS, "linear → 3×3 separable", 77.0, interaction="separable")
    yield line(PATCHES, "patches half as high and wide", 79.1, patch_px=size.patch_px // 2)
    yield line(PATCHES, "patches twice as high and wide", None, patch_px=2 * size.patch_px)
    if size == S12:
        yield line(PATCHES, "patches of 14 pixels", 76.9, patch_px=14)


def of_an_mlp(size: Size, recipe: Recipe, base: str) -> Iterator[Variation]:
    """Appendix A: an MLP between patches. Its baselines have 4 hidden units per token and GELU; activations were
    compared with class-MLP pooling (79.2), widths with average pooling (78.8)."""
    pool = "class_mlp" if size == S24 else "avg"
    for what, activation, published in (("SiLU", "silu", 78.7), ("HardSwish", "hardswish", 78.8),
                                        ("ReLU", "relu", 79.1)):
        network = resmlp(size, interaction="mlp", activation=activation, pool=pool)
        yield Variation(ACTIVATIONS, f"GELU → {what}", f"{base}, class-MLP" if size == S24 else base, network, recipe,
                        published, 79.2)
    widths = [(0.25, 78.6), (1, 79.2), (2, 79.3)] + [(0.5, 79.2), (3, 78.8)] * (size == S24)
    for expansion, published in widths:
        yield Variation(WIDTHS, f"4 → {expansion:g}", base, resmlp(size, interaction="mlp", expansion=expansion),
                        recipe, published, 78.8)


def of_training(size: Size, recipe: Recipe, sgd_rate: float) -> Iterator[Variation]:
    """Appendix D.1: each line takes away what it says, and all that the lines above it took: its baseline is the line
    before it."""
    network, before = resmlp(size), ("all of DeiT's ingredients", 76.6)

    def line(what: str, published: float) -> Variation:
        nonlocal before
        (baseline, its), before = before, (what, published)
        return Variation(TRAINING, what, baseline, network, recipe, published, its)

    def augment(**fields: Any) -> Recipe:
        return recipe.with_(augment=recipe.augment.with_(**fields))

    yield line(*before)
    recipe = augment(mixup=0.0, cutmix=0.0)
    yield line("− mixup and CutMix", 76.0)
    recipe = augment(random_erasing=0.0)
    yield line("− random erasing", 75.9)
    recipe = augment(rand_augment=0)
    yield line("− RandAugment", 73.2)
    recipe = recipe.with_(optimizer=Optimizer(name="sgd", learning_rate=sgd_rate, weight_decay=1e-4))
    yield line("− LAMB, SGD instead", 72.1)
    recipe = recipe.with_(stochastic_depth=0.0)
    yield line("− stochastic depth", 70.7)
    recipe = augment(repeated=1)
    yield line("− repeated augmentation", 69.4)
    schedule = recipe.schedule
    recipe = recipe.with_(schedule=schedule.for_epochs(120) if schedule.steps is None else schedule.with_(
        steps=round(0.3 * schedule.steps)))
    yield line("30 % of the steps", 67.7)


def variations(scale: str) -> list[Variation]:
    """All lines at "laptop" or "paper" scale. At laptop scale both parts of the paper are about the same network."""
    if scale == "laptop":
        plain = digits_recipe(schedule=Schedule(steps=STEPS, warmup_steps=STEPS // 10))
        deit = Augment(affine=JITTER.affine, rand_augment=2, rand_augment_kind="timm", random_erasing=0.25,
                       random_erasing_kind="noise", mixup=0.8, mixup_kind="timm", cutmix=1.0, repeated=3)
        full = digits_recipe(augment=deit, batch_size=SMALL_BATCH, stochastic_depth=0.05,
                             schedule=plain.schedule,
                             optimizer=Optimizer(name="lamb", learning_rate=LAMB_RATE, weight_decay=0.2))
        return [*of_parts(LAPTOP, plain), *of_an_mlp(LAPTOP, plain, "linear → MLP"),
                *of_training(LAPTOP, full, SGD_RATE)]
    small, large = RECIPES["resmlp_s12_imagenet"], RECIPES["resmlp_s24_imagenet"]
    base = "S24, linear → MLP"
    baselines = [
        Variation(WIDTHS, base, base, resmlp(S24, interaction="mlp"), large, 78.8, 78.8),
        Variation(ACTIVATIONS, f"{base}, class-MLP", f"{base}, class-MLP",
                  resmlp(S24, interaction="mlp", pool="class_mlp"), large, 79.2, 79.2),
    ]  # fmt: skip
    return [*of_parts(S12, small), *baselines, *of_an_mlp(S24, large, base), *of_training(S12, small, 0.5)]


def all_arms(job: Job) -> Iterator[Arm]:
    return arms(job, variations(job.scale))


@figures.style()
def figure(rows: Sequence[Row]) -> Figure:
    """Changes against each line's baseline, ours on the left and the paper's on the right."""
    groups = by_group(rows)
    upper = [group for group in (PARTS, PATCHES, ACTIVATIONS, WIDTHS) if group in groups]
    heights = [sum(len(groups[group]) + 1 for group in part) for part in (upper, [TRAINING])]
    drawn, *axes = figures.new(figures.TEXT_WIDTH_CM, 3.2 + 0.42 * sum(heights), rows=2, columns=2, sharey="row",
                               height_ratios=heights)
    for (ours, theirs), part in zip((axes[:2], axes[2:]), (upper, [TRAINING]), strict=True):
        places, labels, place = [], [], 0
        for group in part:
            labels.append(group)
            places.append(place)
            for what in groups[group]:
                place += 1
                labels.append(what)
                places.append(place)
                _dot(ours, theirs, rows, what, place)
            place += 1
        ours.set(yticks=places, yticklabels=labels, ylim=(place - 0.3, -0.7))
        for label in ours.get_yticklabels():
            if label.get_text() in part:
                label.set_color(figures.QUIET)
        for one in (ours, theirs):
            one.axvline(0, color=figures.QUIET, linewidth=0.8)
            one.grid(axis="y", visible=False)
            one.tick_params(axis="y", length=0)
            one.set_xscale("symlog", linthresh=2, linscale=0.6)
            one.set(xlim=(-100, 100), xticks=TICKS, xticklabels=[f"{tick:g}".replace("-", "−") for tick in TICKS])
            one.minorticks_off()
    axes[0].set_title("here: seeds, mean and deviation")
    axes[1].set_title("the paper, on ImageNet")
    drawn.supxlabel("change of test accuracy against the baseline (training: the line before), points; beyond ±2 "
                    "logarithmic", fontsize=8)
    return drawn


def _dot(ours: Axes, theirs: Axes, rows: Sequence[Row], what: str, place: int) -> None:
    found, published = changes(rows, what), published_change(rows, what)
    ours.plot(found, np.full(len(found), place + 0.28), ".", color=figures.COLOURS[5], markersize=3)
    ours.errorbar(fmean(found), place, xerr=deviation(found.tolist()), fmt="o", color=figures.COLOURS[0])
    if published is not None:
        theirs.plot(published, place, "D", color=figures.COLOURS[1])


EXPERIMENT = Experiment(
    name="resmlp-ablations",
    title="ResMLP's parts and training, one by one",
    source="ResMLP, Table 3, appendices A, D.1 and D.3",
    claim="""ResMLP-S12 has 76.6 % on ImageNet. Without any exchange between patches it has 56.5 %; an MLP (77.3) or a
    3 x 3 convolution (77.3; depthwise 76.3, separable 77.0) in place of the linear layer changes little. LayerNorm in
    place of Aff gives 77.7, class-MLP in place of average pooling 77.5, patches of 8 pixels instead of 16 79.1.
    In a network of S24's size with an MLP between patches, GELU (79.2) is above SiLU (78.7), HardSwish (78.8) and
    ReLU (79.1), and the number of hidden units hardly matters: 78.6 to 79.3.
    Taken out of the training one after another, CutMix and mixup, erasing, RandAugment, LAMB, stochastic depth,
    repeated augmentation and 70 % of the epochs each cost accuracy: 76.6 to 67.7.""",
    laptop=f"""A ResMLP of 4 blocks and 32 channels learns scikit-learn's 1,437 training digits of 8 x 8 pixels in
    patches of 2 (16 tokens) for {STEPS} steps of 64 images: AdamW, random affine maps, label smoothing; all lines by
    the same recipe and the same images in the same order. A change is that against the line's baseline, of training
    against the line before it, seed by seed. Accuracy is that of the last step on the 360 test digits: one
    image is 0.28 points. The lines about training have batches of {SMALL_BATCH} images and begin with DeiT's
    ingredients and LAMB; affine maps stand in place of crops and flips, which digits do not bear, and are never taken
    out. The rates of LAMB ({LAMB_RATE:g}) and SGD ({SGD_RATE:g}) are those of two each with which the training images
    were learnt better, in one run without DeiT's ingredients. So short a training is no test of what regularisation is
    worth in 400 epochs; it shows what it costs in few. Left out: steps in place of the cosine, smaller batches,
    ResNet-50's old training; BatchNorm and ℓ2 in place of the norm.""",
    paper="""ResMLP-S12 by the recipe resmlp_s12_imagenet (400 epochs), each part as a network by name (`allmlp models
    "resmlp_*_12_224"`); appendix A's lines in S24's size by resmlp_s24_imagenet. UNVERIFIED: the inner structure of
    class-MLP and whether the convolutions have biases (parameters agree with the paper's); what appendix A's networks
    shared with CaiT beyond that; the rate (0.5 here) and decay (1e-4) of SGD. The line without LayerScale is ours.""",
    columns=COLUMNS,
    arms=all_arms,
    figure=figure,
    found=found,
)
