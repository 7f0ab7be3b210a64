"""`allmlp predict`."""

import argparse
import csv
import glob
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from allmlp.backends import Predictor, load_predictor, task_of
from allmlp.commands.outputs import STDOUT, check_csv
from allmlp.commands.pixels import TOP, predict_pixels
from allmlp.data.image import IMAGE_EXTENSIONS, open_image
from allmlp.errors import BadData, BadSetting, printable
from allmlp.evaluate.any_size import AnySize
from allmlp.evaluate.probabilities import check_logits
from allmlp.evaluate.top_classes import to_probabilities, top_classes
from allmlp.files import write_text_atomically
from allmlp.preprocess import fit

BATCH, WHOLE = 64, 8  # files read at a time; as few as that where photographs are kept as large as they are
ANY_LENGTH = 10**9


def run(options: argparse.Namespace) -> int:
    check_csv(options.csv, "file,class_1,probability_1", options.json)
    if options.threads:
        torch.set_num_threads(options.threads)
    files = find_images(options.images)
    if options.any_size and options.image_size:
        raise BadSetting("--any-size lets each image have a size of its own, --image-size gives all one; leave one out")
    predictor = load_predictor(options.model, options.device, options.image_size, options.threads,
                               options.task)
    if task_of(predictor) == "segmentation":
        return predict_pixels(options, predictor, files)
    if options.output or options.other_sizes:
        flag = "--output" if options.output else "--other-sizes"
        raise BadSetting(f"{flag} is for segmentation, and {options.model} is for classification; leave it out")
    if options.any_size:
        predictor = AnySize(predictor, options.any_size)
    rows, bad = [], []
    for row in predictions(predictor, files, options.top or TOP):
        if isinstance(row, BadData):
            if not options.skip_bad:
                raise row
            bad.append(str(row))
        else:
            rows.append(row)
    for line in bad:
        print(f"skipped: {line}", file=sys.stderr)
    if options.csv:
        text = as_csv(rows)
        if options.csv == STDOUT:
            sys.stdout.write(text)
        else:
            write_text_atomically(options.csv, text)
    if options.json:
        print(json.dumps({"predictions": rows, "skipped": bad}))
    elif not options.csv:
        width = max((len(printable(row["file"])) for row in rows), default=0)
        for row in rows:
            named = "  ".join(f"{printable(entry['class'])} {100 * entry['probability']:.1f} %" for entry in row["top"])
            print(f"{printable(row['file']):{width}}  {named}")
    return 0 if rows else 1


def find_images(patterns: Sequence[str]) -> list[Path]:
    """Files as they are, folders with all image files below them, globs expanded; sorted within each.

    Raises `BadData` for a pattern that leads to no image.
    """
    files: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if os.path.isdir(path):  # unlike Path's, False for a name too long, or where one may not look
            found = sorted(file for file in path.rglob("*")
                           if file.suffix.lower() in IMAGE_EXTENSIONS and os.path.isfile(file)
                           and not any(part.startswith(".") for part in file.relative_to(path).parts))
        elif os.path.exists(path):
            found = [path]
        else:
            found = sorted(Path(name) for name in glob.glob(pattern, recursive=True) if os.path.isfile(name))
        if not found:
            what = "no such file, folder or match"
            if os.path.isdir(path):
                what = "no images in this folder" if os.access(path, os.R_OK | os.X_OK) else "cannot be read"
            raise BadData(f"{pattern}: {what}; give image files, folders or globs")
        files += found
    return files


def predictions(predictor: Predictor | AnySize, files: Sequence[Path], top: int) -> Iterator[dict | BadData]:
    """For each file its `top` classes with probabilities, or the reason why it cannot be read, in order.

    Raises `BadData` for logits that are not finite.
    """
    batch = WHOLE if isinstance(predictor, AnySize) and predictor.sizes == "native" else BATCH
    for start in range(0, len(files), batch):
        results: list[np.ndarray | BadData] = []
        for file in files[start : start + batch]:
            try:
                image = open_image(file)
                results.append(predictor.fit(image) if isinstance(predictor, AnySize) else fit(
                    image, predictor.preprocess))
            except BadData as error:
                results.append(error)
        good = [image for image in results if isinstance(image, np.ndarray)]
        logits = np.empty((0, 1), np.float32)
        if good:
            logits = predictor(good) if isinstance(predictor, AnySize) else predictor(np.stack(good))
        check_logits(logits, len(good), logits.shape[1])
        probabilities = iter(to_probabilities(logits, predictor.output))
        for file, result in zip(files[start : start + batch], results, strict=True):
            yield result if isinstance(result, BadData) else describe(file, next(probabilities), predictor.classes, top)


def describe(file: Path, probabilities: np.ndarray, classes: Sequence[str] | None, top: int) -> dict:
    """One prediction as plain values."""
    named = top_classes(probabilities, classes, top)
    return {"file": str(file), "class": named[0]["class"], "probability": named[0]["probability"], "top": named}


def as_csv(rows: Sequence[dict]) -> str:
    """Columns: file, then class_1, probability_1, class_2, …; class names as a terminal can bear them, and in names of
    files \\xE9 for each byte that is no UTF-8, which the table is."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ranks = range(max((len(row["top"]) for row in rows), default=1))
    writer.writerow(["file", *(name for rank in ranks for name in (f"class_{rank + 1}", f"probability_{rank + 1}"))])
    for row in rows:
        named = [(printable(entry["class"], ANY_LENGTH), f"{entry['probability']:.6f}") for entry in row["top"]]
        file = os.fsencode(row["file"]).decode("utf-8", "backslashreplace")
        writer.writerow([file, *(value for pair in named for value in pair)])
    return text.getvalue()
