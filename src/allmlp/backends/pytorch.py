"""The PyTorch backend: a model as a predictor."""

import os

import numpy as np
import torch

from allmlp import checkpoint
from allmlp.errors import BadSetting
from allmlp.models.model import Model, Output
from allmlp.preprocess import Preprocess, to_network_input

MAX_BATCH = 256  # larger requests are computed in parts, to bound memory


class PyTorchPredictor:
    """Runs `model` as it stands, in evaluation mode, on the device where it is."""

    def __init__(self, model: Model, max_batch: int = MAX_BATCH):
        self.model = model
        self.preprocess: Preprocess = model.preprocess
        self.classes = model.classes
        self.output: Output = model.output
        self.max_batch = max_batch

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 `(N, H, W, 3)` to float32 logits `(N, K)`."""
        device = next(self.model.parameters()).device
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                parts = [
                    self.model(to_network_input(images[i : i + self.max_batch], self.preprocess, str(device)))
                    for i in range(0, max(len(images), 1), self.max_batch)
                ]
                return torch.cat(parts).float().cpu().numpy()
        finally:
            self.model.train(was_training)


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
        return torch.device(name)
    except RuntimeError:
        raise BadSetting(f"device {name!r} is not a device; accepted: auto, {', '.join(available)}") from None
