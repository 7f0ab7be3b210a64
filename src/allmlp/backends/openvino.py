"""OpenVINO: `model.xml` with its weights in `model.bin`, for Intel's processors and others.

bf16 is a promise of the manifest: the file holds float32, and the network is compiled for bf16 where the processor has
it. float32 has to be asked for too, since OpenVINO takes fewer bits by itself where they are quicker. int8 is NNCF's
post-training quantisation. Running needs no PyTorch.
"""

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allmlp.backends.exported import ExportPredictor, refused
from allmlp.backends.manifest import Manifest, Precision
from allmlp.backends.packages import need
from allmlp.errors import BadCheckpoint
from allmlp.files import write_atomically

if TYPE_CHECKING:
    from allmlp.models.model import Model

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # what int8 leaves in float


def export(model: "Model", path: Path, precision: Precision = "fp32", calibration: np.ndarray | None = None,
           quantiser: str | None = None) -> None:
    """Write `model` as `path` and, beside it, `model.bin`. Raises `MissingPackage`.

    `calibration`: for int8, training images uint8 `(N, H, W, 3)` of its size.
    """
    from allmlp.backends.graph import capture

    with unreported():
        (openvino,) = need("openvino")
        graph = openvino.convert_model(capture(model))
    height, width = model.preprocess.image_size
    graph.reshape([-1, height, width, 3])
    graph.inputs[0].get_tensor().set_names({"images"})
    graph.outputs[0].get_tensor().set_names({"logits"})
    if precision == "int8":
        assert calibration is not None
        graph = _quantised(graph, calibration)
    for key, value in {"preprocess": model.preprocess.to_json(), "output": model.output, "precision": precision,
                       "classes": json.dumps(model.classes, ensure_ascii=False)}.items():
        graph.set_rt_info(value, ["allmlp", key])

    def write(temporary: str) -> None:
        serialised = Path(f"{temporary}.xml")
        try:
            try:
                openvino.save_model(graph, serialised, compress_to_fp16=False)
            except RuntimeError as error:  # its writer's word for a full disk
                raise OSError(f"OpenVINO: {error}") from None
            with serialised.with_suffix(".bin").open("rb") as weights:
                os.fsync(weights.fileno())
            os.replace(weights.name, path.with_suffix(".bin"))
            os.replace(serialised, temporary)
        finally:
            for left in (serialised, serialised.with_suffix(".bin")):
                left.unlink(missing_ok=True)

    write_atomically(path, write)


def _quantised(graph: Any, calibration: np.ndarray) -> Any:
    """By NNCF. Its preset for transformers is not used: it ruins Mixers."""
    with unreported():
        (nncf,) = need("nncf")
        logging.getLogger("nncf").setLevel(logging.ERROR)
        images = nncf.Dataset([image[None] for image in calibration])
        return nncf.quantize(graph, images, subset_size=len(calibration))


@contextlib.contextmanager
def unreported() -> Iterator[None]:
    """OpenVINO's tools tell their maker of each use, unless the environment says that no person is there; and they
    draw progress on stdout."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


def load(path: Path, manifest: Manifest, threads: int | None = None) -> ExportPredictor:
    """A predictor from an exported file. Raises `MissingPackage` and `BadCheckpoint`."""
    (openvino,) = need("openvino")
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": HINTS[manifest.precision], "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        graph = openvino.Core().read_model(path)
        compiled = openvino.compile_model(graph, "CPU", settings)
        computes = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        shapes = [[str(side) for side in port.partial_shape] for port in (*compiled.inputs, *compiled.outputs)]
        types = [port.element_type.get_type_name() for port in (*compiled.inputs, *compiled.outputs)]
    except Exception as error:  # the runtime's own classes, all of them about the file
        raise refused(path, "OpenVINO", error) from None
    height, width = manifest.preprocess.image_size
    if types != ["u8", "f32"] or [shape[1:] for shape in shapes] != [[str(height), str(width), "3"],
                                                                     [str(manifest.num_classes)]]:
        raise BadCheckpoint(f"{path}: not the graph that its manifest describes; export the network again")
    remark = None
    if computes != HINTS[manifest.precision]:
        remark = (f"exported for {manifest.precision}, which OpenVINO does not compute in on this processor; it takes "
                  f"{computes}")
        warnings.warn(f"{path}: {remark}", stacklevel=2)
    request = compiled.create_infer_request()

    def run(batch: np.ndarray) -> np.ndarray:
        request.infer([batch])
        return request.get_output_tensor(0).data.copy()

    return ExportPredictor(path, manifest, run, remark)
