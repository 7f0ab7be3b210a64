"""timm's networks by name, to compare with and to learn from: with fresh weights, timm's published ones, or a file's.

What a network wants of its images is what timm says of its weights; timm's crop mode "squash" is our "squash_crop", or
"squash" where nothing is cropped.
"""

from typing import Any

import torch
from torch import nn

from allmlp import checkpoint
from allmlp.errors import BadCheckpoint, BadSetting, CannotDownload, printable, unknown_name
from allmlp.preprocess import Preprocess
from allmlp.weights.formats import read_tensors


def open_timm(
    name: str, *, file: str | None = None, pretrained: bool = False, num_classes: int | None = None,
    image_size: tuple[int, int] | None = None, seed: int = 0,
) -> tuple[nn.Module, Preprocess]:
    """The network `name`, with or without a tag ("resnet50", "resnet50.a1_in1k"), in evaluation mode on the CPU.

    `file`: a .safetensors or .pth with its weights, whose head says how many classes there are. `pretrained`: timm's
    own, downloaded once; a tag without a file means them too. Otherwise fresh weights, which follow from `seed`, for
    `num_classes`. `image_size` (height, width), None for the network's own. Raises `UnknownName`, `BadSetting` for a
    size that it does not take, `BadCheckpoint` for a file that does not fit, and `CannotDownload`.
    """
    import timm

    check_name(name)
    tensors = None if file is None else read_tensors(file)
    fetched = tensors is None and (pretrained or "." in name)
    options: dict[str, Any] = {}
    about = timm.get_pretrained_cfg(name)
    if image_size is not None and about is not None and about.fixed_input_size:
        options["img_size"] = image_size
    if tensors is not None and about is not None:
        options["num_classes"] = head_rows(tensors, about.classifier) or about.num_classes
    elif not fetched and num_classes is not None:
        options["num_classes"] = num_classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _create(name, fetched, options)
    if tensors is not None:
        load_weights(network, tensors, name, str(file))
    network.eval()
    preprocess = preprocess_of(network, f"timm's {name}", image_size)
    if image_size is not None or not fetched:
        _check_runs(network, name, preprocess)
    return network, preprocess


def check_name(name: str, kind: str = "network of timm", hint: str = "") -> None:
    """Raises `UnknownName` for what timm has no network or no weights of."""
    import timm

    architecture, dot, _ = name.partition(".")
    if not timm.is_model(architecture):
        raise unknown_name(kind, name, timm.list_models(), hint)
    if dot and name not in (tagged := timm.list_pretrained(f"{architecture}.*")):
        raise unknown_name(f"weights of timm's {architecture}", name, tagged)


def preprocess_of(network: nn.Module, who: str, image_size: tuple[int, int] | None = None) -> Preprocess:
    """What timm says the weights of `network` want, at its own size or at `image_size`.

    Raises `BadSetting`, naming the network as `who`, for one that does not take colours."""
    from timm.data.config import resolve_model_data_config

    wants = resolve_model_data_config(network)
    channels, height, width = wants["input_size"]
    if channels != 3:
        raise BadSetting(f"{who} takes images of {channels} channels; expected 3")
    ratio = min(wants["crop_pct"], 1.0)
    squash = "squash" if ratio == 1 else "squash_crop"
    return Preprocess(
        image_size=image_size or (height, width), mean=wants["mean"], std=wants["std"], crop_ratio=ratio,
        interpolation=wants["interpolation"] if wants["interpolation"] in ("bilinear", "nearest") else "bicubic",
        resize=squash if wants["crop_mode"] == "squash" else "shorter")


def head_rows(tensors: dict[str, torch.Tensor], classifier: Any) -> int | None:
    """How many classes the head has, called `classifier` by timm (of two, the first); None where there is none."""
    name = classifier[0] if isinstance(classifier, tuple | list) else classifier
    found = tensors.get(f"{name}.weight")
    return None if found is None else len(found)


def load_weights(network: nn.Module, tensors: dict[str, torch.Tensor], name: str, file: str) -> None:
    """Put the tensors of a file into `network`; whole numbers (batch norm's counters) keep their start.

    Raises `BadCheckpoint` where they do not fit."""
    floating = {key: tensor for key, tensor in network.state_dict().items() if tensor.is_floating_point()}
    try:
        checkpoint.check_tensors(tensors, floating, file)
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{error}; expected the weights of timm's {name}") from None
    network.load_state_dict(tensors, strict=False)


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    import timm

    try:
        return timm.create_model(name, pretrained=pretrained, **options)
    except (OSError, RuntimeError, ValueError) as error:  # no network, no such weights; the Hub's errors are OSErrors
        if not pretrained:
            raise BadSetting(f"timm's {name} cannot be built with {options}: {short(error)}") from None
        raise CannotDownload(f"timm's {name}: its weights cannot be had ({short(error)}); download them and give the "
                             f"file, as timm:{name.partition('.')[0]}=FILE") from None
    except (TypeError, AssertionError) as error:  # what its constructors say of an image size
        raise BadSetting(f"timm's {name} cannot be built with {options}: {short(error)}") from None


def _check_runs(network: nn.Module, name: str, preprocess: Preprocess) -> None:
    """Raises `BadSetting` for an image size that the network cannot compute."""
    height, width = preprocess.image_size
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, height, width))
    except Exception as error:  # whatever a network of somebody else's may raise
        raise BadSetting(f"timm's {name} cannot compute images of {height} x {width} pixels ({short(error)}); take "
                         "larger ones, or leave the image size out") from None


def short(error: Exception) -> str:
    return printable(" ".join(str(error).split()), 200) or type(error).__name__
