"""Convolution, token MLP and attention under one frame: which overfits, and what stages and sharing do to that (SPACH).

Three ways to mix tokens in the same network, of the same depth and the same work for an image; with one stage or with
three; with token mixing of their own in every block or shared by all blocks of a stage. All see the same few images, so
few that the training images can be learnt by heart: what is lost from there to the test images is the overfitting.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from allmlp import figures
from allmlp.data.dataset import ImageDataset, Subset
from allmlp.data.seeds import derived_seed
from allmlp.evaluate.fewshot import draw_shots
from allmlp.inspection.flops import count_macs, count_parameters
from allmlp.models.config import ModelConfig
from allmlp.models.model import build
from allmlp.models.spach import SPACH, Mixing, Stage, spach_network
from allmlp.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from allmlp.recipe import Optimizer, Schedule
from allmlp.recipes.resmlp_imagenet import S12
from allmlp.reproduce.experiment import Arm, Experiment, Found, Job, Row
from allmlp.reproduce.learn import learn, open_job
from allmlp.reproduce.small import CLASSES, PREPROCESS, SIZE_PX, accuracy_percent, recipe
from allmlp.reproduce.spread import at_end, beyond, deviation, points

LABELS: dict[Mixing, str] = {"convolution": "convolution", "mlp": "token MLP", "attention": "attention"}
FORMS = {"1 stage": (False, False), "1 stage, shared": (False, True), "3 stages": (True, False),
         "3 stages, shared": (True, True)}  # several stages, shared token mixing
# Widths at which all networks take about two million multiply-adds for an image (1.80 to 2.11).
WIDTHS: dict[Mixing, tuple[int, int]] = {"convolution": (40, 32), "mlp": (36, 32), "attention": (24, 24)}
PATCH_PX, RATIO, DEPTH, HEADS = 4, 2, 4, 2
TRAIN_PER_CLASS, STEPS = 50, 240
BY_HEART_PERCENT = 95
PUBLISHED = {"spach_convolution_ms_xxs": 73.1, "spach_attention_ms_xxs": 65.4, "spach_mlp_ms_xxs": 74.5,
             "spach_mlp_s": 79.5, "spach_convolution_ms_s": 81.6, "spach_attention_ms_s": 82.9, "spach_mlp_ms_s": 82.1,
             "spach_hybrid_ms_s": 83.7}  # fmt: skip
RECIPE = S12.with_(  # SPACH's numbers; the augmentation is DeiT's, as ResMLP's is
    name="spach_imagenet", model="resmlp_12_224", batch_size=1024, ema_decay=None, stochastic_depth=None,
    stochastic_depth_rule=None, augment=S12.augment.with_(repeated=1), expected=None,
    optimizer=Optimizer(learning_rate=1e-3, weight_decay=0.05),
    schedule=Schedule(epochs=300, warmup_epochs=20, warmup_factor=1e-3, final_factor=1e-2, rule="timm"),
)


class Part(NamedTuple):
    """An arm's network."""

    mixing: str
    form: str
    config: ModelConfig


def small_network(mixing: Mixing, form: str) -> ModelConfig:
    """One stage of 4 blocks on 8 x 8 tokens; or three of 2 blocks, the first by convolution, down to 2 x 2."""
    several, shared = FORMS[form]
    stages: list[Stage] = [[("convolution", 2)], [(mixing, 2)], [(mixing, 2)]] if several else [[(mixing, DEPTH)]]
    return spach_network(stages, width=WIDTHS[mixing][several], ratio=RATIO, patch=PATCH_PX, image=SIZE_PX, heads=HEADS,
                         shared=shared, num_classes=CLASSES)


def parts(job: Job) -> dict[str, Part]:
    """The network of each arm."""
    if job.scale == "paper":
        return {f"{name}{', shared' * shared}": Part(name, "shared" if shared else "", config)
                for name, config, shared in paper_networks()}
    return {f"{label}, {form}": Part(mixing, form, small_network(mixing, form))
            for mixing, label in LABELS.items() for form, (_, shared) in FORMS.items()
            if not (shared and mixing == "convolution")}


def paper_networks() -> Iterator[tuple[str, ModelConfig, bool]]:
    one = spach_network([[("mlp", 24)]], width=512, ratio=3, patch=16, shared=True)
    stages: list[Stage] = [[("convolution", 3)], [("mlp", 4)], [("mlp", 12)], [("mlp", 3)]]
    several = spach_network(stages, width=128, ratio=3, patch=4, shared=True)
    networks = [*((name, config, False) for name, config in SPACH.items()),
                ("spach_mlp_s", one, True), ("spach_mlp_ms_s", several, True)]  # fmt: skip
    for name, config, shared in networks:
        yield name, config.with_(stochastic_depth=config.stochastic_depth.with_(rate=0.1)), shared


