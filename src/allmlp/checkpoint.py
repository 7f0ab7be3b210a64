"""Our checkpoint: one safetensors file with weights, config, preprocessing, class names and provenance.

The metadata has one entry, "allmlp", a JSON object:
    {"format": 1, "config": …, "preprocess": …, "classes": […] or null,
     "output": "softmax" or "sigmoid", "provenance": {…}}
Writing is atomic and nothing is ever unpickled (`files.py`).
"""

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

import allmlp
from allmlp.errors import AllMLPError, BadCheckpoint, BadSetting, UnknownName, printable
from allmlp.files import (
    ENGINE_MAGIC,
    ENGINE_SUFFIX,
    EXPORT_MANIFEST,
    begins_with,
    load_tensors,
    read_metadata,
    read_start,
    refuse_link_out,
    save_tensors,
)
from allmlp.models.model import Model, ModelConfig, Output, build_on_meta, check_model, one_name_per_class
from allmlp.models.resize import Method, resize
from allmlp.models.variants import VARIANTS
from allmlp.preprocess import Preprocess
from allmlp.weights.catalogue import CATALOGUE, DEFAULTS, find_published
from allmlp.weights.formats import is_foreign, load_foreign
from allmlp.weights.hub import fetch_folder, hub_weights, is_hub_name, load_timm_folder
from allmlp.weights.pretrained import load_published
from allmlp.weights.stored import FLOATS

FORMAT = 1
FILE_SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin", ".tar", ENGINE_SUFFIX)  # no published name ends so
CHECKPOINT_NAMES = ("best.safetensors", "last.safetensors")  # of a run folder, in the order of preference

GIVE = "give a checkpoint (.safetensors), a run folder, a name of `allmlp models --pretrained`, or hf-hub:owner/name"


def save(model: Model, path: str | os.PathLike, provenance: Mapping[str, Any] | None = None) -> None:
    """Write a checkpoint atomically. Raises `CannotWrite`; what stood at `path` is then untouched.

    `provenance`: plain values, as JSON has them. Raises `BadSetting` for others, and for what is no network.
    """
    check_model(model, "save")
    save_tensors(model.state_dict(), path, {"allmlp": json.dumps(describe(model, provenance))})


