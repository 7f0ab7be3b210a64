"""What `allmlp evaluate` and `allmlp predict` do with a network for segmentation."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from allmlp.backends import Predictor
from allmlp.data.dataset import Data
from allmlp.data.image import open_image
from allmlp.data.palette import overlay, palette
from allmlp.errors import BadData, BadSetting, CannotWrite, printable
from allmlp.evaluate.pixels import as_pixel_predictor, logits_of
from allmlp.evaluate.segmentation import evaluate_segmentation
from allmlp.files import write_atomically

CLASSIFYING = ("permute", "tta", "temperature", "real_labels", "pairs", "any_size", "workers")
TOP = 3  # classes to show of an image, where no other number is asked for
ENDS = (".png", "-overlay.png")  # of what is written for an image: its mask, and that over it


def pixel_result(options: argparse.Namespace, predictor: Predictor, data: Data, split: str
                 ) -> tuple[dict[str, Any], list[str]]:
    """The result as plain values, and the lines for a terminal. Raises `BadSetting` for what is for images only."""
    refuse_classifying(options)
    if data.task != "segmentation":
        raise BadSetting(f"{options.model}: a network for segmentation, and {data.name} has no masks to compare with")
    pixels = as_pixel_predictor(predictor, options.model)
    found = evaluate_segmentation(pixels, data.splits[split], other_sizes=options.other_sizes)
    metrics = found.metrics
    result = {"model": options.model, "data": options.data, "split": split, "task": "segmentation",
              "notes": list(data.notes), "alignment": found.note,
              "other_sizes": options.other_sizes or pixels.other_sizes, **metrics.model_dump(mode="json")}
    lines = [*data.notes, *([found.note] if found.note else []),
             f"{split} mIoU {_rate(metrics.mean_iou_percent)} on {metrics.count:,} images, pixel accuracy "
             f"{_rate(metrics.pixel_accuracy_percent)}, boundary IoU {_rate(metrics.boundary_iou_percent)}"]
    if options.per_class:
        width = max(len(printable(row.name)) for row in metrics.classes)
        lines.append(f"{'class':{width}}      IoU  boundary       pixels")
        lines += [f"{printable(row.name):{width}}  {_rate(row.iou_percent):>8}{_rate(row.boundary_iou_percent):>9}"
                  f"{row.pixels:>13,}" for row in metrics.classes]
    return result, lines


def refuse_classifying(options: argparse.Namespace) -> None:
    """Raises `BadSetting` for an option that is for a class of whole images."""
    for name in CLASSIFYING:
        if getattr(options, name, None):
            flag = "and" if name == "pairs" else name.replace("_", "-")
            raise BadSetting(f"--{flag} is for classification, and {options.model} is for segmentation; leave it out")


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} %"


def predict_pixels(options: argparse.Namespace, predictor: Predictor, files: Sequence[Path]) -> int:
    """Write NAME.png, the classes as a palette image of the image's size, and NAME-overlay.png for each image.

    Raises `BadData` for logits that are not finite, and what reading and writing do."""
    refuse_classifying(options)
    if options.csv:
        raise BadSetting("--csv is for classification; a network for segmentation writes masks into --output")
    if options.top and options.json:
        raise BadSetting("--top is for lines on a terminal; of a mask --json gives the shares of all its classes, so "
                         "leave it out")
    pixels = as_pixel_predictor(predictor, options.model)
    output = Path(options.output or "predicted")
    names = _names(files)
    given = {file.resolve() for file in files}
    for name in names:
        if lost := given & {(output / f"{name}{end}").resolve() for end in ENDS}:
            raise BadSetting(f"--output {output}: would write over {min(lost)}, one of the images; give another folder")
        there = [path for end in ENDS if os.path.exists(path := output / f"{name}{end}")]
        if len(there) == 1:
            raise BadSetting(f"--output {output}: would write over {there[0]}, which is no earlier answer (those are "
                             f"two files, {name}{ENDS[0]} and {name}{ENDS[1]}); give another folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"--output {output}: no folder can be made here: {error.strerror}") from None
    rows, bad = [], []
    for file, name in zip(files, names, strict=True):
        try:
            image = open_image(file)
        except BadData as error:
            if not options.skip_bad:
                raise
            bad.append(str(error))
            print(f"skipped: {error}", file=sys.stderr)
            continue
        logits = logits_of(pixels, image, options.other_sizes)
        if not np.isfinite(logits).all():
            raise BadData(f"{file}: what the network says of it is not finite (NaN or infinite): the weights are "
                          "damaged or training diverged; take an earlier checkpoint")
        labels = logits.argmax(0).astype(np.uint8)
        mask, shown = (output / f"{name}{end}" for end in ENDS)
        _save(mask, labels, with_palette=True)
        _save(shown, overlay(image, labels), with_palette=False)
        shares = np.bincount(labels.ravel(), minlength=1) / labels.size
        named = {(predictor.classes[k] if predictor.classes else str(k)): float(shares[k])
                 for k in np.argsort(-shares, kind="stable") if shares[k]}
        rows.append({"file": str(file), "mask": str(mask), "overlay": str(shown), "shares": named})
    if options.json:
        print(json.dumps({"predictions": rows, "skipped": bad}))
    else:
        for row in rows:
            said = "  ".join(f"{printable(name)} {100 * share:.1f} %" for name, share in
                             list(row["shares"].items())[: options.top or TOP])
            print(f"{printable(row['mask'])}  {said}")
    return 0 if rows else 1


def _names(files: Sequence[Path]) -> list[str]:
    """A name for each file, by its own where no other has it, else with a number."""
    names, taken = [], set[str]()
    for file in files:
        name, number = file.stem, 1
        while name in taken or f"{name}-overlay" in taken:
            number += 1
            name = f"{file.stem}-{number}"
        taken |= {name, f"{name}-overlay"}
        names.append(name)
    return names


def _save(path: Path, pixels: np.ndarray, with_palette: bool) -> None:
    from PIL import Image

    picture = Image.fromarray(pixels)
    if with_palette:
        picture.putpalette(palette().tobytes())
    write_atomically(path, lambda temporary: picture.save(temporary, "PNG"))
