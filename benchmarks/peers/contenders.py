"""The contenders of engine_peers.py: how each is made from the same weights, and how it runs.

    python benchmarks/peers/contenders.py --prepare NAME FOLDER      writes what NAME runs from into FOLDER
    python benchmarks/peers/contenders.py NAME FOLDER THREADS        answers questions, one JSON object per line

FOLDER holds one network: `about.json`, `weights.npz` by timm's names, `images.npy`, `calibration.npy`. Every contender
takes raw uint8 images `(N, H, W, 3)` and normalises them itself. A process loads its own runtime and nothing else.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]  # uint8 (N, H, W, 3) -> float32 (N, K)
BRIEF, LONG = 0.3, 10.0  # seconds; shorter calls are made once before the clock runs: always, or the first time


@dataclass(frozen=True)
class Contender:
    """`open(folder, threads)` gives what runs. `file`: what `prepare(folder, file)` writes; every contender without one
    runs from the weights as they are. `packages`: what it needs, the first names its version."""

    title: str
    precision: str
    packages: tuple[str, ...]
    open: Callable[[Path, int], Run]
    file: str = "weights.npz"
    prepare: Callable[[Path, Path], None] | None = None
    peer: bool = True
    compiles: bool = False  # for each batch size and number of threads, into a cache that `prepare` can fill


# --- our engine ------------------------------------------------------------------------------------------------------


def engine(precision: str) -> Contender:
    file = f"engine-{precision}.allmlp"

    def prepare(folder: Path, path: Path) -> None:
        from allmlp.backends.native import export

        export(our_model(folder), path, precision, np.load(folder / "calibration.npy"))  # type: ignore[arg-type]

    def opened(folder: Path, threads: int) -> Run:
        import allmlp_native

        return allmlp_native.Model(folder / file, threads)

    return Contender("allmlp engine", precision, ("allmlp_native",), opened, file, prepare, peer=False)


def our_model(folder: Path) -> Any:
    """Our network with the weights of the folder."""
    import torch

    import allmlp

    model = allmlp.create_model(about(folder)["model"])
    model.load_state_dict({name: torch.from_numpy(array) for name, array in np.load(folder / "weights.npz").items()})
    return model.eval()


def about(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "about.json").read_text())


# --- PyTorch ---------------------------------------------------------------------------------------------------------


def timms_model(folder: Path) -> Any:
    """timm's network with the weights of the folder, normalisation in front."""
    import torch
    from torch import nn

    from train_step import timms_network

    said = about(folder)

    class Pixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = timms_network(said["model"])
            self.register_buffer("mean", torch.tensor(said["mean"]))
            self.register_buffer("std", torch.tensor(said["std"]))

        def forward(self, images: Any) -> Any:
            return self.network(((images.float() / 255 - self.mean) / self.std).permute(0, 3, 1, 2))

    model = Pixels().eval().requires_grad_(False)
    arrays = np.load(folder / "weights.npz")
    model.network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return model


def torch_run(model: Any, precision: str) -> Run:
    import torch

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return model(torch.from_numpy(images)).float().numpy()

    return run


def timm_eager(precision: str) -> Contender:
    def opened(folder: Path, threads: int) -> Run:
        import torch

        torch.set_num_threads(threads)
        return torch_run(timms_model(folder), precision)

    return Contender("timm eager", precision, ("timm", "torch"), opened)


