"""Can a Mixer say what every pixel is? Its authors were asked; there is no published answer.

Two heads of ours on one Mixer, beside a U-Net of as many parameters: a linear map from each token to its own pixels,
and a light decoder on several blocks (`models/segment.py`). Each learns by the same recipe but for the learning rate,
which is chosen for each network on validation images, with the first seed, from one short list.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from allmlp import figures
from allmlp.backends.network import NetworkPredictor
from allmlp.data import open_data
from allmlp.data.dataset import Data, ImageDataset, Subset
from allmlp.data.palette import overlay
from allmlp.data.seeds import derived_seed
from allmlp.errors import BadSetting
from allmlp.evaluate.cost import Cost, measure_costs
from allmlp.evaluate.pixels import PixelPredictor, as_pixel_predictor
from allmlp.evaluate.segmentation import SegmentationMetrics, evaluate_segmentation
from allmlp.files import write_text_atomically
from allmlp.models.init import seeded
from allmlp.models.model import build
from allmlp.models.segment import DecoderConfig, SegmentConfig, TokenHeadConfig
from allmlp.models.variants import model_config
from allmlp.preprocess import Preprocess
from allmlp.recipe import Recipe, Schedule
from allmlp.recipes import RECIPES
from allmlp.reproduce.experiment import Arm, Experiment, Found, Job, Row
from allmlp.reproduce.learn import learn
from allmlp.reproduce.spread import at_end, beyond, deviation
from allmlp.reproduce.unet import UNet

RATES = (2e-3, 6e-3)
BATCH = 16
STEPS = {"laptop": 1_000, "paper": 40_000}
MODEL = {"laptop": "mixer_p4_40", "paper": "mixer_s16_224"}
UNET_WIDTH = {"laptop": 16, "paper": 200}
DECODER = {"laptop": DecoderConfig(width=40, pixel_width=8), "paper": DecoderConfig(width=128)}
TOKENS, DECODED, UNET = "Mixer, token head", "Mixer, decoder", "U-Net"
NAMES = (TOKENS, DECODED, UNET)
SHOWN, FEW = 6, 48  # test images in the figure; images of a split in the tests' size
DIGITS = "0123456789abcdef"
MEASURES = {"test_mean_iou_percent": "test mean IoU, %", "test_boundary_iou_percent": "test boundary IoU, %"}
COLOURS = dict(zip(NAMES, (figures.COLOURS[0], figures.COLOURS[5], figures.COLOURS[3]), strict=True))


def network(name: str, scale: str, num_classes: int, seed: int) -> nn.Module:
    """One of `NAMES` with fresh weights."""
    if name == UNET:
        return UNet(UNET_WIDTH[scale], num_classes, seed)
    head: SegmentConfig = TokenHeadConfig() if name == TOKENS else DECODER[scale]
    config = model_config(MODEL[scale], num_classes=num_classes, global_pool="").with_(segment=head)
    return build(config, generator=seeded(derived_seed(seed, "network")))


def arms(job: Job) -> Iterator[Arm]:
    for seed in range(job.seeds):
        for name in NAMES:
            yield Arm(name, seed, partial(measured, job, name, seed))


def recipe(job: Job, seed: int, rate: float) -> Recipe:
    found = RECIPES["digit_masks" if job.scale == "laptop" else "segment_folder"]
    steps = 2 if job.reduced else STEPS[job.scale]
    return found.with_(batch_size=BATCH, optimizer=found.optimizer.with_(learning_rate=rate), seed=seed,
                       schedule=Schedule(steps=steps, warmup_steps=max(steps // 10, 1)))


def measured(job: Job, name: str, seed: int) -> Mapping[str, Any]:
    """Train one network and measure it. Its rate is chosen with seed 0, and kept for the other seeds."""
    data = open_masks(job)
    tried: dict[float, tuple[float, NetworkPredictor]] = {}
    chosen = job.folder / f"{NAMES.index(name)}.json"
    known = json.loads(chosen.read_text()) if seed and chosen.exists() else None
    for rate in [known["rate"]] if known else RATES:
        predictor = trained(job, data, name, seed if known or not seed else 0, rate)
        tried[rate] = (score(predictor, data.splits["val"]).mean_iou_percent or 0.0, predictor)
    rate = max(tried, key=lambda each: tried[each][0])
    if not known:
        write_text_atomically(chosen, json.dumps({"rate": rate}))
    if seed and not known:  # the choice of an earlier call was cleared away with its folder, and is made again
        predictor = trained(job, data, name, seed, rate)
        tried = {rate: (score(predictor, data.splits["val"]).mean_iou_percent or 0.0, predictor)}
    val, predictor = tried[rate]
    found = score(predictor, data.splits["test"])
    row: dict[str, Any] = {
        "learning_rate": rate, "val_mean_iou_percent": val, "test_mean_iou_percent": found.mean_iou_percent,
        "test_boundary_iou_percent": found.boundary_iou_percent,
        "test_pixel_accuracy_percent": found.pixel_accuracy_percent,
        "steps": 2 if job.reduced else STEPS[job.scale],
    }
    if seed == 0:
        cost = costs(job.scale, len(data.classes), predictor.preprocess.image_size, job.reduced)[name]
        row |= {"parameters": cost.parameters, "million_macs": (cost.macs or 0) / 1e6, "cpu_ms": cost.latency_ms_p50,
                "rates_tried": "; ".join(f"{rate:g}: {value:.1f} %" for rate, (value, _) in tried.items()),
                "answers": answers(predictor, data.splits["test"])}
    return row


def trained(job: Job, data: Data, name: str, seed: int, rate: float) -> NetworkPredictor:
    fresh = network(name, job.scale, len(data.classes), seed)
    side = model_config(MODEL[job.scale]).image_size
    preprocess = Preprocess(image_size=side)
    judged = learn(fresh, recipe(job, seed, rate), data.splits["train"], preprocess=preprocess, device=job.device)
    predictor = NetworkPredictor(judged, preprocess, data.classes)
    predictor.task = "segmentation"
    return predictor


def score(predictor: NetworkPredictor, images: ImageDataset) -> SegmentationMetrics:
    pixels: PixelPredictor = as_pixel_predictor(predictor, "the network")
    return evaluate_segmentation(pixels, images).metrics


@functools.lru_cache(maxsize=1)
def costs(scale: str, num_classes: int, image_size: tuple[int, int], reduced: bool) -> dict[str, Cost]:
    """All networks in turn, on one thread."""
    make: dict[str, Callable[[], nn.Module]] = {name: partial(network, name, scale, num_classes, 0) for name in NAMES}
    return measure_costs(make, image_size, batch_sizes=(32,), rounds=1 if reduced else 5,
                         seconds=0.02 if reduced else 0.25)


def answers(predictor: NetworkPredictor, test: ImageDataset) -> str | None:
    """The classes of all pixels of some test images, a letter each; None where there are more than 16 classes."""
    chosen = shown(len(test))
    images = [test.image(index) for index in chosen]
    if len(test.classes) > len(DIGITS) or any(image.shape[:2] != predictor.preprocess.image_size for image in images):
        return None
    said = predictor(np.stack(images)).argmax(1)
    return "answers " + "".join(DIGITS[k] for k in said.ravel().tolist())


def shown(count: int) -> list[int]:
    return np.linspace(0, count - 1, min(SHOWN, count)).astype(int).tolist()


def open_masks(job: Job) -> Data:
    """The data of a job, with all three splits. Raises `BadSetting`."""
    if job.scale == "paper" and job.data is None:
        raise BadSetting("--scale paper needs --data with masks, such as voc:DIR or ade20k:DIR")
    data = _opened(job.data or "digit-masks")
    if data.task != "segmentation" or set(data.splits) < {"train", "val", "test"}:
        raise BadSetting(f"--data {job.data}: this experiment needs masks, and train, val and test splits")
    if not job.reduced:
        return data
    few = {name: Subset(part, np.arange(min(FEW, len(part)))) for name, part in data.splits.items()}
    return Data(data.name, data.classes, few)


@functools.lru_cache(maxsize=1)
def _opened(source: str) -> Data:
    return open_data(source)


@figures.style()
def figure(rows: Sequence[Row]) -> Figure:
    """Overlap by network, overlap and border against time; and test images with their masks and the answers."""
    data = open_data("digit-masks")
    test = data.splits["test"]
    small = any("reduced" in row["scale"] for row in rows)
    chosen = shown(FEW if small else len(test))
    said = {row["what"]: row["answers"] for row in rows if row["seed"] == 0 and row["answers"] and not row["data"]}
    drawn = figures.empty(figures.TEXT_WIDTH_CM, 6.2 + 2.7 * (2 + len(said) if said else 0), layout="constrained")
    heights = (6.2, 2.7 * (2 + len(said)))
    parts: Any = drawn.subfigures(2, 1, height_ratios=heights) if said else [drawn]
    for axes, (column, label) in zip(parts[0].subplots(1, 2), MEASURES.items(), strict=True):
        for name, marker in zip(NAMES, figures.MARKERS, strict=False):
            values = at_end(rows, name, column)
            time_ms = fmean(at_end(rows, name, "cpu_ms"))
            axes.errorbar(time_ms, fmean(values), deviation(values), marker=marker, color=COLOURS[name],
                          label=name)
            axes.plot([time_ms] * len(values), values, ".", color=COLOURS[name], alpha=0.5)
        axes.set(xlabel="one image on one core, ms", ylabel=label)
        axes.margins(x=0.2)
        axes.legend(loc="best")
    if said:
        _overlays(parts[1], test, chosen, said)
    return drawn


def _overlays(part: Any, test: Any, chosen: Sequence[int], said: Mapping[str, str]) -> None:
    grid = part.subplots(2 + len(said), len(chosen), squeeze=False)
    for column, index in enumerate(chosen):
        image = test.image(index)
        pixels = image.shape[0] * image.shape[1]
        pictures = {"image": image, "mask": overlay(image, test.label_map(index))}
        for name, text in said.items():
            letters = text.removeprefix("answers ")[column * pixels : (column + 1) * pixels]
            labels = np.array([DIGITS.index(letter) for letter in letters], np.uint8).reshape(image.shape[:2])
            pictures[name] = overlay(image, labels)
        for axes, (name, picture) in zip(grid[:, column], pictures.items(), strict=True):
            axes.imshow(picture)
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            if column == 0:
                axes.set_ylabel(name.replace(", ", ",\n"))


def found(rows: Sequence[Row]) -> Found:
    lines = []
    for name in NAMES:
        row = next(row for row in rows if row["what"] == name and row["parameters"] is not None)
        overlap, border, pixels = (at_end(rows, name, f"test_{each}_percent")
                                   for each in ("mean_iou", "boundary_iou", "pixel_accuracy"))
        lines.append(f"{name}: mean IoU {fmean(overlap):.1f} ± {deviation(overlap):.1f} %, boundary IoU "
                     f"{fmean(border):.1f} %, pixel accuracy {fmean(pixels):.2f} %, {row['parameters']:,} parameters, "
                     f"{row['million_macs']:.1f} million multiply-adds, {row['cpu_ms']:.2f} ms")
    values = {name: at_end(rows, name, "test_mean_iou_percent") for name in NAMES}
    words = {1: "better than", 0: "not to be told from", -1: "worse than"}
    text = (f"{'; '.join(lines)}. In mean IoU the decoder is {words[beyond(values[DECODED], values[TOKENS])]} the "
            f"token head and {words[beyond(values[DECODED], values[UNET])]} the U-Net, the token head "
            f"{words[beyond(values[TOKENS], values[UNET])]} the U-Net (by the spread over seeds).")
    return Found("not claimed", text)


EXPERIMENT = Experiment(
    name="segmentation",
    title="A Mixer that names every pixel",
    source="ours; an idea that MLP-Mixer's authors left open",
    claim="""Nothing is published: a head that maps each token to its own patch of pixels was named as an idea, without
    code or numbers.""",
    laptop="""Scenes of digits of 40 x 40 pixels with their masks (`digit-masks`): 2,000 to learn, 300 to choose by, 500
    to measure on, of disjoint digits, 11 classes. A Mixer of 4 blocks, 64 channels and 100 tokens with a linear map
    from each token to its 4 x 4 pixels, the same with a light decoder on all four blocks, and a U-Net of as many
    parameters, each for 1,000 steps of 16 images: AdamW, cross entropy plus dice, the same random affine maps of image
    and mask. The learning rate is the better of 0.002 and 0.006 on the validation scenes, for each network,
    with seed 0. That is short training, 8 epochs: what is compared is how fast they learn as much as how far.

    Mean IoU over 11 classes; boundary IoU within 1 pixel of a border. Time is one image on one thread, all networks in
    turn.""",
    paper="""Mixer-S/16 at 224 pixels, 40,000 steps of 16 images on --data with masks and three splits, by the recipe
    segment_folder. Not run: we have no such data.""",
    columns=("learning_rate", "val_mean_iou_percent", "test_mean_iou_percent", "test_boundary_iou_percent",
             "test_pixel_accuracy_percent", "parameters", "million_macs", "cpu_ms", "steps", "rates_tried", "answers"),
    arms=arms,
    figure=figure,
    found=found,
)
