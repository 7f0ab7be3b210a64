"""`allmlp export`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allmlp import checkpoint
from allmlp.backends import find_backend, native
from allmlp.backends.auto import export_auto
from allmlp.backends.export import Exported, Wish, check_place, export
from allmlp.backends.graph import check_exportable
from allmlp.backends.manifest import Verification, digest
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.backends.verify import Evidence
from allmlp.commands.bench_source import size_of_logits
from allmlp.commands.memory import check_images
from allmlp.commands.sigterm import cleanly_ended
from allmlp.commands.source import (
    as_learnt,
    division_of_run,
    open_source,
    refuse_idle,
    run_data,
    run_folder_of,
    source_of,
)
from allmlp.data import open_data
from allmlp.data.dataset import Data, ImageDataset, soft
from allmlp.errors import AllMLPError, BadData, BadSetting
from allmlp.evaluate.dataset import check_number
from allmlp.evaluate.names import align_labels
from allmlp.models.model import Model
from allmlp.preprocess import Preprocess, fit
from allmlp.quantize.calibrate import images_at_once
from allmlp.quantize.choices import BEST, Choices

IMAGES = 64  # to compare on, where no accuracy is asked for
CALIBRATION = 64  # that int8 has its ranges from


@cleanly_ended()
def run(options: argparse.Namespace) -> int:
    if options.threads:
        torch.set_num_threads(options.threads)
    refuse_idle(options)
    page = options.to == "browser"  # which runs the network by ONNX
    if options.runtime and not page:
        raise BadSetting(f"--runtime {options.runtime}: is of --to browser only; leave it out")
    if page:
        from allmlp.web.runtime import runtime_files

        runtime_files(options.runtime)  # what is missing is told before anything is done
    choices = None
    if any(each is not None for each in (options.calibration, options.migrate, options.activations)):
        choices = Choices(options.calibration or BEST.calibration,
                          BEST.migrate if options.migrate is None else options.migrate,
                          activations=options.activations or BEST.activations)
    auto, backend = options.precision == "auto", "onnx" if page else options.to
    if auto and options.max_drop is None:
        raise BadSetting("precision 'auto' takes the fastest within an accuracy budget; give --max-drop POINTS")
    int8 = options.precision == "int8" or (auto and "int8" in find_backend(backend).limits)
    if options.calibration_images and not int8:
        raise BadSetting("--calibration-images: int8 alone is calibrated; leave it out or give --precision int8")
    calibrated = options.calibration_images or CALIBRATION
    wish = Wish(backend, "int8" if auto and int8 else "fp32" if auto else options.precision, options.quantiser,
                options.max_drop, options.threads, choices, options.sensitivity, tuple(options.float_layers or ()))
    wish.checked()
    output = options.output or default_folder(options)
    check_place(Path(output), options.overwrite)
    model = checkpoint.load_at(options.model, options.image_size)
    check_exportable(model, options.to, options.precision)  # before any image is read
    if backend == "native":
        native.check_network(model)
    data, own = find_data(options)
    if not own and (int8 or options.max_drop is not None):
        raise BadSetting("int8 finds its ranges on images that the network was trained on, and a drop of accuracy is "
                         "measured on others like them; give --data")
    if not own and (run := run_folder_of(options.model)):
        print(f"{run}: its run.json or its data cannot be opened; verified on digits, unless you give --data",
              file=sys.stderr)
    if options.max_drop is not None:
        check_one_label(data)
    calibration = None
    if int8:
        calibration = pictures(data.splits["train"], model.preprocess, calibrated)
        if len(calibration) < (options.calibration_images or 0):
            print(f"int8 has its ranges from all {len(calibration):,} training images, not from "
                  f"{options.calibration_images:,}", file=sys.stderr)
    count = options.images or (None if options.max_drop is not None else IMAGES)
    seen = evidence(model, data, own, count, calibrated if int8 else 0, needs_labels=options.max_drop is not None)
    origin = origin_of(options.model)

    def add_page(folder: Path) -> None:
        from allmlp.web.page import complete

        # Of other data than the embedded digits it is not known whether everybody may see them.
        examples = data.splits["test"] if own and data.name == "digits" else None
        complete(folder, model, name_of(options.model), origin.get("sha256"), examples, options.runtime)

    done = (export_auto if auto else export)(model, output, wish, seen, calibration, origin,
                                             options.overwrite, add_page if page else None,
                                             division_of_run(options.model))
    for note in (*(data.notes if own else ()), *done.notes):
        print(note, file=sys.stderr)
    if options.json:
        print(json.dumps({"folder": done.folder and str(done.folder), **done.manifest.model_dump(mode="json")}))
    else:
        print("\n".join(lines(done)))
    found = done.manifest.verification
    assert found is not None
    if options.max_drop and found.images * options.max_drop < 100:
        print(f"--max-drop {options.max_drop:g}: each of the {found.images:,} images is {100 / found.images:.3g} "
              "points, so that none may be lost; compare on more", file=sys.stderr)
    if found.remark:
        print(found.remark, file=sys.stderr)
    for failure in found.failures:
        print(f"allmlp: not exported: {failure}", file=sys.stderr)
    return 0 if done.folder else 1


def find_data(options: argparse.Namespace) -> tuple[Data, bool]:
    """The data that was asked for, divided as the run did that learnt from it, else that of the run, else the digits;
    and whether it is the network's own."""
    if options.data:
        return as_learnt(options.model, open_source(options, source_of(options)), options), True
    if data := run_data(options.model):
        return data, True
    return open_data("digits"), False


