"""int8 as other tools make it from a network's graph: each function takes `Asked` and gives what answers images.

Every tool sees the same graph with the same 64 training images and is used as its documentation says, with weights per
channel where it has that: ONNX Runtime's static (QDQ) and dynamic quantisation, OpenVINO with NNCF, PyTorch's PT2E with
torchao's quantiser for x86 (run in PyTorch as it was converted), and XNNPACK by ExecuTorch.
"""

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from allmlp.backends.packages import need
from allmlp.models.fold import fold
from allmlp.models.model import Model
from allmlp.preprocess import normalise

Predict = Callable[[np.ndarray], np.ndarray]
BATCH = 16


class PixelsToLogits(nn.Module):
    """uint8 `(N, H, W, 3)` to logits."""

    def __init__(self, network: Model):
        super().__init__()
        self.network = network
        self.preprocess = network.preprocess

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(normalise(images.permute(0, 3, 1, 2), self.preprocess))


@dataclass(frozen=True)
class Asked:
    """`folded`: norms are multiplied into the layers behind them first, as `allmlp export` does for every tool."""

    model: Model
    calibration: np.ndarray
    folded: bool

    def program(self) -> torch.export.ExportedProgram:
        network = (fold(self.model) if self.folded else self.model).eval()
        example = torch.zeros(2, *self.model.preprocess.image_size, 3, dtype=torch.uint8)
        batch = torch.export.Dim("batch", min=1, max=4096)
        return torch.export.export(PixelsToLogits(network).eval(), (example,), dynamic_shapes=({0: batch},))

    def batches(self) -> list[np.ndarray]:
        return np.array_split(self.calibration, -(-len(self.calibration) // BATCH))


def _onnx(asked: Asked, path: Path) -> None:
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    raw = path.with_suffix(".raw")
    written = torch.onnx.export(asked.program(), (), dynamo=True, opset_version=20, input_names=["images"],
                                output_names=["logits"], verbose=False)
    assert written is not None
    written.save(str(raw))
    quant_pre_process(str(raw), str(path), skip_symbolic_shape=True)
    proto = onnx.load(path)
    del proto.graph.value_info[:]  # shapes that contradict those of the quantised graph
    onnx.save(proto, path)


def _session(path: Path) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(None, {"images": images})[0])


def ort_static(asked: Asked) -> Predict:
    from onnxruntime import quantization

    class Images(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.waiting = iter(asked.batches())

        def get_next(self) -> Any:
            images = next(self.waiting, None)
            return None if images is None else {"images": images}

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        _onnx(asked, before)
        quantization.quantize_static(
            before, after, Images(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Conv"],
        )  # fmt: skip
        return _session(after)


def ort_dynamic(asked: Asked) -> Predict:
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        _onnx(asked, before)
        quantization.quantize_dynamic(before, after, per_channel=True, weight_type=quantization.QuantType.QInt8,
                                      op_types_to_quantize=["MatMul", "Gemm"])
        return _session(after)


def openvino_nncf(asked: Asked) -> Predict:
    import nncf
    import openvino

    logging.getLogger("nncf").setLevel(logging.ERROR)
    graph = openvino.convert_model(asked.program())
    graph.reshape([-1, *asked.model.preprocess.image_size, 3])
    images = nncf.Dataset([image[None] for image in asked.calibration])
    graph = nncf.quantize(graph, images, subset_size=len(asked.calibration))
    compiled = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    return lambda images: compiled([images])[0].copy()


def pt2e_x86(asked: Asked) -> Predict:
    flow, x86 = need("torchao.quantization.pt2e.quantize_pt2e",
                     "torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
    chosen = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = flow.prepare_pt2e(asked.program().module(), chosen)
    with torch.no_grad():
        for images in asked.batches():
            prepared(torch.from_numpy(images))
    network = flow.convert_pt2e(prepared)

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(images)).numpy()

    return predict


def xnnpack(asked: Asked) -> Predict:
    """Through our own export, which knows the detours ExecuTorch needs; always folded."""
    from allmlp.backends import executorch
    from allmlp.backends.manifest import Manifest

    model = asked.model
    manifest = Manifest(backend="executorch", precision="int8", quantiser="xnnpack", preprocess=model.preprocess,
                        num_classes=model.num_classes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pte")
        executorch.export(model, path, "int8", asked.calibration)
        predictor = executorch.load(path, manifest)
        predictor(asked.calibration[:1])
        return predictor


PEERS: dict[str, Callable[[Asked], Predict]] = {
    "ONNX Runtime static": ort_static,
    "ONNX Runtime dynamic": ort_dynamic,
    "OpenVINO NNCF": openvino_nncf,
    "PT2E x86": pt2e_x86,
    "XNNPACK": xnnpack,
}


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without the tools' remarks, progress, and reports to their makers."""
    before, level = os.environ.get("CI"), logging.root.manager.disable
    os.environ["CI"] = "true"
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before
