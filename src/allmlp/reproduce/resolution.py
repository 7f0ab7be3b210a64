"""Another resolution: a trained Mixer brought to images of twice the size, before and after fine-tuning (MLP-Mixer,
section 3 and appendix C).

`benchmarks/resize.py` measures the same for all methods and ratios on digits, which hold no detail for more pixels;
here the larger images show more than the smaller ones did.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from allmlp import checkpoint, figures
from allmlp.data.dataset import Data
from allmlp.models.model import Model
from allmlp.models.resize import Method, resize
from allmlp.preprocess import Preprocess
from allmlp.recipe import Recipe
from allmlp.recipes import RECIPES
from allmlp.reproduce.experiment import Arm, Experiment, Found, Job, Row
from allmlp.reproduce.learn import learn, open_job, part_to_measure
from allmlp.reproduce.small import accuracy_percent, mixer, recipe
from allmlp.reproduce.spread import at_end, beyond, deviation, points

SMALL_PX, LARGE_PX, PATCH_PX = 16, 32, 4
WAYS = {  # what becomes of the small network
    "own size": "stays at its own size, to which images are shrunk",
    "block": "block copies (appendix C)",
    "least_squares": "least squares (`allmlp.resize`)",
    "patch": "larger patches, as many tokens",
    "fresh": "fresh weights at the large size",
}
BEFORE, AFTER = "before_percent", "after_percent"


def changes(model: Model, size_px: int, methods: Iterable[Method]) -> Iterator[tuple[str, Model]]:
    """Each method with the network that it makes of `model` for square images of `size_px`; beside `methods` "image",
    the network as it is, and "patch", larger patches, where they get a whole number of pixels."""
    for method in methods:
        yield method, resize(model, image_size=size_px, method=method)
    yield "image", model
    side = model.config.grid[0]
    if size_px % side == 0:
        yield "patch", resize(model, image_size=size_px, patch_size=size_px // side)


def arms(job: Job) -> Iterator[Arm]:
    for seed in range(job.seeds):
        if job.scale == "laptop":
            for way in WAYS:
                yield Arm(WAYS[way], seed, partial(small, job, way, seed))
        else:
            for way in ("own size", "block", "least_squares"):
                yield Arm(WAYS[way], seed, partial(published, job, way, seed))


def small(job: Job, way: str, seed: int) -> Mapping[str, Any]:
    data, steps = open_job(job, "digit-scenes"), 6 if job.reduced else 60
    start = pretrained(job, seed, data)
    if way == "fresh":
        model = mixer(64, 4, image_px=LARGE_PX, patch_px=PATCH_PX, seed=seed + 1000)
    elif way == "own size":
        model = start
    else:
        model = dict(changes(start, LARGE_PX, ("block", "least_squares")))[way]
    plan = recipe(seed, steps)
    plan = plan.with_(optimizer=plan.optimizer.with_(learning_rate=1e-3))
    return measured(job, model, plan, data, model.preprocess, way)


def published(job: Job, way: str, seed: int) -> Mapping[str, Any]:
    data = open_job(job, "imagenet")
    plan = RECIPES["mixer_finetune_imagenet_448"].with_(seed=seed)
    assert plan.init is not None, "it says what it starts from"
    method: Method = "block" if way == "block" else "least_squares"
    model = checkpoint.load_at(plan.init, None if way == "own size" else plan.image_size, method=method)
    model = resize(model, classes=data.classes, seed=seed)
    changed = {"resize": plan.resize, "crop_ratio": plan.crop_ratio}
    return measured(job, model, plan, data, model.preprocess.with_(**changed), way)


def pretrained(job: Job, seed: int, data: Data) -> Model:
    """A Mixer that learnt the images at the small size; trained once a seed and kept for all ways."""
    kept = job.folder / f"small-{seed}.safetensors"
    if not kept.exists():
        model = mixer(64, 4, image_px=SMALL_PX, patch_px=PATCH_PX, seed=seed)
        learn(model, recipe(seed, steps=10 if job.reduced else 250), data.splits["train"],
              preprocess=model.preprocess, device=job.device)
        checkpoint.save(model, kept)
    return checkpoint.load(kept)


def measured(job: Job, model: Model, plan: Recipe, data: Data, preprocess: Preprocess, way: str) -> Mapping[str, Any]:
    train, test = data.splits["train"], part_to_measure(data)
    before = accuracy_percent(model.to(job.device), test, preprocess)
    learn(model, plan, train, preprocess=preprocess, device=job.device)
    return {"way": way, "size_px": preprocess.image_size[0], BEFORE: before,
            AFTER: accuracy_percent(model, test, preprocess), "steps": plan.schedule.steps,
            "tokens": model.config.grid[0] * model.config.grid[1],
            "parameters": sum(parameter.numel() for parameter in model.parameters())}


def ways(rows: Sequence[Row]) -> list[str]:
    return [way for way in WAYS if any(row["way"] == way for row in rows)]


def figure(rows: Sequence[Row]) -> Figure:
    drawn, axes = figures.new(figures.TEXT_WIDTH_CM, 6.4)
    for column, label, shift, colour, marker in (
            (BEFORE, "right after the change", -0.12, figures.COLOURS[1], "s"),
            (AFTER, "after fine-tuning", 0.12, figures.COLOURS[0], "o")):
        values = [at_end(rows, WAYS[way], column) for way in ways(rows)]
        axes.errorbar([fmean(each) for each in values], [place + shift for place in range(len(values))],
                      xerr=[deviation(each) for each in values], fmt=marker, color=colour, label=label)
    axes.set_yticks(range(len(ways(rows))), [WAYS[way].replace("`", "") for way in ways(rows)])
    axes.set(xlabel="test accuracy, %", ylim=(len(ways(rows)) - 0.5, -0.5))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn


def found(rows: Sequence[Row]) -> Found:
    def end(way: str, column: str = AFTER) -> list[float]:
        return at_end(rows, WAYS[way], column)

    better = beyond(end("block"), end("own size")) > 0
    text = (f"After the same fine-tuning the network enlarged by block copies is at {fmean(end('block')):.1f} %, "
            f"{points(end('block'), end('own size'))} beside the one at its own size; by least squares it is at "
            f"{fmean(end('least_squares')):.1f} %, {points(end('least_squares'), end('block'))} beside block copies. "
            f"Before fine-tuning they are at {fmean(end('block', BEFORE)):.1f} and "
            f"{fmean(end('least_squares', BEFORE)):.1f} %.")
    if "fresh" in ways(rows):
        text += f" Fresh weights reach {fmean(end('fresh')):.1f} % in as many steps."
    return Found("as claimed" if better else "not found", text)


EXPERIMENT = Experiment(
    name="resolution",
    title="Fine-tuning at twice the image size",
    source="MLP-Mixer, section 3 and appendix C",
    claim="""A Mixer pre-trained at 224 pixels is fine-tuned at 448 with the same patches: four times as many
    tokens. Its token-mixing matrices start as four copies of the old ones on the diagonal, so that at first every
    quarter of the image is treated as an image was. On ImageNet this brings L/16 from 82.89 to 83.91 % (pre-trained
    on ImageNet-21k) and from 84.82 to 86.78 % (on JFT-300M; Table 3).""",
    laptop="""A Mixer (width 64, 4 blocks, patches of 4 pixels) learns 5,748 digit scenes at 16 x 16 pixels for 250
    steps of 64 images. Then it is brought to 32 x 32 pixels, the scenes' own size, in several ways, and each is
    fine-tuned for 60 further steps; so is the network at its own size. Measured on the 1,440 test scenes before and
    after.""",
    paper="""Mixer-L/16's published weights of ImageNet-21k, fine-tuned on ImageNet by the recipe
    mixer_finetune_imagenet_448, at 448 pixels by block copies and by least squares, and at their own 224. One
    process on one device. UNVERIFIED: the evaluation's resize at 448 pixels.""",
    columns=("way", "size_px", "tokens", "steps", BEFORE, AFTER, "parameters"),
    arms=arms,
    figure=figure,
    found=found,
)