def check_one_label(data: Data) -> None:
    """Raises `BadSetting` for images of which `--max-drop` cannot be measured."""
    what = "a mask" if data.task == "segmentation" else "several labels" if data.multi_label else None
    if what is not None:
        raise BadSetting(f"--max-drop: is about top-1 accuracy, and each image of {data.name} has {what}; leave it "
                         "out, with --precision fp32, bf16 or int8: logits are compared all the same")


def evidence(model: Model, data: Data, own: bool, count: int | None, calibration: int, needs_labels: bool) -> Evidence:
    """What the export is compared on: `count` images (None: all) of the split that nothing was learnt from, if there is
    one; else of the others than the `calibration` images that int8 has its ranges from (0: it is not for int8)."""
    split = next(name for name in ("test", "val", "train") if name in data.splits)
    dataset = data.splits[split]
    free = np.arange(len(dataset))
    if split == "train" and calibration:
        free = np.setdiff1d(free, spread(len(dataset), calibration))
    if not len(dataset):
        raise BadData(f"{data.name}: no image in its {split} split to compare on")
    if not len(free):
        raise BadData(f"{data.name}: int8 has its ranges from all {len(dataset)} training images, and there are no "
                      "others to compare on; give fewer --calibration-images, or data with a test split")
    chosen = free[spread(len(free), count)]
    check_images(len(chosen), model.preprocess.image_size, size_of_logits(model))
    images = np.empty((len(chosen), *model.preprocess.image_size, 3), np.uint8)
    for number, index in enumerate(chosen):
        images[number] = fit(dataset.image(int(index)), model.preprocess)
    predictor = PyTorchPredictor(model, max_batch=images_at_once(model.config, IMAGES))
    labels = None
    if own and data.task == "classification":
        try:
            check_number(model.num_classes, predictor, dataset)
            aligned, _ = align_labels(dataset.classes, model.classes, dataset.labels)
            if soft(aligned):
                aligned = aligned.argmax(1)  # as `allmlp evaluate` has it
            labels = aligned[chosen] if aligned.ndim == 1 else None
        except BadData:  # images of other classes do to compare logits
            if needs_labels:
                raise
    return Evidence(images, labels, f"{data.name}, {split}", predictor(images), predictor)