def describe(model: Model, provenance: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All that a checkpoint says beside the weights, as plain values. Raises `BadSetting` as `save` does."""
    try:
        json.dumps(dict(provenance or {}))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadSetting(f"provenance: not plain values ({printable(error, 100)}); give a dict of texts, numbers and "
                         "lists, as JSON has them") from None
    one_name_per_class(model.classes, model.num_classes)  # else nobody could load it
    return {
        "format": FORMAT,
        "config": json.loads(model.config.to_json()),
        "preprocess": json.loads(model.preprocess.to_json()),
        "classes": None if model.classes is None else list(model.classes),
        "output": model.output,
        "provenance": {"allmlp": allmlp.__version__, **(provenance or {})},
    }


def load(path: str | os.PathLike, device: str = "cpu", image_size: int | Sequence[int] | None = None) -> Model:
    """The model of a weights file, a run folder (its best, else its last), or a folder for the Hub; in evaluation mode.

    Also of a repository on the Hub, "hf-hub:owner/name", and of published weights by name, "mixer_b16_224.goog_in1k",
    unless there is a file called so; both are downloaded once. A file that allmlp did not write (Google's .npz,
    Facebook's and timm's .pth, timm's .safetensors) is told by its content. `image_size`: pixels, (height, width) or
    one number; for such a file where its shapes leave it open. Raises `BadCheckpoint` in one line for a file that is
    missing, truncated, of another format, or whose tensors do not fit its config (named); `CannotDownload`. No code in
    the file is run. A file of ours that does not have the checksum it was written with is refused.
    """
    if not isinstance(path, str | os.PathLike):
        raise BadSetting(f"load: {printable(repr(path), 80)} is no path; give a weights file, a run folder or a name")
    if is_published(path):
        model = load_published(find_published(str(path))).to(device)
        _check_image_size(model, image_size, str(path))
        return model
    if is_hub_name(path):
        path = fetch_folder(str(path))
    path = find_checkpoint(path)
    if is_foreign(path):
        in_folder = hub_weights(path.parent) == path  # then a config.json says more
        return (load_timm_folder if in_folder else load_foreign)(path, image_size).to(device)
    tensors, metadata = load_tensors(path, device)
    about = _about(path, metadata)
    try:
        config = ModelConfig.from_json(json.dumps(about["config"]))
        preprocess = Preprocess.from_json(json.dumps(about["preprocess"]))
        classes = about.get("classes")
        if classes is not None and not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
            raise BadCheckpoint("its class names are no list of names")
        if (preprocess.channels == 1) != (config.in_channels == 1):
            raise BadCheckpoint(f"it takes {config.in_channels} channels but its preprocessing makes "
                                f"{preprocess.channels}")
        if preprocess.image_size != config.image_size:
            raise BadCheckpoint(f"it is for images of {config.image_size} but its preprocessing makes "
                                f"{preprocess.image_size}")
        output = about.get("output", "softmax")
        if output not in get_args(Output):
            raise BadCheckpoint(f"its output is {output!r}; accepted: {', '.join(get_args(Output))}")
        model = build_on_meta(config, preprocess, classes, output)
    except (AllMLPError, KeyError, TypeError) as error:
        raise BadCheckpoint(f"{path}: the network it describes cannot be built: {printable(error)}") from None
    _check_image_size(model, image_size, str(path))
    if classes is not None and len(classes) != config.num_classes:
        raise BadCheckpoint(f"{path}: {len(classes)} class names for {config.num_classes} classes")
    check_tensors(tensors, model.state_dict(), str(path))
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def load_at(path: str | os.PathLike, image_size: tuple[int, int] | None, device: str = "cpu",
            method: Method = "auto") -> Model:
    """`load`, then brought to `image_size` (height, width) by `resize` with `method` where the network is for another.

    In float32, which images come in, whatever the file holds. The size also answers for a file whose shapes leave it
    open. Raises what `load` and `resize` do.
    """
    if image_size is None:
        return load(path, device).float()
    try:
        model = load(path, device)
    except BadCheckpoint:
        model = load(path, device, image_size)  # raises again unless the size was what was missing
    model = model.float()
    return model if model.config.image_size == image_size else resize(model, image_size=image_size, method=method)


def is_published(path: str | os.PathLike) -> bool:
    """Whether this is the name of published weights, and no file is called so."""
    return (str(path) in CATALOGUE or str(path) in DEFAULTS) and not os.path.exists(path)


def _check_image_size(model: Model, image_size: int | Sequence[int] | None, where: str) -> None:
    wanted = (image_size, image_size) if isinstance(image_size, int) else image_size
    if wanted is not None and tuple(wanted) != model.config.image_size:
        raise BadSetting(f"image_size {tuple(wanted)}: {where} is a network for {model.config.image_size}; leave it "
                         "out")


def find_checkpoint(path: str | os.PathLike) -> Path:
    """The file that `path` stands for: a file, a run folder or a folder for the Hub. Raises `BadCheckpoint`."""
    if not str(path):
        raise BadCheckpoint(f"'': an empty name; {GIVE}")
    path = Path(path)
    if os.path.isdir(path):  # Path's own raises for a name that is too long
        found = next((path / name for name in CHECKPOINT_NAMES if (path / name).is_file()), hub_weights(path))
        if found is None and (path / EXPORT_MANIFEST).is_file():
            raise _exported(path, "an export")
        if found is None:
            raise BadCheckpoint(f"{path}: a folder without {' or '.join(CHECKPOINT_NAMES)}, as a run has, and without "
                                f"an export's {EXPORT_MANIFEST}; give a run folder, or what an export wrote, whole")
        refuse_link_out(found)
        return found
    if not os.path.exists(path):
        raise _not_there(path)
    if begins_with(path, ENGINE_MAGIC):
        raise _exported(path, "a file for the engine")
    if path.suffix == ENGINE_SUFFIX:
        read_start(path)  # says so if it is a pipe, or may not be read
        raise BadCheckpoint(f"{path}: damaged: does not begin as a file for the engine does; export the network again, "
                            "or get another copy of the file")
    return path


def _exported(path: Path, what: str) -> BadCheckpoint:
    return BadCheckpoint(f"{path}: {what}, which `allmlp predict`, `evaluate`, `bench` and `serve` take; here the "
                         f"network that it was made from is needed: {GIVE}")


def _not_there(path: Path) -> AllMLPError:
    """The error for what is no file, and no name of published weights either, though it may have been meant as one."""
    name = str(path)
    if path.suffix not in FILE_SUFFIXES and difflib.get_close_matches(name, [*CATALOGUE, *VARIANTS], n=1, cutoff=0.8):
        try:
            find_published(name)
        except UnknownName as error:
            return UnknownName(f"{printable(name)}: no such file, and {error}")
    return BadCheckpoint(f"{printable(path)}: no such file; {GIVE}")


def provenance(path: str | os.PathLike) -> dict[str, Any]:
    """What a checkpoint says about where it comes from; reads the header only. Raises `BadCheckpoint`."""
    path = find_checkpoint(path)
    found = _about(path, read_metadata(path)).get("provenance")
    return found if isinstance(found, dict) else {}


def check_tensors(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], where: str) -> None:
    """Refuse tensors that are missing, unexpected, of another shape, not floating point, or not finite, by name."""
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unexpected {printable(name, 100)}" for name in tensors if name not in expected]
    for name in expected.keys() & tensors.keys():
        got, want = tensors[name], expected[name]
        if got.shape != want.shape:
            problems.append(f"{name} is {tuple(got.shape)}, expected {tuple(want.shape)}")
        elif got.dtype not in FLOATS.values():
            problems.append(f"{name} is {got.dtype}, expected floating point")
        elif not torch.isfinite(got).all():
            problems.append(f"{name} holds numbers that are not finite (NaN or infinity)")
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise BadCheckpoint(f"{where}: its tensors do not fit the network: {'; '.join(sorted(problems)[:5])}{more}")


def _about(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    if "allmlp" not in metadata:
        raise BadCheckpoint(f"{path}: safetensors, but not written by allmlp (it does not say which network)")
    try:
        about = json.loads(metadata["allmlp"])
        number = about["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadCheckpoint(f"{path}: its description is damaged") from None
    if number != FORMAT:
        raise BadCheckpoint(f"{path}: format {printable(number, 20)}; this version of allmlp reads format {FORMAT}")
    return about
