"""What fewer bits cost trained networks: ours in the engine beside the int8 of other tools, on the same test images.

    python benchmarks/accuracy_price.py [--data digits,digit-scenes] [--seeds 0,1,2] [--runs DIR] [--only NAME,…]
        [--epochs N] [--csv FILE]
    python benchmarks/accuracy_price.py --table [--csv FILE]

Networks: on digits those of `allmlp train digits --model …_p2_8`; on digit-scenes, the largest set here, a Mixer, a
ResMLP and a gMLP of width 128 and 8 blocks with the plain recipe of the laptop experiments. They are kept in DIR, and
trained only where they are not there yet. Every contender sees the same 64 training images and answers the whole test
split: fp32, bf16 and int8 of ours by the engine, int8 of the peers by their own runtimes (peers/int8.py).

`planted` is the same function with outlier channels: in each block, four channels of the norm before channel mixing
are multiplied by 30 to 100 and the columns of the layer behind it divided by as much; in ResMLP, whose norms are
scales, four channels of all that is added up between blocks. Peers then get the network as it stands, since folding
norms into layers, which `allmlp export` does for every tool, would undo most of that.

Errors are of the logits, against PyTorch in fp32, over the standard deviation of its logits: root mean square, and
largest. `top1_difference` is paired, in points, negative where the contender is worse. Rows go to
results/accuracy_price.csv, in place of those of the same network, seed, weights and contender.
"""

import argparse
import copy
import datetime
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import allmlp
from allmlp.backends import native
from allmlp.backends.packages import version
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.commands.export import pictures
from allmlp.data import open_data
from allmlp.data.dataset import ImageDataset
from allmlp.data.scenes import scenes_of
from allmlp.models.blocks import GMLPConfig, MixerConfig, ResMLPConfig
from allmlp.models.config import ModelConfig
from allmlp.models.layers import AffineConfig
from allmlp.models.model import Model, build
from allmlp.reproduce.learn import learn
from allmlp.reproduce.small import PREPROCESS, recipe
from allmlp.train.run_folder import machine
from peers.int8 import PEERS, Asked, Predict, silent
from peers.price_table import table
from rows import read, write

RESULTS = Path(__file__).parent.parent / "results" / "accuracy_price.csv"
FAMILIES = ("mixer", "resmlp", "gmlp")
STEPS = 600  # on scenes, of 64 images
CALIBRATION = 64
OUTLIERS = 4  # channels of a block
AT_ONCE = 2048  # images; PT2E's programs take no more than 4,096
KEY = ("data", "network", "seed", "weights", "contender", "precision")
COLUMNS = (*KEY, "rms_error", "largest_error", "top1_percent", "top1_difference", "top1_agreement_percent", "images",
           "failure", "seconds", "processor", "versions", "commit", "date", "command")  # fmt: skip


def opened(data: str) -> tuple[str, ImageDataset, ImageDataset]:
    """The data set whose networks are asked, its training images and the test images."""
    many = re.fullmatch("(digit-scenes)-([1-9][0-9]*)", data)
    splits = open_data(many[1] if many else data).splits
    test = scenes_of(open_data("digits").splits["test"], int(many[2])) if many else splits["test"]
    return many[1] if many else data, splits["train"], test


def network(data: str, family: str, seed: int, runs: Path, epochs: int | None = None) -> Model:
    """The trained network, from `runs`; trained first where it is not there. `epochs`: on digits, None the recipe's."""
    if data == "digits":
        run = runs / f"digits-{family}_p2_8-{seed}"
        if not (run / "best.safetensors").exists():
            subprocess.run([sys.executable, "-m", "allmlp", "train", "digits", "--model", f"{family}_p2_8", "--seed",
                            str(seed), "--threads", "1", "--output", str(run), "--quiet", "--overwrite",
                            *(["--epochs", str(epochs)] if epochs else [])], check=True,
                           stdout=subprocess.DEVNULL)  # fmt: skip
        return allmlp.load(run / "best.safetensors").eval()
    path = runs / f"{data}-{family}-{seed}.safetensors"
    if not path.exists():
        scenes = open_data(data)
        model = learn(_for_scenes(family, seed), recipe(seed, STEPS), scenes.splits["train"], preprocess=PREPROCESS)
        assert isinstance(model, Model)
        allmlp.save(model, path)
    return allmlp.load(path).eval()


