"""ONNX, run by ONNX Runtime: one file `model.onnx` for a hundred other runtimes too.

Mixer, ResMLP and gMLP are written operation by operation (`onnx_graph.py`), in float32 and in our own int8; networks
with other blocks by PyTorch's exporter. int8 by ONNX Runtime's static quantiser is there to compare. bf16 is not
offered: ONNX Runtime has no matrix products in bf16 on a CPU. Running needs neither PyTorch nor the package `onnx`.
"""

import contextlib
import io
import json
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allmlp.backends.exported import ExportPredictor, refused
from allmlp.backends.manifest import Manifest, Precision
from allmlp.backends.packages import need
from allmlp.errors import BadCheckpoint, BadSetting, CannotWrite
from allmlp.files import open_regular, write_bytes_atomically

if TYPE_CHECKING:
    from allmlp.models.model import Model
    from allmlp.quantize.choices import Choices

NOWHERE = "/dev/null/no-folder"  # where nothing can be
MOST_BYTES = (2 << 30) - (1 << 20)  # protobuf's limit for one file


def export(model: "Model", path: Path, precision: Precision = "fp32", calibration: np.ndarray | None = None,
           quantiser: str | None = None, float_layers: Iterable[str] = (),
           choices: "Choices | None" = None) -> None:
    """Write `model` as an ONNX file. `calibration`: for int8, training images uint8 `(N, H, W, 3)` of its size.

    `float_layers`: layers that our int8 leaves in fp32, by name as in `quantize.layers`. `choices`: how our int8
    finds its ranges. Raises `BadSetting`, `MissingPackage`.
    """
    size = sum(parameter.numel() for parameter in model.parameters()) * (1 if precision == "int8" else 4)
    if size > MOST_BYTES:
        raise BadSetting(f"an ONNX file holds 2 GB at most, and this network takes {size / 2**30:.1f} GiB")
    if precision == "int8" and quantiser == "ours":
        assert calibration is not None
        proto = _int8_graph(model, calibration, frozenset(float_layers), choices)
    else:
        proto = _float_graph(model) if precision == "fp32" else _by_pytorch(model)
        if precision == "int8":
            assert calibration is not None
            proto = _quantised_by_ort(proto, calibration)
    _describe(proto, {"preprocess": model.preprocess.to_json(), "output": model.output, "precision": precision,
                      "classes": json.dumps(model.classes, ensure_ascii=False)})
    write_bytes_atomically(path, proto.SerializeToString())


def _float_graph(model: "Model") -> Any:
    from allmlp.backends.onnx_graph import write_graph
    from allmlp.quantize.parts import check_supported, take_apart

    if model.config.segment is not None:
        return _by_pytorch(model)
    try:
        check_supported(model)
    except BadSetting:  # blocks of other kinds
        return _by_pytorch(model)
    parts = take_apart(model)
    return write_graph(parts, parts.stem, [(block, block) for block in parts.blocks])


def _int8_graph(model: "Model", calibration: np.ndarray, float_layers: frozenset[str],
                choices: "Choices | None") -> Any:
    from allmlp.backends.onnx_graph import write_graph
    from allmlp.quantize.choices import BEST
    from allmlp.quantize.network import quantise

    int8 = quantise(model, calibration, choices or BEST, float_layers)
    return write_graph(int8.parts, int8.used_stem, int8.halves)


def _by_pytorch(model: "Model") -> Any:
    import torch

    from allmlp.backends.graph import capture
    from allmlp.backends.onnx_graph import OPSET

    need("onnx", "onnxscript")
    program = capture(model)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it talks about its steps
        warnings.simplefilter("ignore")
        written = torch.onnx.export(program, (), dynamo=True, opset_version=OPSET, input_names=["images"],
                                    output_names=["logits"], verbose=False)
    assert written is not None
    return _cleaned(written.model_proto)


def _cleaned(proto: Any) -> Any:
    """Without notes of how it came about, which name the exporter's inner ways; the free axis is called N."""
    for holder in (*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info, proto.graph):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return proto


def _describe(proto: Any, said: Mapping[str, str]) -> None:
    del proto.metadata_props[:]
    for key, value in sorted(said.items()):
        entry = proto.metadata_props.add()
        entry.key, entry.value = f"allmlp.{key}", value


def _quantised_by_ort(proto: Any, calibration: np.ndarray) -> Any:
    """ONNX Runtime's static quantisation: per-channel weights, activations in the ranges of `calibration`.

    Of the graph by PyTorch, since it fails on products whose weights are on the left. Raises `CannotWrite` where there
    is no room for its temporary files."""
    onnx, quantization = need("onnx", "onnxruntime.quantization")

    class Images(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self.waiting = iter(np.array_split(calibration, -(-len(calibration) // 8)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            images = next(self.waiting, None)
            return None if images is None else {"images": images}

    try:
        with tempfile.TemporaryDirectory() as folder:
            before, ready, after = (str(Path(folder, name)) for name in ("float.onnx", "ready.onnx", "int8.onnx"))
            Path(before).write_bytes(proto.SerializeToString())
            quantization.shape_inference.quant_pre_process(before, ready, skip_symbolic_shape=True)
            quantization.quantize_static(
                ready, after, Images(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
                activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=["MatMul", "Gemm", "Conv"],
            )  # fmt: skip
            return _cleaned(onnx.load(after))
    except OSError as error:
        raise CannotWrite(f"temporary files of ONNX Runtime's quantiser cannot be written: {error.strerror or error}; "
                          "free some space, or set TMPDIR") from None


def session_options(threads: int | None) -> Any:
    """How ONNX Runtime is to run: in so many threads (None: all), silently, with exact sums of bytes."""
    (runtime,) = need("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4
    # Of a graph from memory it would look for files that it names in the current folder.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    if not _has_vnni():  # products of bytes would be summed with saturation to 16 bits
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _has_vnni() -> bool:
    """Whether the processor sums products of bytes in 32 bits, so that ONNX Runtime's quick kernels are exact too, and
    twice as fast as the ones that always are; as Linux tells, elsewhere it is not known."""
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return "avx512_vnni" in said or "avx_vnni" in said


def load(path: Path, manifest: Manifest, threads: int | None = None) -> ExportPredictor:
    """A predictor from an exported file. Raises `MissingPackage` and `BadCheckpoint`."""
    (runtime,) = need("onnxruntime")
    with open_regular(path) as file:
        content = file.read()  # from memory a graph has no folder, nor by its options, and so cannot name other files
    try:
        session = runtime.InferenceSession(content, session_options(threads), providers=["CPUExecutionProvider"])
        images, logits = session.get_inputs(), session.get_outputs()
    except Exception as error:  # the runtime's own classes, all of them about the file
        raise refused(path, "ONNX Runtime", error) from None
    height, width = manifest.preprocess.image_size
    size = [manifest.num_classes, *((height, width) if manifest.other_sizes is not None else ())]
    if [(value.name, value.type, value.shape[1:]) for value in (*images, *logits)] != [
            ("images", "tensor(uint8)", [height, width, 3]), ("logits", "tensor(float)", size)]:
        raise BadCheckpoint(f"{path}: not the graph that its manifest describes; export the network again")

    def run(batch: np.ndarray) -> np.ndarray:
        return session.run(["logits"], {"images": batch})[0]

    return ExportPredictor(path, manifest, run)
