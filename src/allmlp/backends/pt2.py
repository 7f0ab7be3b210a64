"""PyTorch's own exported program, `model.pt2`: runs in PyTorch without our code, and is where its compilers begin.

`torch.export.load` can run code that a file brings along, in pickles and in formulas. A file is therefore read as plain
data first (`pt2_archive.py`), and refused unless all that is in it is tensors and operations that we know; PyTorch
gets those in an archive of our own.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from allmlp.backends.exported import ExportPredictor
from allmlp.backends.manifest import Manifest, Precision
from allmlp.backends.packages import quiet
from allmlp.errors import BadCheckpoint
from allmlp.files import open_regular, write_bytes_atomically

if TYPE_CHECKING:
    from allmlp.models.model import Model


def export(model: "Model", path: Path, precision: Precision = "fp32", calibration: np.ndarray | None = None,
           quantiser: str | None = None) -> None:
    """Write `model` as one exported program, in fp32 or bf16. Raises `BadCheckpoint` for what `load` would refuse."""
    import torch

    from allmlp.backends.graph import capture
    from allmlp.backends.pt2_archive import checked_archive

    program = capture(model, torch.bfloat16 if precision == "bf16" else torch.float32)
    program.example_inputs = None  # would be pickled
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={"allmlp.json": _about(model)})
    checked_archive(content.getvalue(), str(path))
    write_bytes_atomically(path, content.getvalue())


def _about(model: "Model") -> str:
    import json

    return json.dumps({"preprocess": json.loads(model.preprocess.to_json()), "classes": model.classes,
                       "output": model.output}, ensure_ascii=False)


def load(path: Path, manifest: Manifest, threads: int | None = None) -> ExportPredictor:
    """A predictor from an exported program; its threads are PyTorch's. Raises `BadCheckpoint`."""
    import torch

    from allmlp.backends.pt2_archive import checked_archive

    with open_regular(path) as file:
        content = checked_archive(file.read(), str(path))
    try:
        with quiet():  # of a damaged graph PyTorch logs a traceback
            network = torch.export.load(io.BytesIO(content)).module()
    except Exception:  # whatever it raises then, it refers to that
        raise BadCheckpoint(f"{path}: PyTorch {torch.__version__} cannot read its graph: damaged, or written by a "
                            "later version; export the network again with this one") from None
    if threads:
        torch.set_num_threads(threads)

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(np.require(batch, requirements="W"))).numpy()

    return ExportPredictor(path, manifest, run)
