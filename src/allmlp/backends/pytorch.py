"""The PyTorch backend: a model as a predictor."""

import os

import torch

from allmlp import checkpoint
from allmlp.backends.network import MAX_BATCH, NetworkPredictor
from allmlp.errors import BadSetting
from allmlp.models.model import Model
from allmlp.preprocess import OtherSizes


class PyTorchPredictor(NetworkPredictor):
    """One of our models, which says itself how it wants its images and what its logits mean."""

    def __init__(self, model: Model, max_batch: int = MAX_BATCH):
        super().__init__(model, model.preprocess, model.classes, model.output, max_batch=max_batch)
        self.model = model
        self.task = model.config.task
        if model.config.segment is not None:
            self.other_sizes: OtherSizes = model.config.segment.other_sizes


def load(
    path: str | os.PathLike, device: str = "auto", image_size: tuple[int, int] | None = None
) -> PyTorchPredictor:
    """A predictor from whatever `checkpoint.load` takes, for images of `image_size` if given."""
    model = checkpoint.load_at(path, image_size)
    if not model.num_classes:
        raise BadSetting(f"{path}: a network without classes (self-supervised, or without its head); measure it with "
                         "`allmlp evaluate --knn 20` or `--linear-probe`, or give it classes by `allmlp train --init`")
    return PyTorchPredictor(model.to(choose_device(device)))


def load_without_head(
    path: str | os.PathLike, device: str = "auto", image_size: tuple[int, int] | None = None
) -> PyTorchPredictor:
    """The same, of pooled features in place of logits."""
    model = checkpoint.load_at(path, image_size)
    model.reset_classifier(0, "avg")
    return PyTorchPredictor(model.to(choose_device(device)))


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes CUDA, else Apple's MPS, else the CPU. Raises `BadSetting`."""
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if name == "auto":
        return torch.device(available[0])
    if name.split(":")[0] not in available:
        raise BadSetting(f"device {name!r} is not available here; accepted: auto, {', '.join(available)}")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadSetting(f"device {name!r} is not a device; accepted: auto, {', '.join(available)}") from None
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        accepted = ", ".join(f"cuda:{index}" for index in range(count))
        raise BadSetting(f"device {name!r} is not available here; accepted: auto, {accepted}, cpu")
    return device