def _for_scenes(family: str, seed: int) -> Model:
    width, depth = 128, 8
    fields: dict[str, Any] = {"mixer": {"blocks": (MixerConfig(token_hidden=64, channel_hidden=512),)},
                              "resmlp": {"blocks": (ResMLPConfig(channel_hidden=512, layer_scale=0.1),),
                                         "norm": AffineConfig(), "init": "deit"},
                              "gmlp": {"blocks": (GMLPConfig(hidden=512),)}}[family]
    config = ModelConfig(image_size=PREPROCESS.image_size, patch_size=(8, 8), width=width, depth=depth, num_classes=10,
                         **fields)
    return build(config, PREPROCESS, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def planted(model: Model, seed: int) -> Model:
    """The same function with outlier channels."""
    model, draw = copy.deepcopy(model), np.random.default_rng(seed)

    def factors() -> torch.Tensor:
        factor = torch.ones(model.config.width)
        chosen = draw.choice(model.config.width, OUTLIERS, replace=False)
        factor[torch.from_numpy(chosen)] = torch.from_numpy(draw.uniform(30, 100, OUTLIERS)).float()
        return factor

    def scale(name: str, factor: torch.Tensor, axis: int = 0) -> None:
        parameter = model.get_parameter(name)
        parameter.mul_(factor.reshape([-1 if here == axis else 1 for here in range(parameter.ndim)]))

    if model.config.blocks[0].kind == "resmlp":
        factor = factors()
        for name in ("stem.proj.weight", "stem.proj.bias"):
            scale(name, factor)
        scale("norm.alpha", 1 / factor, model.get_parameter("norm.alpha").ndim - 1)
        for block in range(model.config.depth):
            for norm in ("norm1", "norm2"):
                scale(f"blocks.{block}.{norm}.alpha", 1 / factor,
                      model.get_parameter(f"blocks.{block}.{norm}.alpha").ndim - 1)
            for name in ("ls1", "ls2"):
                scale(f"blocks.{block}.{name}", factor)
        return model
    norm = "norm" if model.config.blocks[0].kind == "gmlp" else "norm2"
    for block in range(model.config.depth):
        factor = factors()
        for name in ("weight", "bias"):
            scale(f"blocks.{block}.{norm}.{name}", factor)
        scale(f"blocks.{block}.mlp_channels.fc1.weight", 1 / factor, 1)
    return model


def ours(asked: Asked, precision: native.Precision) -> Predict:
    with tempfile.TemporaryDirectory() as folder:
        native.export(asked.model, Path(folder, "m"), precision, asked.calibration)
        return native.load(Path(folder, "m"), threads=1)


def contenders() -> Iterator[tuple[str, native.Precision, Callable[[Asked], Predict]]]:
    for precision in native.PRECISIONS:
        yield "allmlp", precision, lambda asked, precision=precision: ours(asked, precision)
    for name, peer in PEERS.items():
        yield name, "int8", peer


def compared(logits: np.ndarray, exact: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The figures of a contender; `exact` are PyTorch's logits."""
    difference, spread = logits.astype(np.float64) - exact, float(exact.std())
    right = logits.argmax(1) == labels
    return {"rms_error": float(np.sqrt(np.square(difference).mean())) / spread,
            "largest_error": float(np.abs(difference).max()) / spread, "top1_percent": 100 * float(right.mean()),
            "top1_difference": 100 * float(right.mean() - (exact.argmax(1) == labels).mean()),
            "top1_agreement_percent": 100 * float((logits.argmax(1) == exact.argmax(1)).mean()),
            "images": len(logits)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits,digit-scenes")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--weights", default="trained,planted")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", help="contenders, e.g. allmlp,XNNPACK (default: all)")
    parser.add_argument("--runs", type=Path, default=Path("runs", "accuracy_price"))
    parser.add_argument("--epochs", type=int, help="fewer on digits, for a look")
    parser.add_argument("--csv", type=Path, default=RESULTS, metavar="FILE", help="where rows go")
    parser.add_argument("--train", action="store_true", help="train the networks only")
    parser.add_argument("--table", action="store_true", help="show the rows as in docs/export.md, and measure nothing")
    options = parser.parse_args()
    if options.table:
        print(table(read(options.csv)))
        return
    torch.set_num_threads(1)
    options.runs.mkdir(parents=True, exist_ok=True)
    here = machine()
    versions = " ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "openvino", "nncf", "torchao",
                                                               "executorch") if version(name))  # fmt: skip
    for data in options.data.split(","):
        trained_on, train, test = opened(data)
        for seed in map(int, options.seeds.split(",")):
            for family in options.families.split(","):
                model = network(trained_on, family, seed, options.runs, options.epochs)
                if options.train:
                    continue
                calibration = pictures(train, model.preprocess, CALIBRATION)
                images, labels = pictures(test, model.preprocess, len(test)), np.array(test.labels)
                for weights in options.weights.split(","):
                    version_ = planted(model, seed) if weights == "planted" else model
                    exact = PyTorchPredictor(version_)(images)
                    for name, precision, make in contenders():
                        if options.only and name not in options.only.split(","):
                            continue
                        said = {"data": data, "network": family, "seed": seed, "weights": weights, "contender": name,
                                "precision": precision, "processor": here["processor"], "versions": versions,
                                "commit": here["commit"], "date": datetime.date.today().isoformat(),
                                "command": f"python benchmarks/accuracy_price.py --data {data}"}  # fmt: skip
                        started = time.perf_counter()
                        try:
                            with silent():
                                predict = make(Asked(version_, calibration, folded=weights == "trained"))
                                logits = np.concatenate([predict(part) for part in np.split(
                                    images, range(AT_ONCE, len(images), AT_ONCE))])
                            said |= compared(logits, exact, labels)
                        except Exception as error:  # the tools' own classes: a row that says why
                            said["failure"] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
                        said["seconds"] = f"{time.perf_counter() - started:.1f}"
                        print(*(said.get(column, "") for column in COLUMNS[:13]), flush=True)
                        kept = [old for old in read(options.csv)
                                if any(old[column] != str(said[column]) for column in KEY)]
                        write(options.csv, COLUMNS, [*kept, said])


if __name__ == "__main__":
    main()
