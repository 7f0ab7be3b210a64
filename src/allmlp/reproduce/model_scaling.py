"""Larger networks: Mixers of growing width and depth by one recipe (MLP-Mixer, section 3.3, figures 2 left and 3)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from allmlp import figures
from allmlp.inspection.flops import count_macs
from allmlp.models.model import Model
from allmlp.preprocess import Preprocess
from allmlp.recipe import Recipe
from allmlp.recipes import RECIPES
from allmlp.reproduce.experiment import Arm, Experiment, Found, Job, Row
from allmlp.reproduce.learn import learn, open_job, part_to_measure
from allmlp.reproduce.small import PREPROCESS, accuracy_percent, few_shot_percent, mixer, recipe
from allmlp.reproduce.spread import at_end, beyond, deviation
from allmlp.train.start import starting_model

SIZES = ((16, 2), (32, 4), (64, 4), (64, 8), (128, 4))  # width, depth
PAPER = ("mixer_s32_jft", "mixer_s16_jft", "mixer_b32_jft", "mixer_b16_jft", "mixer_l32_jft", "mixer_l16_jft")
MEASURES = {"few_shot_percent": "linear 5-shot accuracy, %", "test_accuracy_percent": "test accuracy, %"}


def arms(job: Job) -> Iterator[Arm]:
    for seed in range(job.seeds):
        if job.scale == "laptop":
            for width, depth in SIZES:
                yield Arm(f"Mixer, width {width}, {depth} blocks", seed, partial(small, job, width, depth, seed))
        else:
            for name in PAPER:
                yield Arm(name.removesuffix("_jft"), seed, partial(published, job, RECIPES[name].with_(seed=seed)))


def small(job: Job, width: int, depth: int, seed: int) -> Mapping[str, Any]:
    return measured(job, mixer(width, depth, seed=seed), recipe(seed, steps=12 if job.reduced else 250), PREPROCESS)


def published(job: Job, plan: Recipe) -> Mapping[str, Any]:
    return measured(job, starting_model(plan, open_job(job, "imagenet21k")), plan, Preprocess(image_size=(224, 224)))


def measured(job: Job, network: Model, plan: Recipe, preprocess: Preprocess) -> Mapping[str, Any]:
    data = open_job(job, "digit-scenes")
    train, test = data.splits["train"], part_to_measure(data)
    learn(network, plan, train, preprocess=preprocess, device=job.device)
    return {"width": network.config.width, "depth": network.config.depth, "macs": count_macs(network.config),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "few_shot_percent": few_shot_percent(network, train, test, preprocess),
            "test_accuracy_percent": accuracy_percent(network, test, preprocess)}


def by_cost(rows: Sequence[Row]) -> list[tuple[int, str]]:
    """Multiply-adds and name of each network, the cheapest first."""
    return sorted({(row["macs"], row["what"]) for row in rows})


def figure(rows: Sequence[Row]) -> Figure:
    drawn, *all_axes = figures.new(figures.TEXT_WIDTH_CM, 6.6, columns=2)
    sizes = by_cost(rows)
    for axes, (column, label) in zip(all_axes, MEASURES.items(), strict=True):
        values = [at_end(rows, what, column) for _, what in sizes]
        axes.errorbar([macs / 1e6 for macs, _ in sizes], [fmean(each) for each in values],
                      [deviation(each) for each in values], color=figures.FAMILIES["Mixer"], marker="o")
        for (macs, what), each in zip(sizes, values, strict=True):
            size = next(row for row in rows if row["what"] == what)
            axes.annotate(f"{size['width']} × {size['depth']}", (macs / 1e6, fmean(each)), xytext=(5, -10),
                          textcoords="offset points", fontsize=7, color=figures.QUIET)
        axes.set(xscale="log", xlabel="multiply-adds for an image, millions", ylabel=label)
        axes.margins(x=0.12)
    all_axes[0].set_title("width × blocks beside each point")
    return drawn


def found(rows: Sequence[Row]) -> Found:
    sizes = by_cost(rows)
    holds, lines = [], []
    for column, measure in (("few_shot_percent", "5-shot"), ("test_accuracy_percent", "test")):
        values = [at_end(rows, what, column) for _, what in sizes]
        means = [fmean(each) for each in values]
        holds += [beyond(values[-1], values[0]) > 0, means == sorted(means)]
        lines.append(f"{measure} accuracy " + ", ".join(f"{mean:.1f}" for mean in means))
    text = (f"From the cheapest to the dearest network ({sizes[0][0] / 1e6:.1f} to {sizes[-1][0] / 1e6:.1f} million "
            f"multiply-adds): {'; '.join(lines)} %.")
    return Found("as claimed" if all(holds) else "in part" if any(holds) else "not found", text)


EXPERIMENT = Experiment(
    name="model-scaling",
    title="Larger Mixers",
    source="MLP-Mixer, section 3.3, figures 2 (left) and 3",
    claim="""Made larger, in width and depth or by smaller patches, Mixers get better steadily: pre-trained on
    JFT-300M and fine-tuned on ImageNet at 224 pixels, S/32, B/32, L/32 reach 68.70, 75.53, 80.67 %, and S/16, B/16,
    L/16, H/14 reach 73.83, 80.00, 84.05 (84.82 in 14 epochs), 86.32 % (Table 3).""",
    laptop="""Mixers of width 16 to 128 with 2 to 8 blocks, patches of 8 pixels, learn 5,748 digit scenes for 250
    steps of 64 images by one recipe, whose learning rate is the same for all sizes. Linear 5-shot accuracy (5
    draws) and the head's own on the 1,440 test scenes.""",
    paper="""Mixer-S/32 to L/16 by the recipes of Table 4 (`allmlp recipes 'mixer*jft'`) on the images you have in
    place of JFT-300M, which is not public; measured without the fine-tuning on ImageNet, which `allmlp train
    --recipe mixer_finetune_imagenet` does. One process on one device.""",
    columns=("width", "depth", "macs", "parameters", "few_shot_percent", "test_accuracy_percent"),
    arms=arms,
    figure=figure,
    found=found,
)
