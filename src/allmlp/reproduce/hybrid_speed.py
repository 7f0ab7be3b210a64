"""How fast the networks of `hybrids` run: in PyTorch, in ONNX Runtime and, those that it can run, in our engine.

All of one runtime take turns, each in a process of its own (`allmlp.evaluate.cost`), on one thread. Exported networks
take uint8 images and normalise them inside their graph.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from allmlp.backends import BACKENDS, Predictor
from allmlp.backends.manifest import Manifest
from allmlp.errors import BadSetting
from allmlp.evaluate.cost import Make, measure_costs
from allmlp.models.model import Model
from allmlp.preprocess import Preprocess, normalise
from allmlp.reproduce.experiment import Job

PYTORCH, ONNX, ENGINE = "PyTorch", "ONNX Runtime", "our engine"
RUNTIMES = {PYTORCH: ("torch",), ONNX: ("onnx", "onnxscript", "onnxruntime"), ENGINE: ("allmlp_native",)}
BATCHES, ROUNDS, SECONDS = (1, 64), 5, 0.1

MakeNetwork = Callable[[], nn.Module]


def there(runtime: str) -> bool:
    """Whether its packages are installed."""
    return all(find_spec(package) is not None for package in RUNTIMES[runtime])


def speeds(job: Job, runtime: str, networks: Mapping[str, MakeNetwork], preprocess: Preprocess,
           num_classes: int, mark: str = "") -> Iterator[Mapping[str, Any]]:
    """A row for each network that `runtime` can run; of the latency the median, of images per second the best batch.
    `mark`: what the files in the job's folder begin with."""
    contenders: dict[str, Make] = {}
    for number, (name, make) in enumerate(networks.items()):
        if runtime == PYTORCH:
            contenders[name] = make
            continue
        path = job.folder / f"{mark}{number}.{'onnx' if runtime == ONNX else 'allmlp'}"
        if path.exists() or written(make(), path, preprocess):
            contenders[name] = partial(loaded, runtime, path, preprocess, num_classes)
    costs = measure_costs(contenders, preprocess.image_size, BATCHES, rounds=1 if job.reduced else ROUNDS,
                          seconds=0.02 if job.reduced else SECONDS)
    for name, cost in costs.items():
        best = next(speed for speed in cost.speeds if speed.batch_size == cost.batch_size)
        yield {"network": name, "runtime": runtime, "latency_ms": cost.latency_ms_p50,
               "images_per_second": cost.images_per_second, "slowest": best.slowest, "fastest": best.fastest,
               "batch_size": cost.batch_size}


def written(network: nn.Module, path: Path, preprocess: Preprocess) -> bool:
    """Write a network as a file for a runtime, by the file's suffix; False where the engine can't run it."""
    network = network.eval()
    if isinstance(network, Model):
        try:
            BACKENDS["onnx" if path.suffix == ".onnx" else "native"].load_module().export(network, path)
        except BadSetting:
            return False  # it says which layer it does not know; the table then has no speed of it
        return True
    if path.suffix != ".onnx":
        return False
    images = torch.zeros(2, *preprocess.image_size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of its own ways
        program = torch.export.export(Pixels(network, preprocess).eval(), (images,),
                                      dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        made = torch.onnx.export(program, (), dynamo=True, input_names=["images"], output_names=["logits"],
                                 verbose=False)
    assert made is not None
    made.save(str(path))
    return True


def loaded(runtime: str, path: Path, preprocess: Preprocess, num_classes: int) -> Predictor:
    """A predictor of a written file, for one thread."""
    if runtime == ENGINE:
        return BACKENDS["native"].load_module().load(path, threads=1)
    manifest = Manifest(backend="onnx", precision="fp32", preprocess=preprocess, num_classes=num_classes)
    return BACKENDS["onnx"].load_module().load(path, manifest, threads=1)


class Pixels(nn.Module):
    """A network of timm's with its normalisation: uint8 `(N, H, W, 3)` to logits."""

    def __init__(self, network: nn.Module, preprocess: Preprocess):
        super().__init__()
        self.network, self.preprocess = network, preprocess

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(normalise(images.permute(0, 3, 1, 2), self.preprocess))
