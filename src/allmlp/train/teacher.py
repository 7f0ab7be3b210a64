"""The network that a student learns from: any of timm's by name, or one of ours.

It sees the very pixels that the student sees, augmentation included (the "consistent teaching" of Beyer et al., arXiv
2106.05237), and only then its own preprocessing: resized to its size, normalised with its mean and deviation. It stays
in evaluation mode, takes no gradient, and never enters a checkpoint: a resumed run opens it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from allmlp import checkpoint
from allmlp.backends.timm_networks import head_rows, load_weights, preprocess_of, short
from allmlp.errors import BadSetting, CannotDownload, unknown_name
from allmlp.evaluate.names import align_labels
from allmlp.preprocess import Preprocess, normalise
from allmlp.recipe import Distillation
from allmlp.weights.formats import read_tensors
from allmlp.weights.hub import is_hub_name


@dataclass(frozen=True)
class Teacher:
    """Pixels float in [0, 255] `(N, 3, H, W)` of any size to logits float32 `(N, K)`, in the order of the data's K
    classes. `columns`: int64 `(K,)`, where these stand among the classes that `network` knows."""

    network: nn.Module
    preprocess: Preprocess
    columns: torch.Tensor

    @torch.no_grad()
    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        pixels = resized(pixels, self.preprocess.image_size, self.preprocess.interpolation)
        return self.network(normalise(pixels, self.preprocess)).float()[:, self.columns]


def resized(pixels: torch.Tensor, size: tuple[int, int], interpolation: str = "bicubic") -> torch.Tensor:
    """Float pixels in [0, 255] `(N, 3, H, W)` at `size` (height, width), antialiased, as PIL resizes images."""
    if pixels.shape[-2:] == size:
        return pixels
    if interpolation == "nearest":
        return F.interpolate(pixels, size, mode="nearest-exact")
    return F.interpolate(pixels, size, mode=interpolation, antialias=True).clamp(0, 255)  # bicubic overshoots


def open_teacher(settings: Distillation, classes: Sequence[str], device: torch.device) -> Teacher:
    """The teacher of a recipe, for data with these `classes`.

    Classes are matched by name where the teacher has names; it may know more of them than the data has. Raises
    `BadSetting` where its classes are not the data's, `UnknownName` for neither a file nor a network of timm,
    `BadCheckpoint` for a file that does not fit, and `CannotDownload`.
    """
    name, size = settings.teacher, settings.teacher_image_size
    if checkpoint.is_published(name) or is_hub_name(name) or Path(name).exists():
        if settings.teacher_weights:
            raise BadSetting(f"distillation.teacher_weights: {name} holds its weights itself; leave it out")
        model = checkpoint.load_at(name, size)
        columns, _ = align_labels(classes, model.classes, np.arange(len(classes)))
        _check_count(name, model.num_classes, len(classes), model.classes is not None)
        return Teacher(_still(model, device), model.preprocess, torch.from_numpy(columns).to(device))
    network, preprocess = _of_timm(settings, len(classes))
    return Teacher(_still(network, device), preprocess, torch.arange(len(classes), device=device))


def _of_timm(settings: Distillation, num_classes: int) -> tuple[nn.Module, Preprocess]:
    """A network of timm with its weights and the preprocessing that timm says these want."""
    import timm

    name, file = settings.teacher, settings.teacher_weights
    if not timm.is_model(name) and ("/" in name or name.endswith((".safetensors", ".pth", ".npz"))):
        raise BadSetting(f"distillation.teacher {name!r}: no such file or run folder; train one first, or give a "
                         "network of timm by name")
    if not timm.is_model(name):
        raise unknown_name("teacher", name, timm.list_models(), "or give a file or run folder of allmlp")
    try:
        if file is None:
            about = timm.get_pretrained_cfg(name)
            _check_count(name, about.num_classes if about else num_classes, num_classes)  # before anything is fetched
            network = timm.create_model(name, pretrained=True)
        else:
            network = timm.create_model(name, num_classes=num_classes)
    except (OSError, RuntimeError, ValueError) as error:  # no network, no such weights; the Hub's errors are OSErrors
        raise CannotDownload(f"teacher {name}: its weights cannot be had ({short(error)}); download them and give the "
                             "file as distillation.teacher_weights") from None
    about = getattr(network, "pretrained_cfg", {})
    if file is not None:
        tensors = read_tensors(file)
        _check_count(f"{file} ({name})", head_rows(tensors, about.get("classifier")) or num_classes, num_classes)
        load_weights(network, tensors, name, file)
    preprocess = preprocess_of(network, f"teacher {name}", settings.teacher_image_size)
    own = about.get("input_size", (3, *preprocess.image_size))[1:]
    if about.get("fixed_input_size") and preprocess.image_size != tuple(own):
        raise BadSetting(f"teacher {name} takes images of {own[0]} x {own[1]} pixels only; leave "
                         "distillation.teacher_image_size out")
    return network, preprocess


def _check_count(teacher: str, knows: int, num_classes: int, more_is_fine: bool = False) -> None:
    if knows < num_classes or (knows != num_classes and not more_is_fine):
        raise BadSetting(f"teacher {teacher} knows {knows:,} classes, and the data has {num_classes:,}; its answers "
                         "cannot be matched with the labels; take a teacher that was trained on these classes")


def _still(network: nn.Module, device: torch.device) -> nn.Module:
    return network.to(device).eval().requires_grad_(False)
