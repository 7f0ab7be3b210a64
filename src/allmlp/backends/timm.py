"""timm: a folder for `timm.create_model("local-dir:FOLDER", pretrained=True)`, in the layout of the Hugging Face Hub.

timm takes normalised images, so here the preprocessing stands beside the network and not inside it. Where timm has the
architecture, timm's own code runs it; other networks it finds after `allmlp.register_with_timm()`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from allmlp.backends.exported import ExportPredictor, refused
from allmlp.backends.manifest import Manifest, Precision
from allmlp.backends.packages import need
from allmlp.errors import BadSetting

if TYPE_CHECKING:
    from allmlp.models.model import Model


def export(model: "Model", path: Path, precision: Precision = "fp32", calibration: np.ndarray | None = None,
           quantiser: str | None = None) -> list[str]:
    """Write `config.json`, `model.safetensors` and a model card into the folder `path`; bf16 halves the weights.

    Returns what timm takes for granted and is not so. Raises `BadSetting` for a network that timm cannot build.
    """
    import copy

    import torch

    from allmlp.publish import UNNAMED, built_as, save_hub

    architecture, _, _ = built_as(model)
    if architecture == UNNAMED:
        raise BadSetting("timm can build networks by name only, and has none for this one's sizes; it takes those of "
                         "`allmlp models`")
    kept = copy.deepcopy(model)
    notes = save_hub(kept.to(torch.bfloat16) if precision == "bf16" else kept, path, name=architecture)
    return [f"in timm, {note}" for note in notes]


def load(path: Path, manifest: Manifest, threads: int | None = None) -> ExportPredictor:
    """A predictor that runs timm's network. Raises `BadCheckpoint`."""
    timm, torch = need("timm", "torch")
    from allmlp.preprocess import to_network_input
    from allmlp.weights.registry import register_with_timm

    register_with_timm()
    try:
        network = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    except Exception as error:  # whatever timm and its libraries say of the folder
        raise refused(path, "timm", error) from None
    if manifest.precision == "bf16":
        network = network.to(torch.bfloat16)
    dtype = next(network.parameters()).dtype

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(to_network_input(batch, manifest.preprocess).to(dtype)).float().numpy()

    return ExportPredictor(path, manifest, run)
