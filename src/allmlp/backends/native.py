"""The engine as a backend: a network becomes one file that runs without PyTorch, and that file a predictor.

The engine is the package `allmlp-native` (folder `native/`), optional; writing files needs it not, running them does.
"""

import importlib
import json
import math
import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import allmlp
from allmlp.backends.manifest import Manifest, Precision, check_classes
from allmlp.errors import BadCheckpoint, BadData, BadSetting, MissingPackage
from allmlp.files import ENGINE_MAGIC as MAGIC
from allmlp.files import begins_with
from allmlp.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allmlp.models.model import Model
    from allmlp.quantize.choices import Choices

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")


def is_model_file(path: str | os.PathLike) -> bool:
    """Whether this is a file that begins as the engine's do."""
    return begins_with(path, MAGIC)


def export(
    model: "Model", path: str | os.PathLike, precision: Precision = "fp32", calibration: np.ndarray | None = None,
    quantiser: str | None = "ours", choices: "Choices | None" = None,
    float_layers: "Mapping[str, Precision] | None" = None,
) -> None:
    """Write `model` as one file for the engine: weights, preprocessing, class names.

    `calibration`: for int8, images of the training set, uint8 `(N, H, W, 3)` of the network's size; 64 are enough.
    `quantiser`: there is one. `choices`: how it finds ranges (None: as it is best). `float_layers`: layers that int8
    leaves in bf16 or fp32, by name as in `quantize.layers`.
    Raises `BadSetting` for a network that the engine can't run, by name, and `CannotWrite`.
    """
    from allmlp.backends.native_file import check_limits, described, write
    from allmlp.quantize.choices import BEST
    from allmlp.quantize.int8 import Int8Block
    from allmlp.quantize.network import quantise
    from allmlp.quantize.parts import take_apart

    if precision not in PRECISIONS:
        raise BadSetting(f"precision {precision!r}; accepted: {', '.join(PRECISIONS)}")
    if precision == "int8":
        if calibration is None:
            raise BadSetting("precision 'int8' needs images of the training set to find its ranges; give calibration=")
        check_choices(choices or BEST)
    about = {
        "allmlp": allmlp.__version__,
        "preprocess": json.loads(model.preprocess.to_json()),
        "classes": None if model.classes is None else list(model.classes),
        "output": model.output,
    }
    check_classes(model.classes)
    described(about)  # like the next, before the work
    parts = take_apart(model)
    check_limits(parts, precision, float_layers)
    int8 = None
    if precision == "int8":
        assert calibration is not None
        int8 = quantise(model, calibration, choices or BEST, frozenset(float_layers or {}))
    if int8 is None:
        write(path, parts, precision, about)
    else:
        blocks = tuple(block for block in int8.blocks if isinstance(block, Int8Block))
        write(path, int8.parts, precision, about, blocks, int8.stem, float_layers)


def check_network(model: "Model") -> None:
    """Raises `BadSetting` for a network that the engine cannot run in any precision, before any work."""
    from allmlp.backends.native_file import check_limits, check_tokens
    from allmlp.quantize.parts import take_apart

    check_tokens(model.config.image_size, math.prod(model.config.grid))
    check_limits(take_apart(model), "fp32")


def check_choices(choices: "Choices") -> None:
    """Raises `BadSetting` for int8 that the engine does not have."""
    if choices.activations == "dynamic":
        raise BadSetting("activations 'dynamic': the engine's int8 has the fixed ranges of calibration; use --to onnx, "
                         "or leave --activations out")


def engine() -> Any:
    """The package `allmlp_native`. Raises `MissingPackage` where it is not installed."""
    try:
        return importlib.import_module("allmlp_native")
    except ImportError as error:
        if error.name != "allmlp_native":
            raise MissingPackage(f"the engine is installed but does not load ({error}); build it again: make native") \
                from None
        raise MissingPackage("the engine is not installed; build it with `make native`, or `pip install ./native` in "
                             "a copy of the source") from None


class NativePredictor:
    """Runs a model file with the engine. `model` is the engine's own object."""

    def __init__(self, model: Any, path: str):
        self.model = model
        try:
            about = model.about
            self.preprocess = Preprocess.from_json(json.dumps(about["preprocess"]))
            classes = about["classes"]
            self.classes: tuple[str, ...] | None = None if classes is None else tuple(classes)
            self.output: Literal["softmax", "sigmoid"] = about["output"]
            good = self.preprocess.image_size == model.image_size and self.output in ("softmax", "sigmoid")
            good &= self.preprocess.model_fields_set == Preprocess.model_fields.keys()  # a default would be a guess
            good &= self.classes is None or (len(self.classes) == model.num_classes
                                             and all(isinstance(name, str) for name in self.classes))
        except engine().BadModel as error:
            raise BadCheckpoint(str(error)) from None
        except (KeyError, TypeError, RecursionError, BadSetting):
            good = False
        if not good:
            raise BadCheckpoint(f"{path}: what the file says about itself doesn't fit the network in it; export the "
                                "network again")

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 `(N, H, W, 3)` to float32 logits `(N, K)`. Raises `BadData`, `BadSetting` for threads not to be had."""
        try:
            return self.model(images)
        except engine().TooManyThreads as error:
            raise BadSetting(str(error)) from None
        except ValueError as error:
            raise BadData(str(error)) from None


def load(path: str | os.PathLike, threads: int | None = None, level: str = "auto",
         manifest: Manifest | None = None) -> NativePredictor:
    """A predictor from a file written by `export`.

    `threads`: how many processors may work, None: all. `level`: the instruction set, for tests and comparisons.
    `manifest`: what the file has to be, where it lies in an exported folder. Raises `MissingPackage` without the
    engine, `BadCheckpoint` for a damaged file, `BadSetting` for the rest.
    """
    package = engine()
    try:
        predictor = NativePredictor(package.Model(path, threads, level), os.fspath(path))
        its = (predictor.preprocess, predictor.classes, predictor.output, predictor.model.num_classes)
        if manifest is not None and ((*its, None) != (manifest.preprocess, manifest.classes, manifest.output,
                                                      manifest.num_classes, manifest.other_sizes)):
            raise BadCheckpoint(f"{path}: not the network that its manifest describes; export the network again")
        return predictor
    except package.BadModel as error:
        raise BadCheckpoint(str(error)) from None
    except ValueError as error:
        raise BadSetting(str(error)) from None
    except MemoryError as error:
        raise BadCheckpoint(str(error)) from None


def load_as_asked(
    path: str | os.PathLike, device: str, image_size: tuple[int, int] | None, threads: int | None = None
) -> NativePredictor:
    """`load`, after a look at what was asked for: the engine has the CPU only, and an exported network one size."""
    if device not in ("auto", "cpu"):
        raise BadSetting(f"device {device!r}: {os.fspath(path)} is a file for our engine, which runs on the CPU; "
                         "accepted: auto, cpu")
    predictor = load(path, threads)
    if image_size not in (None, predictor.preprocess.image_size):
        raise BadSetting(f"image_size {image_size}: {os.fspath(path)} was exported for images of "
                         f"{predictor.preprocess.image_size}; resize the network and export it again")
    return predictor