def arms(job: Job) -> Iterator[Arm]:
    for seed in range(job.seeds):
        for what, part in parts(job).items():
            yield Arm(what, seed, partial(trained, job, part, seed))


def trained(job: Job, part: Part, seed: int) -> Mapping[str, Any]:
    data = open_job(job, "digit-scenes")
    train, test = data.splits["train"], data.splits.get("test") or data.splits["val"]
    preprocess, plan = PREPROCESS, recipe(seed, steps=4 if job.reduced else STEPS)
    config = part.config.with_(num_classes=len(data.classes))
    if job.scale == "paper":
        preprocess = Preprocess(image_size=config.image_size, crop_ratio=0.875, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        plan = RECIPE.with_(seed=seed)
    else:
        train = few(train)
        test = Subset(test, np.arange(64)) if job.reduced else test
    generator = torch.Generator().manual_seed(derived_seed(seed, "spach") % 2**63)
    network = learn(build(config, preprocess, generator=generator), plan, train, preprocess=preprocess,
                    device=job.device)
    known = few(train) if job.scale == "paper" else train
    return {"mixing": part.mixing, "form": part.form, "parameters": count_parameters(config),
            "macs": count_macs(config), "training_images": len(train),
            "train_accuracy_percent": accuracy_percent(network, known, preprocess),
            "test_accuracy_percent": accuracy_percent(network, test, preprocess)}


def few(train: ImageDataset) -> Subset:
    """The same images for every network and seed."""
    return Subset(train, draw_shots(train.labels, TRAIN_PER_CLASS, seed=0))


def gaps(rows: Sequence[Row], what: str) -> list[float]:
    """Points between training and test accuracy, for each seed."""
    both = zip(at_end(rows, what, "train_accuracy_percent"), at_end(rows, what, "test_accuracy_percent"), strict=True)
    return [train - test for train, test in both]


def figure(rows: Sequence[Row]) -> Figure:
    if all(row["form"] in FORMS for row in rows):
        return by_form(rows)
    return by_name(rows)


def by_form(rows: Sequence[Row]) -> Figure:
    """Training and test accuracy side by side: what is lost from the one to the other is the overfitting."""
    drawn, *panels = figures.new(figures.TEXT_WIDTH_CM, 7, columns=2, sharey=True)
    forms = [form for form in FORMS if any(row["form"] == form for row in rows)]
    for axes, part in zip(panels, ("train", "test"), strict=True):
        for number, (mixing, label) in enumerate(LABELS.items()):
            there = [place for place, form in enumerate(forms)
                     if any((row["mixing"], row["form"]) == (mixing, form) for row in rows)]
            values = [at_end(rows, f"{label}, {forms[place]}", f"{part}_accuracy_percent") for place in there]
            axes.errorbar(np.array(there) + 0.16 * (number - 1), [fmean(each) for each in values],
                          [deviation(each) for each in values], label=label, linestyle="none",
                          marker=figures.MARKERS[number], color=figures.COLOURS[number])
        axes.set(title="Training images" if part == "train" else "Test images", ylim=(0, 104))
        axes.set_xticks(range(len(forms)), [form.replace(", ", ",\n") for form in forms])
        axes.grid(visible=False, axis="x")
    panels[0].set_ylabel("accuracy, %")
    panels[1].legend(loc="lower right", title="tokens mixed by", alignment="left")
    return drawn


def by_name(rows: Sequence[Row]) -> Figure:
    names = list(dict.fromkeys(row["what"] for row in rows))[::-1]
    drawn, axes = figures.new(figures.TEXT_WIDTH_CM, 2 + 0.6 * len(names))
    values = [at_end(rows, name, "test_accuracy_percent") for name in names]
    axes.errorbar([fmean(each) for each in values], range(len(names)), xerr=[deviation(each) for each in values],
                  linestyle="none", marker="o", color=figures.COLOURS[0], label="here")
    there = [(PUBLISHED[name], place) for place, name in enumerate(names) if name in PUBLISHED]
    axes.plot(*zip(*there, strict=True), linestyle="none", marker="|", markersize=9, color=figures.INK,
              label="published")
    axes.set(xlabel="top-1 accuracy, %")
    axes.set_yticks(range(len(names)), names)
    axes.legend()
    return drawn


def found(rows: Sequence[Row]) -> Found:
    if not all(row["form"] in FORMS for row in rows):
        return at_paper_scale(rows)

    def test(mixing: Mixing, form: str) -> list[float]:
        return at_end(rows, f"{LABELS[mixing]}, {form}", "test_accuracy_percent")

    def overfits(form: str) -> list[float]:
        return gaps(rows, f"{LABELS['mlp']}, {form}")

    staged: dict[Mixing, int] = {mixing: beyond(test(mixing, "3 stages"), test(mixing, "1 stage")) for mixing in LABELS}
    shared_test = test("mlp", "1 stage, shared"), test("mlp", "1 stage")
    less_by_stages = beyond(overfits("3 stages"), overfits("1 stage")) < 0
    less_by_sharing = beyond(overfits("1 stage, shared"), overfits("1 stage")) < 0
    helps = less_by_sharing and beyond(*shared_test) >= 0  # who learns less of the training images has less to lose
    said = {1: "better, beyond the spread", 0: "within the spread", -1: "worse, beyond the spread"}
    stages = "; ".join(f"{LABELS[mixing]} {points(test(mixing, '3 stages'), test(mixing, '1 stage'))} ({said[value]})"
                       for mixing, value in staged.items())
    ends = {label: fmean(test(mixing, "3 stages")) for mixing, label in LABELS.items()}
    best = max(ends, key=ends.__getitem__)
    text = (
        f"From one stage to three, test accuracy changes at equal work: {stages}. The token MLP's overfitting, "
        f"training minus test accuracy, is {fmean(overfits('1 stage')):.1f} points in one stage. Three stages change "
        f"it by {points(overfits('3 stages'), overfits('1 stage'))}, shared token mixing by "
        f"{points(overfits('1 stage, shared'), overfits('1 stage'))}, with {points(*shared_test)} of test accuracy. In "
        f"three stages, sharing changes its test accuracy by "
        f"{points(test('mlp', '3 stages, shared'), test('mlp', '3 stages'))}. Of the three in three stages, {best} is "
        f"ahead with {ends[best]:.1f} % (all: {', '.join(f'{label} {mean:.1f}' for label, mean in ends.items())} %)."
        f"{slow_to_learn(rows)}"
    )
    holds = [all(value > 0 for value in staged.values()), less_by_stages, helps]
    return Found("as claimed" if all(holds) else "in part" if any(holds) else "not found", text)


def slow_to_learn(rows: Sequence[Row]) -> str:
    """A sentence about networks for which the steps were too few to learn the training images by heart, if any."""
    arms = dict.fromkeys(row["what"] for row in rows)
    means = {what: fmean(at_end(rows, what, "train_accuracy_percent")) for what in arms}
    slow = "; ".join(f"{what} {mean:.0f} %" for what, mean in means.items() if mean < BY_HEART_PERCENT)
    return (" These had not learnt the training images by heart after these steps, so that their gap says little: "
            f"{slow}." if slow else "")


def at_paper_scale(rows: Sequence[Row]) -> Found:
    ends = {name: at_end(rows, name, "test_accuracy_percent") for name in PUBLISHED}
    there = {name: fmean(values) for name, values in ends.items() if values}
    near = [name for name, mean in there.items() if abs(mean - PUBLISHED[name]) <= 1]
    text = "; ".join(f"{name} {mean:.1f} % (published {PUBLISHED[name]} %)" for name, mean in there.items())
    verdict = "as claimed" if len(near) == len(there) else "in part" if near else "not found"
    return Found(verdict, f"Top-1: {text}.")


EXPERIMENT = Experiment(
    name="spach",
    title="Convolution, token MLP and attention under one frame",
    source="A Battle of Network Structures (arXiv 2108.13002), sections 3 and 4",
    claim="""Under one frame the three ways to mix tokens are close on ImageNet. Networks of several stages are better
    than those of one, whatever mixes their tokens. The MLP is strong while the network is small and overfits when it
    grows; several stages, and token mixing whose weights all layers share, make it overfit less. Multi-stage, top-1:
    convolution 73.1, attention 65.4, MLP 74.5 % at size XXS; 81.6, 82.9 and 82.1 % at size S. Single-stage MLP at size
    S: 79.5 %.""",
    laptop="""SPACH's block, start and stem in small networks for 32 x 32 pixels, all of 1.8 to 2.1 million
    multiply-adds: one stage of 4 blocks on 8 x 8 tokens, or three of 2 blocks, on 8 x 8, 4 x 4 and 2 x 2 tokens, the
    first of them by convolution (as in the paper). 500 digit scenes, 50 of each class and the same for all, 240 steps
    of 64 images (31 times each) by one recipe without augmentation, enough for some to learn them by heart; accuracy on
    them and on the 1,440 test scenes at the end. Work is equal and parameters are not: networks of several stages have
    more, as in the paper.""",
    paper="""All of the repository's networks, and MLP-S and MLP-MS-S with shared token mixing, on ImageNet by AdamW,
    300 epochs, 20 of warm-up, batches of 1,024, weight decay 0.05, stochastic depth 0.1, DeiT's augmentation without
    repetition. The learning rate is 1e-3, the repository's 5e-4 for 512 images; the text has 0.005. One process on one
    device. Training accuracy is of 50 images of each class. UNVERIFIED: whether the average of the weights was
    evaluated, and the numbers of the paper's own tables; those here are the repository's and derived from the text.""",
    columns=("mixing", "form", "parameters", "macs", "training_images", "train_accuracy_percent",
             "test_accuracy_percent"),
    arms=arms,
    figure=figure,
    found=found,
)
