"""A folder that any static web server can serve: the page, the network, pictures of its weights, some examples.

    index.html  page.js  …      the page itself, the files beside this one
    model.onnx  manifest.json   the network, as `--to onnx` writes and verifies it
    model.json                  what the page says of it: classes, preprocessing, patches, examples, pictures
    ort/                        ONNX Runtime for browsers
    examples/  pictures/
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import allmlp
from allmlp import figures
from allmlp.data.dataset import ImageDataset
from allmlp.errors import CannotWrite
from allmlp.files import write_atomically, write_text_atomically
from allmlp.inspection.gallery import of_weights
from allmlp.models.model import Model
from allmlp.web.runtime import runtime_files

PAGE = ("index.html", "style.css", "page.js", "network.js", "images.js", "preprocess.js", "shuffle.js", "pad.js")
EXAMPLES = 10


def complete(folder: Path, model: Model, name: str, digest: str | None, examples: ImageDataset | None = None,
             runtime: str | None = None) -> None:
    """Make a folder with `model.onnx` in it a page. `examples`: images that may be shown to anybody; one of each of the
    first classes is taken. Raises what `runtime_files` does, and `CannotWrite`."""
    found = {**{each: Path(__file__).parent / each for each in PAGE},
             **{f"ort/{each}": path for each, path in runtime_files(runtime).items()}}
    try:
        (folder / "ort").mkdir(exist_ok=True)
        for file, path in found.items():
            shutil.copyfile(path, folder / file)
        about = {**describe(model, name, digest), "pictures": _pictures(folder / "pictures", model),
                 "examples": _examples(folder / "examples", examples) if examples is not None else []}
    except OSError as error:
        raise CannotWrite(f"the page cannot be written: {error.strerror or error}; free some space or choose another "
                          "place") from None
    write_text_atomically(folder / "model.json", json.dumps(about, indent=1) + "\n")


def describe(model: Model, name: str, digest: str | None) -> dict[str, Any]:
    """What the page says of a network."""
    config, parameters = model.config, sum(parameter.numel() for parameter in model.parameters())
    return {
        "name": name, "digest": digest, "allmlp": allmlp.__version__, "num_classes": config.num_classes,
        "classes": model.classes, "output": model.output, "preprocess": model.preprocess.model_dump(mode="json"),
        "patch_size": config.patch_size, "grid": config.grid,
        "description": f"A network of {config.depth} blocks with {parameters:,} parameters.",
    }


def _pictures(folder: Path, model: Model) -> list[dict[str, str]]:
    folder.mkdir(exist_ok=True)
    shown = []
    for picture in of_weights({"network": model}).pictures:
        figures.save(picture.figure, folder / picture.name)
        shown.append({"file": f"pictures/{picture.name}.png", "title": picture.title, "caption": picture.caption})
    return shown


def _examples(folder: Path, dataset: ImageDataset) -> list[dict[str, str]]:
    from PIL import Image

    folder.mkdir(exist_ok=True)
    if dataset.labels.ndim == 1:
        chosen = [int(np.flatnonzero(dataset.labels == k)[0]) for k in np.unique(dataset.labels)[:EXAMPLES]]
    else:
        chosen = list(range(min(EXAMPLES, len(dataset))))
    shown = []
    for number, index in enumerate(chosen):
        file = folder / f"{number}.png"
        picture = Image.fromarray(dataset.image(index))
        write_atomically(file, lambda path, picture=picture: picture.save(path, "PNG"))
        shown.append({"file": f"examples/{number}.png", "title": f"Example {number + 1}"})
    return shown