def compiled(precision: str) -> Contender:
    """Inductor with frozen weights; int8 by PT2E, when the process starts: Inductor does not recognise the quantised
    products in a graph that was saved and loaded again."""

    def opened(folder: Path, threads: int) -> Run:
        os.environ |= {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TORCHINDUCTOR_FREEZING": "1"}
        import torch

        torch.set_num_threads(threads)
        model = pt2e(folder) if precision == "int8" else timms_model(folder)
        run, size = torch_run(torch.compile(model, dynamic=False), precision), 0

        def of_one_size(images: np.ndarray) -> np.ndarray:
            nonlocal run, size
            if size not in (0, len(images)):  # the weights frozen for another size would stay in memory
                torch.compiler.reset()
            size = len(images)
            with torch.no_grad():
                return run(images)

        return of_one_size

    needs = ("torch", "timm", *(("torchao",) if precision == "int8" else ()))
    return Contender("torch.compile frozen", precision, needs, opened, compiles=True)


def pt2e(folder: Path) -> Any:
    """timm's network, quantised by torchao for Inductor, for any number of images."""
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    images = torch.from_numpy(np.load(folder / "calibration.npy"))
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    with torch.no_grad():
        graph = torch.export.export(timms_model(folder), (images[:4],), dynamic_shapes=shapes).module()
        prepared = prepare_pt2e(graph, quantizer)
        for part in images.split(8):
            prepared(part)
        return convert_pt2e(prepared)


# --- ONNX Runtime, OpenVINO, JAX -------------------------------------------------------------------------------------


def onnxruntime(precision: str, how: str = "") -> Contender:
    file = "-".join(filter(None, ("onnxruntime", precision, how))) + ".onnx"

    def prepare(folder: Path, path: Path) -> None:
        from allmlp.backends import onnx

        model, images = our_model(folder), np.load(folder / "calibration.npy")
        if how == "dynamic":
            onnx_by_pytorch(model, path)
            from onnxruntime.quantization import quantize_dynamic

            quantize_dynamic(path, path, per_channel=True)
        else:
            onnx.export(model, path, precision, images, "ort" if how else None)  # type: ignore[arg-type]

    def opened(folder: Path, threads: int) -> Run:
        import onnxruntime as runtime

        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        session = runtime.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
        return lambda images: np.asarray(session.run(None, {"images": images})[0])

    return Contender(" ".join(filter(None, ("ONNX Runtime", how.upper() if how == "qdq" else how))), precision,
                     ("onnxruntime", "onnx"), opened, file, prepare)


def onnx_by_pytorch(model: Any, path: Path) -> None:
    """The graph that torch.onnx writes: weights are the right factor of every product, as ONNX Runtime's quantisers
    want them."""
    import onnx
    import torch

    from allmlp.backends.graph import capture
    from allmlp.backends.onnx_graph import OPSET

    program = torch.onnx.export(capture(model), (), dynamo=True, opset_version=OPSET, input_names=["images"],
                                output_names=["logits"], verbose=False)
    assert program is not None
    proto = program.model_proto
    del proto.graph.value_info[:]  # some are wrong, and the quantiser stops at them
    onnx.save(proto, path)


def openvino(precision: str) -> Contender:
    file = "openvino-int8.xml" if precision == "int8" else "openvino-fp32.xml"

    def prepare(folder: Path, path: Path) -> None:
        from allmlp.backends.openvino import export

        export(our_model(folder), path, "int8" if precision == "int8" else "fp32", np.load(folder / "calibration.npy"))

    def opened(folder: Path, threads: int) -> Run:
        import openvino as runtime

        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
        request = runtime.compile_model(folder / file, "CPU", settings).create_infer_request()

        def run(images: np.ndarray) -> np.ndarray:
            request.infer([images])
            return request.get_output_tensor(0).data.copy()

        return run

    return Contender("OpenVINO NNCF" if precision == "int8" else "OpenVINO", precision, ("openvino", "nncf"), opened,
                     file, prepare)


def jax_plain(precision: str) -> Contender:
    def opened(folder: Path, threads: int) -> Run:
        if hasattr(os, "sched_setaffinity"):  # XLA has no other way to say how many threads
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        os.environ["JAX_PLATFORMS"] = "cpu"
        from peers import plain_jax

        said = about(folder)
        return plain_jax.network(np.load(folder / "weights.npz"), said["mean"], said["std"], said["gelu"] == "tanh")

    return Contender("JAX", precision, ("jax",), opened)


CONTENDERS: dict[str, Contender] = {
    **{f"engine-{precision}": engine(precision) for precision in ("fp32", "bf16", "int8")},
    **{f"timm-{precision}": timm_eager(precision) for precision in ("fp32", "bf16")},
    **{f"compile-{precision}": compiled(precision) for precision in ("fp32", "bf16", "int8")},
    "onnxruntime-fp32": onnxruntime("fp32"),
    "onnxruntime-int8-dynamic": onnxruntime("int8", "dynamic"),
    "onnxruntime-int8-qdq": onnxruntime("int8", "qdq"),
    **{f"openvino-{precision}": openvino(precision) for precision in ("fp32", "bf16", "int8")},
    "jax-fp32": jax_plain("fp32"),
}


# --- the process -----------------------------------------------------------------------------------------------------


def prepare(name: str, folder: Path) -> None:
    """Write the contender's file, unless it is there; a stop leaves none that is half written."""
    contender = CONTENDERS[name]
    path = folder / contender.file
    if contender.prepare is not None and not path.exists():
        beside = folder / f"unfinished-{path.name}"
        contender.prepare(folder, beside)
        for suffix in (".bin", ".data"):  # OpenVINO's weights, ONNX's beyond 2 GB
            if beside.with_suffix(suffix).exists():
                beside.with_suffix(suffix).replace(path.with_suffix(suffix))
        beside.replace(path)


def serve(name: str, folder: Path, threads: int, answers: Any) -> None:
    """Answer {"batch": N}: from now on, the first N images; logits go to a file. {"seconds": T}: run for so long."""
    images = np.load(folder / "images.npy")
    run, batch = CONTENDERS[name].open(folder, threads), images[:1]
    duration, first = 0.0, True
    for line in sys.stdin:
        question = json.loads(line)
        if "batch" in question:
            batch = np.ascontiguousarray(images[: question["batch"]])
            started = time.perf_counter()
            np.save(question["logits"], np.asarray(run(batch), np.float32))
            duration = time.perf_counter() - started
            said: dict[str, Any] = {"seconds": duration}
            first = duration < LONG
        else:
            if duration < BRIEF or first:  # caches, and threads that sleep
                run(batch)
            times: list[float] = []
            while sum(times) < question["seconds"] or not times:
                started = time.perf_counter()
                run(batch)
                times.append(time.perf_counter() - started)
            duration, first = min(times), False
            said = {"times": times}
        print(json.dumps({**said, "memory_mb": peak_memory_mb(), "cpu_seconds": time.process_time()}), file=answers,
              flush=True)


def peak_memory_mb() -> float | None:
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    return None


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries that talk on stdout do not disturb the answers
    if sys.argv[1] == "--prepare":
        prepare(sys.argv[2], Path(sys.argv[3]))
    else:
        serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), channel)
