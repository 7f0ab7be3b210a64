"""What takes part in a comparison, from how a person writes it:

    runs/photos  best.safetensors  hf-hub:owner/name  exported/    any MODEL, as in every command
    mixer_b16_224.goog_in1k  timm:resnet50.a1_in1k                 published weights, ours and timm's
    mixer_s16_224  timm:resnet50                                   a network with fresh weights; its default published
                                                                   ones with `pretrained`
    timm:resnet50=weights.safetensors                              a network of timm with the weights of a file
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from torch import nn

from allmlp import checkpoint
from allmlp.backends import Predictor, load_predictor
from allmlp.backends.network import NetworkPredictor, pooled
from allmlp.backends.pytorch import PyTorchPredictor, choose_device
from allmlp.backends.timm_networks import open_timm
from allmlp.errors import BadSetting
from allmlp.models.variants import VARIANTS, create_model

TIMM = "timm:"
Weights = Literal["trained", "fresh"]
SEED = 0  # of fresh weights


@dataclass(frozen=True, eq=False)
class Contender:
    """`predict` gives logits, of which nothing can be expected where the weights are "fresh"; `features` what goes into
    the head, None for an exported file, which does not have them. `network`: the torch module, if it is one.
    `make` makes `predict` again in another process."""

    name: str
    source: Literal["allmlp", "timm"]
    weights: Weights
    predict: Predictor
    features: Predictor | None
    network: nn.Module | None
    has_head: bool
    make: Callable[[], Predictor]

    @property
    def image_size(self) -> tuple[int, int]:
        return self.predict.preprocess.image_size


def open_contender(name: str, num_classes: int, *, pretrained: bool = False,
                   image_size: tuple[int, int] | None = None, device: str = "cpu") -> Contender:
    """The contender that `name` means, for data with `num_classes`, which a head with fresh weights is made for.

    Raises what loading raises, and `BadSetting` for an image size or a device that it does not take.
    """
    if name.startswith(TIMM):
        return _of_timm(name, num_classes, pretrained, image_size, device)
    again = partial(open_predictor, name, num_classes, pretrained, image_size, device)
    predict, weights = _ours(name, num_classes, pretrained, image_size, device)
    model = predict.model if isinstance(predict, PyTorchPredictor) else None
    features = None if model is None else NetworkPredictor(model, predict.preprocess, None, forward=pooled(model))
    return Contender(name, "allmlp", weights, predict, features, model, model is None or bool(model.num_classes), again)


def open_predictor(name: str, num_classes: int, pretrained: bool, image_size: tuple[int, int] | None,
                   device: str) -> Predictor:
    return open_contender(name, num_classes, pretrained=pretrained, image_size=image_size, device=device).predict


def _ours(name: str, num_classes: int, pretrained: bool, image_size: tuple[int, int] | None,
          device: str) -> tuple[Predictor, Weights]:
    if name in VARIANTS and not pretrained and not Path(name).exists():
        model = create_model(name, num_classes=num_classes, image_size=image_size, seed=SEED)
        return PyTorchPredictor(model.to(choose_device(device))), "fresh"
    if not _of_torch(name):
        return load_predictor(name, device, image_size), "trained"
    model = checkpoint.load_at(name, image_size)
    if model.config.segment is not None:
        raise BadSetting(f"{name}: a network for segmentation, and here those for whole images are compared; "
                         "`allmlp evaluate` measures it")
    return PyTorchPredictor(model.to(choose_device(device))), "trained"


def _of_torch(name: str) -> bool:
    """Whether a MODEL is read by `checkpoint`, and not a file exported to a runtime."""
    from allmlp.backends import native
    from allmlp.backends.manifest import is_export

    return not is_export(name) and not native.is_model_file(name)


def _of_timm(name: str, num_classes: int, pretrained: bool, image_size: tuple[int, int] | None,
             device: str) -> Contender:
    asked, equals, file = name.removeprefix(TIMM).partition("=")
    if not asked or (equals and not file):
        raise BadSetting(f"{name}: expected timm:NAME, timm:NAME.TAG or timm:NAME=FILE")
    network, preprocess = open_timm(asked, file=file or None, pretrained=pretrained, num_classes=num_classes,
                                    image_size=image_size, seed=SEED)
    network.to(choose_device(device)).requires_grad_(False)
    trained = bool(file) or pretrained or "." in asked
    again = partial(open_predictor, name, num_classes, pretrained, image_size, device)
    return Contender(name, "timm", "trained" if trained else "fresh", NetworkPredictor(network, preprocess, None),
                     NetworkPredictor(network, preprocess, None, forward=pooled(network)), network,
                     bool(getattr(network, "num_classes", 0)), again)


def label(name: str) -> str:
    """A contender's name in a figure: without folders and without timm's prefix."""
    shown = name.removeprefix(TIMM).partition("=")[0]
    return Path(shown).name if "/" in shown else shown
