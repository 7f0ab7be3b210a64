"""`allmlp evaluate`."""

import argparse
import json
from typing import Any

import numpy as np
import torch

from allmlp.backends import Predictor, load_features, load_predictor, task_of
from allmlp.commands import benchmarks, evaluation_text
from allmlp.commands.pixels import pixel_result
from allmlp.commands.source import open_source, source_of, split_of_run
from allmlp.data.dataset import Data, ImageDataset
from allmlp.data.permute import Permuted, draw_permutation
from allmlp.errors import BadData, BadSetting
from allmlp.evaluate.among import Among
from allmlp.evaluate.any_size import AnySize, predict_any_size
from allmlp.evaluate.avg5 import avg5_percent, name_in_avg5
from allmlp.evaluate.dataset import Evaluation, evaluate_dataset, measure
from allmlp.evaluate.fewshot import SEEDS, FewShot, evaluate_few_shot
from allmlp.evaluate.knn import knn_predictor
from allmlp.evaluate.linear import linear_probe
from allmlp.evaluate.names import align_labels
from allmlp.evaluate.real import RealMetrics, read_real_labels, real_metrics, sets_of
from allmlp.evaluate.scores import mean
from allmlp.evaluate.temperature import Temperature, images_to_fit, temperature_of
from allmlp.evaluate.tta import Averaged