def spread(length: int, count: int | None) -> np.ndarray:
    """`count` numbers below `length`, evenly over them; all for None."""
    return np.linspace(0, length - 1, min(count or length, length)).round().astype(np.int64)


def pictures(dataset: ImageDataset, preprocess: Preprocess, count: int) -> np.ndarray:
    """`count` images, evenly over the data set, brought to the network's size."""
    return np.stack([fit(dataset.image(int(index)), preprocess) for index in spread(len(dataset), count)])


def default_folder(options: argparse.Namespace) -> str:
    """exports/NAME-BACKEND-PRECISION, NAME that of the run, the file or the weights, and the image size if it is asked
    for."""
    size = "-{}x{}".format(*options.image_size) if options.image_size else ""
    return str(Path("exports", f"{name_of(options.model)}{size}-{options.to}-{options.precision}"))


def name_of(model: str) -> str:
    path = Path(model)
    name = path.resolve().name if path.is_dir() else path.stem if path.suffix == ".safetensors" else path.name
    return name.removeprefix("hf-hub:")


def origin_of(model: str) -> dict[str, Any]:
    """What an export says about where its weights are from: the name, the file's digest, and what the file says."""
    if checkpoint.is_published(model) or model.startswith("hf-hub:"):
        return {"model": model}
    path = checkpoint.find_checkpoint(model)
    try:
        said = checkpoint.provenance(path)
    except AllMLPError:  # a file of others says nothing
        said = {}
    return {"model": Path(model).name, "sha256": digest(path.resolve()).sha256, "provenance": said}


def lines(done: Exported) -> list[str]:
    """The result for a terminal."""
    manifest = done.manifest
    found = manifest.verification
    assert found is not None
    kind = f"{manifest.backend} {manifest.precision}" + (f" ({manifest.quantiser})" if manifest.quantiser else "")
    text = list(manifest.chosen)
    if manifest.sensitivity:
        text.append("layer                 error of logits   same class     (that layer alone in int8)")
        text += [f"{cost.layer:<20} {100 * cost.rms_error:>14.3f} % {cost.top1_agreement_percent:>10.2f} %"
                 for cost in sorted(manifest.sensitivity, key=lambda cost: -cost.rms_error)]
    text += [f"{count} layer{'s' * (count != 1)} in float: {'; '.join(failures)}" for count, failures in done.tried]
    for precision in ("bf16", "fp32"):
        if left := [layer for layer, its in manifest.float_layers.items() if its == precision]:
            text.append(f"left in {precision}: {', '.join(left)}")
    text += [f"{kind}: {compared(found)}", timed(found)]
    if done.folder:
        size = sum(file.bytes for file in manifest.files.values())
        text.append(f"wrote {done.folder} ({size / 1e6:.1f} MB)")
    return text


def compared(found: Verification) -> str:
    text = (f"on {found.images:,} image{'s' * (found.images != 1)} ({found.source}) "
            f"logits differ by {found.max_difference:.2g} at most, "
            f"{100 * found.rms_error:.2g} % of their deviation (limit {100 * found.limit:g} %); "
            f"same class on {found.top1_agreement_percent:.2f} %")
    if found.accuracy_drop is not None:
        text += f"; accuracy {found.accuracy_percent:.2f} %, {0.0 - found.accuracy_drop:+.2f} points"
    return text


def timed(found: Verification) -> str:
    beside = [f"PyTorch fp32 {found.pytorch_latency_ms:.2f} ms"]
    if found.fp32_latency_ms is not None:
        beside.append(f"the same in fp32 {found.fp32_latency_ms:.2f} ms")
    torch_ = ", needs no PyTorch" if found.without_torch else ""
    return (f"{found.latency_ms:.2f} ms per image, {', '.join(beside)} (median of {found.rounds}, in turn); "
            f"ready after {found.load_seconds:.1f} s{torch_}")
