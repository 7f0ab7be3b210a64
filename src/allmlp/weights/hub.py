"""Folders in timm's layout for the Hugging Face Hub, `config.json` beside the weights, from the Hub or a disk.

Weights that allmlp wrote describe themselves, and `checkpoint.load` reads them; here is what it takes to read timm's:
the image size, preprocessing and class names stand in `config.json` only.
"""

import json
import os
from pathlib import Path
from typing import Any

from allmlp.errors import AllMLPError, BadCheckpoint, CannotDownload, printable
from allmlp.files import open_regular, refuse_link_out
from allmlp.models.model import Model, ModelConfig, one_name_per_class, with_config
from allmlp.models.variants import VARIANTS
from allmlp.preprocess import Preprocess
from allmlp.weights.catalogue import CATALOGUE
from allmlp.weights.download import from_hub
from allmlp.weights.formats import load_foreign
from allmlp.weights.labels import words
from allmlp.weights.lost import same_shape

PREFIXES = ("hf-hub:", "hf_hub:")  # as in timm.create_model
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in the order of preference
NO_SHAPE = {"num_classes", "in_chans", "img_size", "global_pool", "drop_rate", "drop_path_rate",
            "proj_drop_rate"}  # arguments of timm's networks that leave the blocks as their name says
MAX_CONFIG_BYTES = 16 << 20  # the names and descriptions of 21,843 classes take about 2 MiB


def is_hub_name(path: str | os.PathLike) -> bool:
    """Whether `path` is the name of a repository on the Hub, "hf-hub:owner/name" or "hf-hub:owner/name@revision"."""
    return str(path).startswith(PREFIXES)


def fetch_folder(name: str, cache_dir: str | Path | None = None) -> Path:
    """The folder in the Hub's cache with a repository's config and weights. Raises `CannotDownload`."""
    repo_id, _, revision = name.partition(":")[2].partition("@")
    if not repo_id:
        raise CannotDownload(f"{name!r} names no repository; give hf-hub:owner/name or hf-hub:owner/name@revision")
    try:
        config = from_hub(repo_id, [CONFIG], revision or None, cache_dir)
        from_hub(repo_id, WEIGHTS, revision or None, cache_dir)
    except CannotDownload as error:
        raise CannotDownload(f"{error}; to do without a network, put {CONFIG} and {' or '.join(WEIGHTS)} of "
                             f"https://huggingface.co/{repo_id} into a folder, and give the folder") from None
    return config.parent


def hub_weights(path: str | os.PathLike) -> Path | None:
    """The weights of a folder in the Hub's layout; None for any other folder, or a file."""
    folder = Path(path)
    if not (folder / CONFIG).is_file():
        return None
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def load_timm_folder(weights: Path, image_size: Any = None) -> Model:
    """The network of timm's weights with a `config.json` beside them; `image_size` as in `formats.load_foreign`.

    Raises `BadCheckpoint` in one line for a config that is damaged, contradicts the weights, or wants a preprocessing
    or pooling that allmlp does not have.
    """
    path = weights.with_name(CONFIG)
    about = read_config(path)
    pretrained, arguments = about["pretrained_cfg"], about.get("model_args") or {}
    if not isinstance(about.get("architecture") or "", str):
        raise BadCheckpoint(f"{path}: the architecture {printable(about['architecture'], 80)!r} is no name")
    size = arguments.get("img_size") or pretrained.get("input_size")
    sides = [size, size] if isinstance(size, int) else size[-2:] if isinstance(size, list) else None
    if sides is not None and not (len(sides) == 2 and all(isinstance(side, int) for side in sides)):
        raise BadCheckpoint(f"{path}: the image size {size!r} is not (height, width)")
    model = load_foreign(weights, image_size or sides)
    try:
        _check_agreement(about, model.config)
        config = model.config.with_(global_pool=arguments.get("global_pool", about.get("global_pool", "avg")))
        model = with_config(model, config)
        model.preprocess = _preprocess(pretrained, model.preprocess, config)
        model.classes = one_name_per_class(_classes(about, model.num_classes), model.num_classes)
    except (AllMLPError, TypeError) as error:
        raise BadCheckpoint(f"{path}: {printable(error, 500)}") from None
    return model


