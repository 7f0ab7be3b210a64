"""One network for images of any size and shape: a stem of convolutions, averaged onto a fixed grid of tokens.

Trained at one size, or at several, and then measured at five sizes and shapes without a change of weights; beside a
plain Mixer, to whose size every image is brought first, and whose weights are brought to every size of images.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from allmlp import checkpoint, figures
from allmlp.data.dataset import ImageDataset
from allmlp.data.seeds import derived_seed, generator
from allmlp.errors import BadSetting
from allmlp.inspection.flops import count_macs
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.config import ModelConfig
from allmlp.models.model import Model, build
from allmlp.models.resize import resize
from allmlp.models.stems import ConvolutionStem
from allmlp.preprocess import Preprocess, fit
from allmlp.reproduce.experiment import Arm, Experiment, Found, Job, Row
from allmlp.reproduce.learn import learn, open_job, part_to_measure
from allmlp.reproduce.small import CLASSES, PREPROCESS, SIZE_PX, accuracy_percent, mixer, recipe
from allmlp.reproduce.spread import at_end, deviation

SIZES = ((32, 32), (24, 24), (48, 48), (32, 64), (48, 24))  # (height, width); the first is the training size
STEM_PX, TOKENS, WIDTH, DEPTH, STEPS = 4, (4, 4), 44, 4, 300
WAYS = {"pooled grid, learnt at 32 x 32": "one", "pooled grid, learnt at five sizes": "several",
        "pooled grid, images resized": "brought back", "plain Mixer, images resized": "images",
        "plain Mixer, weights resized": "weights"}
COLUMNS = tuple(f"at_{height}x{width}_percent" for height, width in SIZES)


class Resized:
    """The images of a set, brought to one size and shape."""

    def __init__(self, images: ImageDataset, size: tuple[int, int]):
        self.images, self.classes, self.labels = images, images.classes, images.labels
        self.name = images.name
        self.shape = Preprocess(image_size=size, resize="squash")

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        return fit(self.images.image(index), self.shape)


class AtSeveralSizes(nn.Module):
    """While it learns, each batch goes through `network` at one of `SIZES`, drawn at random."""

    def __init__(self, network: nn.Module, seed: int):
        super().__init__()
        self.network, self.draws = network, generator(seed, "sizes")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            size = SIZES[int(self.draws.integers(len(SIZES)))]
            images = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
        return self.network(images)


def pooled(seed: int) -> Model:
    """A Mixer as `small.mixer` is one, of nearly as many multiply-adds, behind a stem of convolutions: 8 x 8 places
    from its own size, averaged onto 4 x 4 tokens."""
    block = MixerConfig(token_hidden=WIDTH // 2, channel_hidden=2 * WIDTH, activation="erf")
    config = ModelConfig(image_size=(SIZE_PX, SIZE_PX), patch_size=(STEM_PX, STEM_PX), width=WIDTH, depth=DEPTH,
                         blocks=(block,), stem=ConvolutionStem(tokens=TOKENS), num_classes=CLASSES)
    return build(config, PREPROCESS, generator=torch.Generator().manual_seed(derived_seed(seed, "any-size")))


def arms(job: Job) -> Iterator[Arm]:
    if job.scale == "paper":
        raise BadSetting("--scale paper: any-size has none, as no paper trained such a network; leave it out")
    for seed in range(job.seeds):
        for what, way in WAYS.items():
            yield Arm(what, seed, partial(measured, job, way, seed))


def measured(job: Job, way: str, seed: int) -> Mapping[str, Any]:
    data = open_job(job, "digit-scenes")
    train, test = data.splits["train"], part_to_measure(data)
    if way in ("images", "weights"):
        model = learnt(job, "plain", seed, train, mixer(64, DEPTH, seed=seed))
    else:
        model = learnt(job, "several" if way == "several" else "pooled", seed, train, pooled(seed))
    found = {}
    for size, column in zip(SIZES, COLUMNS, strict=True):
        network = resize(model, image_size=size) if way == "weights" else model
        seen = PREPROCESS if way in ("images", "brought back") else PREPROCESS.with_(image_size=size)
        images = Resized(Resized(test, size), seen.image_size)
        found[column] = accuracy_percent(network.eval(), images, seen)
    return {"way": way, **found, "macs": count_macs(model.config),
            "parameters": sum(parameter.numel() for parameter in model.parameters())}


def learnt(job: Job, name: str, seed: int, train: ImageDataset, model: Model) -> Model:
    """`model`, trained; once a seed, for all ways that measure it."""
    kept = job.folder / f"{name}-{seed}.safetensors"
    if not kept.exists():
        learner = AtSeveralSizes(model, seed) if name == "several" else model
        learn(learner, recipe(seed, 4 if job.reduced else STEPS), train, preprocess=PREPROCESS, device=job.device)
        checkpoint.save(model, kept)
    return checkpoint.load(kept).to(job.device)


@figures.style()
def figure(rows: Sequence[Row]) -> Figure:
    drawn, axes = figures.new(figures.TEXT_WIDTH_CM, 6.4)
    places = np.arange(len(SIZES))
    for number, what in enumerate(WAYS):
        values = [at_end(rows, what, column) for column in COLUMNS]
        axes.errorbar(places + (number - 2) * 0.12, [fmean(each) for each in values],
                      yerr=[deviation(each) for each in values], fmt=figures.MARKERS[number], label=what,
                      color=figures.COLOURS[number])
    axes.set_xticks(places, [f"{height} x {width}" for height, width in SIZES])
    axes.set(ylabel="test accuracy, %", xlabel="height x width of the images, pixels")
    axes.grid(axis="x", visible=False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn


def found(rows: Sequence[Row]) -> Found:
    told = []
    for what in WAYS:
        means = [fmean(at_end(rows, what, column)) for column in COLUMNS]
        own, others = means[0], dict(zip(SIZES[1:], means[1:], strict=True))
        worst = min(others, key=lambda size: others[size])
        told.append(f"{what}: {own:.1f} ± {deviation(at_end(rows, what, COLUMNS[0])):.1f} % at {SIZES[0][0]} x "
                    f"{SIZES[0][1]}, {fmean(others.values()):.1f} on average over the {len(others)} other sizes, "
                    f"{others[worst]:.1f} at the worst ({worst[0]} x {worst[1]})")
    return Found("not claimed", "; ".join(told) + ".")


EXPERIMENT = Experiment(
    name="any-size",
    title="One network for images of any size and shape",
    source="an idea that the papers' authors named and nobody measured",
    claim="""Nothing is published. Named was a stem of convolutions, which takes images of any size, before token
    mixing, which takes a fixed number of tokens.""",
    laptop=f"""A stem of two convolutions ends in a place for every 4 x 4 pixels; whatever the image's size, the places
    are averaged onto 4 x 4 tokens, which 4 Mixer blocks (width {WIDTH}) mix. It learns 5,748 digit scenes for {STEPS}
    steps of 64 images, at their own 32 x 32 pixels or, batch by batch, at one of the five sizes. The same weights then
    answer for the 1,440 test scenes at five sizes: the same scenes, enlarged, shrunk or stretched, so larger ones hold
    no more detail, and stretched digits are new to what learnt at 32 x 32. Or every image is brought back to 32 x 32
    first, which undoes the change but for what shrinking lost. Beside it a plain Mixer (width 64, 4 blocks,
    patches of 8 pixels; as many multiply-adds, within 4 percent) trained at 32 x 32: once with every image brought back
    to it, and once with its weights brought to each size by `allmlp.resize`.""",
    paper="There is none: no paper trained these networks.",
    columns=("way", *COLUMNS, "macs", "parameters"),
    arms=arms,
    figure=figure,
    found=found,
)