def run(options: argparse.Namespace) -> int:
    check(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    if benchmarks.several(options):
        return benchmarks.run(options)
    pairs = [(options.model, options.data), *options.pairs]
    found: list[dict[str, Any]] = []
    for model, data in pairs:
        of_pair = argparse.Namespace(**{**vars(options), "model": model, "data": data})
        result, lines = measured(of_pair)
        found.append(result)
        if not options.json:
            print(*([f"{model} on {data}:"] if options.pairs else []), *lines, sep="\n")
    if not options.pairs:
        if options.json:
            print(json.dumps(found[0]))
        return 0
    means = means_of(found)
    if options.json:
        print(json.dumps({"evaluations": found, **means}))
    else:
        print(evaluation_text.means(len(found), means))
    return 0


def measured(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The result as plain values, and the lines for a terminal."""
    if options.few_shot or options.knn or options.linear_probe:
        return few_shot(options) if options.few_shot else accuracy(options)
    predictor = load_predictor(options.model, options.device, options.image_size, options.threads,
                               options.task)
    if task_of(predictor) == "segmentation":
        return pixel_result(options, predictor, *opened(options))
    if options.other_sizes:
        raise BadSetting("--other-sizes is for segmentation, and this network is for classification; leave it out")
    return accuracy(options, predictor)


def check(options: argparse.Namespace) -> None:
    """Raises `BadSetting` for options that do not go together."""
    if options.permute_seed is not None and not options.permute:
        raise BadSetting("--permute-seed says which permutation --permute draws; give --permute too")
    if options.permute and options.temperature:
        raise BadSetting("--temperature is fitted on images as they are, --permute shuffles them; give one of the two")
    given = {"--tta": options.tta, "--temperature": options.temperature, "--per-class": options.per_class,
             "--real-labels": options.real_labels, "--and": options.pairs, "--permute": options.permute}
    if options.any_size and (other := next((flag for flag, value in {
            "--image-size": options.image_size, "--knn": options.knn, "--linear-probe": options.linear_probe,
            "--few-shot": options.few_shot, "--tta": options.tta, "--permute": options.permute,
            "--temperature": options.temperature, "--workers": options.workers}.items() if value), None)):
        raise BadSetting(f"--any-size shows each image whole, at a size of its own, to the network's head; leave out "
                         f"{other}")
    frozen = {"--few-shot": options.few_shot, "--knn": options.knn, "--linear-probe": options.linear_probe}
    if how := next((flag for flag, value in frozen.items() if value), None):
        of_pixels = {"--other-sizes": options.other_sizes, "--task segmentation": options.task == "segmentation"}
        if idle := [flag for flag, value in of_pixels.items() if value]:
            raise BadSetting(f"{how} names a class for a whole image, and {idle[0]} is about segmentation; give one "
                             "of the two")
    if options.few_shot:
        if idle := [flag for flag, value in given.items() if value]:
            raise BadSetting(f"--few-shot gives an accuracy for each draw, and no predictions; leave out {idle[0]}")
        return
    given = {"--few-shot-seeds": options.few_shot_seeds, "--l2": options.l2}
    if idle := [flag for flag, value in given.items() if value]:
        raise BadSetting(f"{idle[0]} says how few-shot accuracy is measured; give --few-shot too, such as --few-shot 5")


def opened(options: argparse.Namespace) -> tuple[Data, str]:
    """The data, and the split to measure on. Raises `BadData` where it is not there."""
    data = open_source(options, source_of(options), split_of_run(options.model, options))
    split = options.split or next(name for name in ("test", "val", "train") if name in data.splits)
    if split not in data.splits:
        raise BadData(f"{data.name} has no {split} split; it has {', '.join(data.splits)}")
    if options.knn or options.linear_probe or options.few_shot:
        if "train" not in data.splits:
            raise BadSetting(f"{data.name} has no train split, and {classifier(options)} must be fitted on one")
        if split == "train":
            raise BadSetting(f"{classifier(options)} must be fitted on the training images and cannot be measured on "
                             f"them; {data.name} needs a test or val split")
    return data, split


def few_shot(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The result as plain values, and the lines for a terminal."""
    features = load_features(options.model, options.device, options.image_size)
    data, split = opened(options)
    chosen = options.l2 == "grid"
    found: list[FewShot] = evaluate_few_shot(
        features, data.splits["train"], data.splits[split], options.few_shot, workers=options.workers,
        seeds=options.few_shot_seeds or SEEDS, **({"l2": None if chosen else options.l2} if options.l2 else {}))
    result = {"model": options.model, "data": options.data, "split": split, "notes": list(data.notes),
              "classifier": classifier(options), "count": len(data.splits[split]),
              "l2_chosen_on": "training images" if chosen else None,
              "few_shot": [each.model_dump(mode="json") for each in found]}
    return result, evaluation_text.few_shot(found, result)


def accuracy(options: argparse.Namespace, loaded: Predictor | None = None) -> tuple[dict[str, Any], list[str]]:
    """The same for what names classes: the network, or a classifier on its features."""
    frozen = bool(options.knn or options.linear_probe)
    predictor = loaded_network = loaded or (
        load_features(options.model, options.device, options.image_size) if frozen else
        load_predictor(options.model, options.device, options.image_size, options.threads))
    data, split = opened(options)
    if data.task == "segmentation":
        raise BadSetting(f"{options.model}: a network for classification, and {data.name} has masks, which are for "
                         "segmentation; train one on this data")
    images = data.splits[split]
    to_fit = images_to_fit(data, split) if options.temperature else None
    classes = data.classes if frozen else predictor.classes
    sets = sets_of(images, classes, read_real_labels(options.real_labels)) if options.real_labels else None
    predictor = classifying(predictor, data, options)
    if options.permute:
        images = shuffled(images, predictor, loaded_network, options.permute, options.permute_seed or 0)
    if options.any_size:
        align_labels(images.classes, predictor.classes, images.labels)  # refuses at once what cannot be measured
        found = measure(predict_any_size(AnySize(predictor, options.any_size), images), predictor, images)
    else:
        found = evaluate_dataset(predictor, images, workers=options.workers)
    real_found = None if sets is None else real_metrics(found.logits, sets)
    temperature = None if to_fit is None else fit(to_fit, predictor, found, split, options.workers)
    result = {"model": options.model, "data": options.data, "split": split, "notes": list(data.notes),
              "classifier": classifier(options), "tta": options.tta, "permute": options.permute,
              "any_size": options.any_size, "alignment": found.note,
              **found.metrics.model_dump(mode="json"), **optional("real", real_found),
              **optional("temperature", temperature)}
    notes = [*data.notes, *([f"by {classifier(options)}, not by the network's head"] if frozen else []),
             *([f"images of all sizes, not cut: {options.any_size}"] if options.any_size else []),
             *([f"logits averaged over views: {options.tta}"] if options.tta else []),
             *([f"images shuffled for the test only: {options.permute}"] if options.permute else [])]
    lines = evaluation_text.lines(found, split, notes, options.per_class)
    return result, [*lines, *evaluation_text.real(real_found), *evaluation_text.temperature(temperature)]


def shuffled(images: ImageDataset, predictor: Predictor, network: Predictor, kind: str, seed: int) -> Permuted:
    """The images at the predictor's size, shuffled. Raises `BadSetting` where patches are to be shuffled and the
    network, as it was exported, does not say what its patches are."""
    size = predictor.preprocess.image_size
    patch = getattr(getattr(getattr(network, "model", None), "config", None), "patch_size", None)
    if patch is None and kind != "global":
        raise BadSetting(f"--permute {kind}: an exported network does not say what its patches are; give its "
                         "checkpoint")
    return Permuted(images, draw_permutation(kind, size, patch or size, seed), predictor.preprocess)


def optional(name: str, value: RealMetrics | Temperature | None) -> dict[str, Any]:
    return {} if value is None else {name: value.model_dump(mode="json")}


def fit(to_fit: ImageDataset | np.ndarray, predictor: Predictor, found: Evaluation, split: str,
        workers: int) -> Temperature:
    """The temperature: of a half of what was measured, for the other half; or of other images, for all of them."""
    if isinstance(to_fit, np.ndarray):
        half, rest = ((found.logits[chosen], found.labels[chosen]) for chosen in (to_fit, ~to_fit))
        return temperature_of(f"half of the {split} images, drawn by name", half, rest, predictor.output)
    other = evaluate_dataset(predictor, to_fit, workers=workers)
    return temperature_of("the val images", (other.logits, other.labels), (found.logits, found.labels),
                          predictor.output)


def classifying(loaded: Predictor, data: Data, options: argparse.Namespace) -> Predictor:
    """The predictor that the options ask for, of a network or of the features that it gives without its head."""
    predictor = loaded
    if options.knn:
        predictor = knn_predictor(loaded, data.splits["train"], options.knn, workers=options.workers)
    elif options.linear_probe:
        predictor = linear_probe(loaded, data.splits["train"], workers=options.workers)
    elif data.closed:
        predictor = Among(loaded, data.classes)
    return Averaged(predictor, options.tta) if options.tta else predictor


def classifier(options: argparse.Namespace) -> str:
    """What names the classes, in words."""
    if options.few_shot:
        return "least squares on the features of a few training images"
    if options.knn:
        return f"the {options.knn} nearest neighbours among the training images' features"
    return "a linear probe on the training images' features" if options.linear_probe else "the network"


def means_of(found: list[dict[str, Any]]) -> dict[str, float | None]:
    """The mean top-1 of several networks, each on its data; and Avg-5 where they are its five."""
    top1 = [result.get("top1_percent") for result in found]
    by_name = {name: value for result, value in zip(found, top1, strict=True)
               if value is not None and (name := name_in_avg5(result["data"]))}
    five = avg5_percent(by_name) if len(by_name) == len(found) else None
    return {"mean_top1_percent": None if None in top1 else mean(top1), "avg5_percent": five}
