"""A network as a folder for the Hugging Face Hub, in timm's layout, and its upload.

    config.json         for timm: the architecture's name, how to build it, preprocessing, class names; under "allmlp"
                        the exact network, for whoever wants it without opening the weights
    model.safetensors   our checkpoint, which needs nothing else; its tensors are named as timm's
    README.md           the model card

`allmlp.load` reads the folder and loses nothing. `timm.create_model("local-dir:FOLDER", pretrained=True)` reads it
where timm has the architecture; where only we have it, after `allmlp.register_with_timm()`.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub

from allmlp import __version__
from allmlp.checkpoint import describe, save
from allmlp.errors import CannotWrite
from allmlp.files import write_text_atomically
from allmlp.models.interface import as_timm_config
from allmlp.models.model import Model, check_model
from allmlp.models.variants import VARIANTS
from allmlp.weights.infer import family_of
from allmlp.weights.lost import same_shape, what_is_lost
from allmlp.weights.registry import PREFIX
from allmlp.weights.timm import LAYOUTS, timm_name

UNNAMED = f"{PREFIX}network"  # the architecture of a network that is in no table


def save_hub(
    model: Model, folder: str | os.PathLike, *, name: str | None = None, licence: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write `config.json`, `model.safetensors` and `README.md` into `folder`, each atomically.

    `name`: "owner/name" on the Hub, for the card (default: the folder's name). `licence`: as the Hub writes it,
    "apache-2.0"; weights made from published ones keep theirs. `provenance`: plain values about where the weights are
    from, such as scores. Returns what timm will take for granted and is not so, one line each. Raises `CannotWrite`,
    and `BadSetting` for provenance that is no JSON, with nothing written.
    """
    check_model(model, "save_hub")
    folder = Path(folder)
    architecture, arguments, notes = built_as(model)
    description = describe(model, provenance)
    config = {
        "architecture": architecture,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "global_pool": model.global_pool,
        **({} if model.classes is None else {"label_names": list(model.classes)}),
        "model_args": arguments,
        "pretrained_cfg": as_timm_config(model.config, model.preprocess) | ({"license": licence} if licence else {}),
        "allmlp": {key: value for key, value in description.items() if key != "classes"},
    }
    save(model, folder / "model.safetensors", provenance)
    write_text_atomically(folder / "config.json", json.dumps(config, indent=2) + "\n")
    card = _card(model, name or folder.resolve().name, licence, architecture, description["provenance"], notes)
    write_text_atomically(folder / "README.md", card)
    return notes


def push_to_hub(
    model: Model, repo_id: str, *, licence: str | None = None, provenance: Mapping[str, Any] | None = None,
    private: bool = False, token: str | None = None, revision: str | None = None, create_pr: bool = False,
    message: str = "Add model", endpoint: str | None = None,
) -> str:
    """Upload what `save_hub` writes to "owner/name" on the Hub, made if it is not there; returns the commit's address.

    A model card that is there already stays. `token`: default that of `hf auth login`. Raises `CannotWrite`.
    """
    api = huggingface_hub.HfApi(endpoint, token=token, library_name="allmlp", library_version=__version__)
    with tempfile.TemporaryDirectory() as folder:
        save_hub(model, folder, name=repo_id, licence=licence, provenance=provenance)
        try:
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if api.file_exists(repo_id, "README.md", revision=revision):
                (Path(folder) / "README.md").unlink()
            commit = api.upload_folder(repo_id=repo_id, folder_path=folder, revision=revision, create_pr=create_pr,
                                       commit_message=message)
        except Exception as error:  # the client raises its HTTP library's errors, which have changed with its versions
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise CannotWrite(f"{repo_id}: not uploaded to the Hugging Face Hub ({reason})") from None
    return str(commit.commit_url)


def built_as(model: Model) -> tuple[str, dict[str, Any], list[str]]:
    """timm's name for the network, ours where timm has none, what it is built with, and what timm gets wrong."""
    config = model.config
    arguments = {"num_classes": config.num_classes, "in_chans": config.in_channels,
                 "img_size": list(config.image_size), "global_pool": config.global_pool}  # fmt: skip
    name = timm_name(config)
    if name is not None:
        told = ("image size", "preprocessing", "class names")  # in config.json
        lost = what_is_lost(model, LAYOUTS[family_of(config)])
        return name, arguments, [note for note in lost if not note.startswith(told)]
    ours = next((ours for ours, other in VARIANTS.items() if same_shape(other, config) and other.norm == config.norm),
                None)  # fmt: skip
    if ours is None:
        return UNNAMED, {}, ["timm has no name for a network of these sizes"]
    return f"{PREFIX}{ours}", {**arguments, "activation": config.blocks[0].activation}, []


def _card(
    model: Model, name: str, licence: str | None, architecture: str, provenance: Mapping[str, Any], notes: list[str]
) -> str:
    """The model card: a head that the Hub reads, and a page."""
    config, preprocess, classes = model.config, model.preprocess, model.classes or ()
    shown = f": {', '.join(classes[:10])}{', …' if len(classes) > 10 else ''}" if classes else ", without names"
    in_timm = not architecture.startswith(PREFIX)
    head = ["tags:", "- image-classification", "- allmlp", *(["- timm"] if in_timm else []),
            f"library_name: {'timm' if in_timm else 'allmlp'}", "pipeline_tag: image-classification",
            *([f"license: {licence}"] if licence else [])]  # fmt: skip
    facts = [
        f"images: {config.in_channels} x {config.image_size[0]} x {config.image_size[1]} (channels, height, width)",
        f"parameters: {sum(parameter.numel() for parameter in model.parameters()):,}",
        f"classes: {config.num_classes}{shown}",
        f"preprocessing: {preprocess.resize}, crop ratio {preprocess.crop_ratio:g}, {preprocess.interpolation}",
        f"mean {list(preprocess.mean)}, deviation {list(preprocess.std)} of values in [0, 1]",
        f"licence: {licence or 'not stated'}",
        *(f"{key}: {value}" for key, value in provenance.items() if value is not None),
    ]
    where = name if "/" in name else f"OWNER/{name}"
    python = ["import allmlp", "", f'model = allmlp.load("hf-hub:{where}")  # or the path of the folder']
    if architecture != UNNAMED:
        python += ["", "import timm", "", *([] if in_timm else ["allmlp.register_with_timm()"]),
                   f'model = timm.create_model("hf-hub:{where}", pretrained=True)  # a folder: "local-dir:PATH"']
    return "\n".join([
        "---", *head, "---", f"# {name.rpartition('/')[2]}", "",
        f"An all-MLP image classifier, `{architecture}`, written by allmlp {__version__}.", "",
        *(f"- {fact}" for fact in facts), "", "## Use", "", "```python", *python, "```", "",
        *(f"In timm: {note}." for note in notes),
    ]).rstrip() + "\n"  # fmt: skip