def _check_agreement(about: dict[str, Any], config: ModelConfig) -> None:
    """Raises `BadCheckpoint` where the numbers or the name in a `config.json` are not those of the weights."""
    arguments = about.get("model_args") or {}
    sources = (arguments, about, about["pretrained_cfg"])  # the first that says it, as in timm
    classes = next((source["num_classes"] for source in sources if source.get("num_classes") is not None), None)
    for what, theirs, ours in (("num_classes", classes, config.num_classes),
                               ("in_chans", arguments.get("in_chans"), config.in_channels)):  # fmt: skip
        if theirs is not None and theirs != ours:
            raise BadCheckpoint(f"{what} is {theirs!r}, but the weights beside it have {ours}")
    name = str(about.get("architecture")).removeprefix("allmlp_")
    named = VARIANTS.get(name)
    if named and not arguments.keys() - NO_SHAPE and not same_shape(named, config):
        raise BadCheckpoint(f"the architecture is {name}, but the weights beside it are of another network "
                            f"(patches {config.patch_size}, width {config.width}, depth {config.depth})")


def read_config(path: Path) -> dict[str, Any]:
    """A `config.json` whose "pretrained_cfg" is a dict, timm's older flat form included. Raises `BadCheckpoint`."""
    refuse_link_out(path)
    with open_regular(path) as file:
        text = file.read(MAX_CONFIG_BYTES + 1)
    try:
        if len(text) > MAX_CONFIG_BYTES:
            raise ValueError(f"longer than {MAX_CONFIG_BYTES} bytes")
        about = json.loads(text)
        if not isinstance(about, dict):
            raise ValueError("no JSON object")
        about.setdefault("pretrained_cfg", about)
        if not isinstance(about["pretrained_cfg"], dict) or not isinstance(about.get("model_args") or {}, dict):
            raise ValueError("pretrained_cfg and model_args must be JSON objects")
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{path}: not a model's config ({error})") from None
    return about


def _preprocess(pretrained: dict[str, Any], usual: Preprocess, config: ModelConfig) -> Preprocess:
    """timm's `pretrained_cfg` as our value; what it does not say is as usual in the family."""
    fields: dict[str, Any] = {"image_size": config.image_size}
    for name, theirs in {"mean": "mean", "std": "std", "interpolation": "interpolation",
                         "crop_ratio": "crop_pct"}.items():  # fmt: skip
        if theirs in pretrained:
            fields[name] = pretrained[theirs]
    for name in ("mean", "std"):
        values = fields.get(name)
        if values is not None and not (isinstance(values, list) and len(values) in (1, 3)):
            raise BadCheckpoint(f"{name} is {values!r}; accepted: a list of 3 numbers, or of 1 for grey images")
        if values and len(values) == 1:  # of a grey image; the luma's weights sum to 1
            fields[name] = tuple(values) * 3
    mode = pretrained.get("crop_mode", "center")
    if mode not in ("center", "squash"):
        raise BadCheckpoint(f"crop_mode {mode!r} is not supported; accepted: center, squash")
    whole = fields.get("crop_ratio", usual.crop_ratio) == 1
    fields["resize"] = "shorter" if mode == "center" else "squash" if whole else "squash_crop"
    return usual.with_(**fields)


def _classes(about: dict[str, Any], num_classes: int) -> tuple[str, ...] | None:
    """Words for the classes: the config's, else those of the catalogue for weights that it knows, else none."""
    pretrained = about["pretrained_cfg"]
    names = about.get("label_names") or pretrained.get("label_names")
    described = about.get("label_descriptions") or pretrained.get("label_descriptions") or {}
    if isinstance(names, list) and num_classes and len(names) != num_classes:
        raise BadCheckpoint(f"{len(names)} label_names, but the weights beside it have {num_classes} classes")
    if isinstance(names, list) and num_classes and isinstance(described, dict):
        found = [str(described.get(name) or name) for name in names]
        return tuple(found if len(set(found)) == len(found) else map(str, names))
    row = CATALOGUE.get(f"{about.get('architecture')}.{pretrained.get('tag')}")
    return words(row.labels) if row and row.labels and row.num_classes == num_classes else None
