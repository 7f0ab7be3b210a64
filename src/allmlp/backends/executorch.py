"""ExecuTorch: `model.pte` for phones and small machines, every product by XNNPACK's kernels (without them it would run
on slow portable ones). int8 is PyTorch's post-training quantisation for XNNPACK. bf16 is not offered: XNNPACK has few
kernels for it. The program takes 1 to `MAX_BATCH` images. XNNPACK's GELU is an approximation, good to 1e-4.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allmlp.backends.exported import MAX_BATCH, ExportPredictor, refused
from allmlp.backends.manifest import Manifest, Precision
from allmlp.backends.packages import need, quiet
from allmlp.errors import BadSetting
from allmlp.files import write_bytes_atomically

if TYPE_CHECKING:
    from allmlp.models.model import Model


def export(model: "Model", path: Path, precision: Precision = "fp32", calibration: np.ndarray | None = None,
           quantiser: str | None = None) -> None:
    """Write `model` as one program. `calibration`: for int8, training images uint8 `(N, H, W, 3)` of its size.

    Raises `MissingPackage`."""
    from allmlp.backends.gmlp_halves import without_chunks
    from allmlp.backends.graph import capture

    with quiet():
        exir, partitioner = need("executorch.exir", "executorch.backends.xnnpack.partition.xnnpack_partitioner")
        program = capture(model, max_batch=MAX_BATCH, prepare=without_chunks)
        if precision == "int8":
            assert calibration is not None
            program = _quantised(program, calibration)
        lowered = exir.to_edge_transform_and_lower(program, partitioner=[partitioner.XnnpackPartitioner()])
        content = lowered.to_executorch().buffer
    write_bytes_atomically(path, content)


def _quantised(program: Any, calibration: np.ndarray) -> Any:
    import torch

    flow, xnnpack = need("torchao.quantization.pt2e.quantize_pt2e",
                         "executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    chosen = xnnpack.XNNPACKQuantizer().set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True))
    prepared = flow.prepare_pt2e(program.module(), chosen)
    with torch.no_grad():
        for images in np.array_split(calibration, -(-len(calibration) // 8)):
            prepared(torch.from_numpy(images))
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    example = torch.from_numpy(np.resize(calibration, (2, *calibration.shape[1:])))
    return torch.export.export(flow.convert_pt2e(prepared), (example,), dynamic_shapes=({0: batch},))


_OPENED: list[Path] = []  # in this process


def _set_threads(bindings: Any, threads: int) -> None:
    """The runtime has one pool of threads for a process, and a program keeps that which was there when it was opened:
    it must not be replaced after the first one. Raises `BadSetting` where that would be needed."""
    if threads == (now := bindings._threadpool_get_thread_count()):
        return
    if _OPENED:
        raise BadSetting(f"{threads} threads: ExecuTorch has {now} in this process, since {_OPENED[0]} was opened, and "
                         "cannot have others for a second program; open it in a process of its own, or with as many")
    bindings._unsafe_reset_threadpool(threads)  # no safer way is offered, and this one is before any program


def load(path: Path, manifest: Manifest, threads: int | None = None) -> ExportPredictor:
    """A predictor from an exported program. Raises `MissingPackage`, `BadCheckpoint`, and what `_set_threads` does."""
    with quiet():
        runtime, bindings = need("executorch.runtime", "executorch.extension.pybindings.portable_lib")
    import torch

    if threads:
        _set_threads(bindings, threads)
    _OPENED.append(path)
    try:
        program = runtime.Runtime.get().load_program(path, verification=runtime.Verification.InternalConsistency)
        method = program.load_method("forward")
    except Exception as error:  # the runtime's own classes, all of them about the file
        raise refused(path, "ExecuTorch", error) from None

    def run(batch: np.ndarray) -> np.ndarray:
        return method.execute([torch.from_numpy(batch)])[0].numpy()

    return ExportPredictor(path, manifest, run)
