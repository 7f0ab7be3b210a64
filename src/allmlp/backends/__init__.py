"""The one seam for inference: whatever runs a network, what its `load` returns is a *predictor*.

Evaluation, prediction, serving and benchmarking see predictors only, so that every backend is measured by the same
code. A checkpoint runs in PyTorch; `BACKENDS` lists what it can be exported to.
"""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from allmlp.backends import manifest as manifests
from allmlp.errors import BadCheckpoint, BadSetting, printable, unknown_name
from allmlp.files import ENGINE_SUFFIX
from allmlp.preprocess import Preprocess


class Predictor(Protocol):
    """uint8 images of the right size in, float logits out."""

    preprocess: Preprocess  # use `preprocess.fit` to bring an image to the right size
    classes: tuple[str, ...] | None
    output: Literal["softmax", "sigmoid"]  # how logits become probabilities

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 `(N, H, W, 3)` to float32 logits `(N, K)`. N may be anything, 0 too. Raises `BadData`."""
        ...


@dataclass(frozen=True)
class Backend:
    """What a network can be exported to. Its module has

        export(model, path, precision, calibration=images, quantiser=name)    and
        load(path, manifest=manifest, threads=n) -> Predictor

    `path` is `file` in the exported folder; `reads`: the files that the runtime opens there, where that is not `file`
    alone. `limits`: the precisions it has, each with the largest rms error of logits,
    over their standard deviation, that `export` lets pass. `quantisers`: who can choose the scales of int8, the first
    by default; our own can leave layers in float. `packages`: what running it takes; `writing`: what writing it takes
    besides, and `quantising`, in int8.
    """

    module: str
    file: str
    limits: Mapping[str, float]
    quantisers: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writing: tuple[str, ...] = ()
    quantising: tuple[str, ...] = ()

    def load_module(self) -> Any:
        return importlib.import_module(f"allmlp.backends.{self.module}")


# float32: sums of some hundred terms in another order; bf16: 8 bits of mantissa; int8: 8 bits in all.
FP32, BF16, INT8 = {"fp32": 1e-4}, {"bf16": 0.05}, {"int8": 0.25}
XNNPACK = {"fp32": 2e-3}  # approximates GELU
TIMM = {"fp32": 5e-3}  # has one flavour of GELU

BACKENDS: dict[str, Backend] = {
    "native": Backend("native", f"model{ENGINE_SUFFIX}", FP32 | BF16 | INT8, ("ours",), ("allmlp_native",)),
    "onnx": Backend("onnx", "model.onnx", FP32 | INT8, ("ours", "ort"), ("onnxruntime",),
                    writing=("onnx", "onnxscript")),
    "openvino": Backend("openvino", "model.xml", FP32 | BF16 | INT8, ("nncf",), ("openvino",),
                        ("model.xml", "model.bin"), quantising=("nncf",)),
    "executorch": Backend("executorch", "model.pte", XNNPACK | INT8, ("xnnpack",), ("executorch", "torch"),
                          quantising=("torchao",)),
    "pt2": Backend("pt2", "model.pt2", FP32 | BF16, (), ("torch",)),
    "timm": Backend("timm", "timm", TIMM | BF16, (), ("timm", "torch"),
                    ("timm/config.json", "timm/model.safetensors")),
}


def find_backend(name: str) -> Backend:
    """The backend called `name`. Raises `UnknownName`."""
    if name not in BACKENDS:
        raise unknown_name("backend", name, BACKENDS)
    return BACKENDS[name]


def load_predictor(
    path: str | os.PathLike, device: str = "auto", image_size: tuple[int, int] | None = None,
    threads: int | None = None, task: Literal["classification", "segmentation"] | None = "classification",
) -> Predictor:
    """A predictor from whatever `checkpoint.load` takes, brought to `image_size` (height, width) if given.

    `task`: what it must be for (None: anything); raises `BadSetting` for a network of the other one.

    Also from an exported folder, and from a file exported for our engine; those run on the CPU at their own image size.
    `threads`: how many processors an exported network may use; PyTorch's are the process's. Raises what loading and
    resizing do, and `BadSetting` for a device, and for a network without classes.
    """
    from allmlp.backends import native

    if manifests.is_export(path):
        found = load_export(path, device, image_size, threads)
    elif native.is_model_file(path):
        found = native.load_as_asked(path, device, image_size, threads)
    else:
        from allmlp.backends.pytorch import load

        found = load(path, device, image_size)
    its = task_of(found)
    if task is not None and its != task:
        raise BadSetting(f"{os.fspath(path)}: a network for {its}, and here one for {task} is needed; "
                         + ("it works with `allmlp evaluate`, `predict` and `export --to onnx|pt2`"
                            if its == "segmentation" else "leave out --task, or train one with masks"))
    return found


def task_of(predictor: Predictor) -> Literal["classification", "segmentation"]:
    return getattr(predictor, "task", "classification")


def load_export(
    folder: str | os.PathLike, device: str = "auto", image_size: tuple[int, int] | None = None,
    threads: int | None = None,
) -> Predictor:
    """A predictor from an exported folder. Raises `BadCheckpoint` for a damaged one, `BadSetting` for what an exported
    network cannot be asked for, and `MissingPackage`."""
    manifest = manifests.read(folder)
    if manifest.backend not in BACKENDS:
        raise BadCheckpoint(f"{os.fspath(folder)}: exported for {printable(repr(manifest.backend), 60)}; this version "
                            f"of allmlp runs {', '.join(BACKENDS)}; export the network again")
    if device not in ("auto", "cpu"):
        raise BadSetting(f"device {device!r}: {os.fspath(folder)} was exported for {manifest.backend}, which runs on "
                         "the CPU here; accepted: auto, cpu")
    if image_size not in (None, manifest.preprocess.image_size):
        raise BadSetting(f"image_size {image_size}: {os.fspath(folder)} was exported for images of "
                         f"{manifest.preprocess.image_size}; export the network again with --image-size")
    backend = BACKENDS[manifest.backend]
    if manifest.precision not in backend.limits or manifest.quantiser not in (None, *backend.quantisers):
        its = manifest.precision + (f" by {printable(repr(manifest.quantiser), 60)}" if manifest.quantiser else "")
        raise BadCheckpoint(f"{os.fspath(folder)}: exported for {manifest.backend} in {its}, which it does not have; "
                            f"it has {', '.join(backend.limits)}"
                            + (f" (int8 by {', '.join(backend.quantisers)})" if backend.quantisers else "")
                            + "; export the network again")
    manifests.check_files(Path(folder), manifest, backend.reads or (backend.file,))
    return backend.load_module().load(Path(folder) / backend.file, manifest=manifest, threads=threads)


def load_features(
    path: str | os.PathLike, device: str = "auto", image_size: tuple[int, int] | None = None
) -> Predictor:
    """The same without its head: what comes out are the pooled features after the last norm, float32 `(N, C)`.

    For networks without classes too; it has no class names itself.
    """
    from allmlp.backends.pytorch import load_without_head

    return load_without_head(path, device, image_size)
