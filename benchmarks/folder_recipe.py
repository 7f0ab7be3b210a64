"""Our recipe for a small folder of images beside a plain one, on few real digits per class, with and without weights.

    python benchmarks/folder_recipe.py [--per-class 10 30] [--seeds 3] [--keep]

Each seed draws its own training images (10, 30, … of each class) out of the training part of scikit-learn's digits,
which are written as a folder of PNG files and read back; the test part is that of `benchmarks/digits.py`. "plain" is
AdamW with a cosine and nothing else; both have 100 epochs and the same network, and the last epoch is measured. The
recipe was chosen on the images that no subset trains on, never on the test part (docs/log.md). Mirror images are off,
as digits must not be mirrored.

"pretrained": the same, but for the classes 5 to 9 only, from the weights of a network that learned 0 to 4 with the
`digits` recipe on all their training images, beside fresh weights. It stands for weights of related images; what
weights of ImageNet would give is not measured.
Rows go to results/folder_recipe.csv, one for each training; the summary is printed.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from allmlp import checkpoint
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.data import open_data
from allmlp.data.dataset import Data, ImageDataset, Subset
from allmlp.data.digits import open_digits
from allmlp.data.seeds import generator
from allmlp.data.write import write_folder
from allmlp.evaluate.dataset import evaluate_dataset
from allmlp.recipe import Optimizer, Recipe, Schedule
from allmlp.recipes import RECIPES, folder
from allmlp.train.loop import run
from allmlp.train.run_folder import machine
from rows import read, write

RESULTS = Path(__file__).parent.parent / "results" / "folder_recipe.csv"
COLUMNS = ("what", "per_class", "classes", "seed", "test_accuracy_percent", "training_seconds", "steps", "epochs",
           "batch_size", "threads", "processor", "cores", "torch", "commit", "date", "command")
NETWORK = "mixer_p2_8"
PLAIN = Recipe(name="plain", model=NETWORK, optimizer=Optimizer(learning_rate=1e-3, weight_decay=0.05),
               schedule=Schedule(epochs=100, warmup_epochs=5), batch_size=64)


class Renumbered:
    """Images of some classes, numbered anew."""

    def __init__(self, images: ImageDataset, classes: range):
        kept = np.flatnonzero(np.isin(images.labels, list(classes)))
        self.subset = Subset(images, kept)
        self.classes = tuple(images.classes[number] for number in classes)
        self.labels = self.subset.labels - classes.start

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        return self.subset.image(index)

    def name(self, index: int) -> str:
        return self.subset.name(index)


def digits(classes: range) -> Data:
    splits = {name: Renumbered(images, classes) for name, images in open_digits().splits.items()}
    return Data("digits", splits["train"].classes, splits)


def few(data: Data, per_class: int, seed: int, out: Path) -> Data:
    """`per_class` training images of each class and all test images, as a folder of PNG files that is read again."""
    train = data.splits["train"]
    draws = generator(seed, "few", per_class)
    numbers = [draws.permutation(np.flatnonzero(train.labels == label))[:per_class]
               for label in range(len(data.classes))]
    write_folder(Data(data.name, data.classes, {**data.splits, "train": Subset(train, np.concatenate(numbers))}), out)
    return open_data(str(out))


def trained(recipe: Recipe, data: Data, out: Path) -> dict:
    """The test accuracy of a recipe's last epoch, and what it took."""
    outcome = run(recipe, Data(data.name, data.classes, {"train": data.splits["train"]}), out, loggers=())
    accuracy = evaluate_dataset(PyTorchPredictor(outcome.model), data.splits["test"]).score_percent
    return {"test_accuracy_percent": accuracy, "training_seconds": outcome.counters.seconds,
            "steps": outcome.counters.step, "epochs": recipe.schedule.epochs, "batch_size": recipe.batch_size}


def ours(num_images: int) -> Recipe:
    recipe = folder.for_images(num_images).with_(model=NETWORK)
    return recipe.with_(augment=recipe.augment.with_(horizontal_flip=0.0))


def trainings(per_class: int, seed: int, place: Path, weights: Path) -> Iterator[tuple[str, Recipe, Data]]:
    """What is compared for one subset: name, recipe, data."""
    whole = few(digits(range(10)), per_class, seed, place / "ten")
    yield "plain", PLAIN, whole
    yield "plain, our batch", PLAIN.with_(batch_size=ours(10 * per_class).batch_size), whole
    yield "folder", ours(10 * per_class), whole
    half = few(digits(range(5, 10)), per_class, seed, place / "five")
    yield "folder, fresh, classes 5-9", ours(5 * per_class), half
    yield "folder, pretrained on 0-4", ours(5 * per_class).with_(init=str(weights)), half


def main() -> None:
    torch.set_num_threads(1)
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--per-class", type=int, nargs="+", default=[10, 30])
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--keep", action="store_true", help="keep the rows that are there, make the others")
    chosen = options.parse_args()
    about = machine()
    where = {"threads": 1, "processor": about["processor"], "cores": about["cores"], "commit": about["commit"],
             "torch": about["versions"]["torch"], "date": time.strftime("%Y-%m-%d"),
             "command": "python benchmarks/folder_recipe.py"}
    rows = [row | {"test_accuracy_percent": float(row["test_accuracy_percent"])} for row in read(RESULTS)]
    rows = rows if chosen.keep else []
    there = {(row["what"], row["per_class"], row["seed"]) for row in rows}
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / "weights.safetensors"
        pretraining = digits(range(5))
        learned = run(RECIPES["digits"], Data("digits", pretraining.classes, {"train": pretraining.splits["train"]}),
                      Path(temporary) / "pretraining", loggers=())
        checkpoint.save(learned.model, weights, {})
        for per_class in chosen.per_class:
            for seed in range(chosen.seeds):
                place = Path(temporary) / f"{per_class}-{seed}"
                for number, (what, recipe, data) in enumerate(trainings(per_class, seed, place, weights)):
                    if (what, str(per_class), str(seed)) in there:
                        continue
                    row = trained(recipe.with_(seed=seed), data, place / f"run{number}")
                    rows.append({**where, "what": what, "per_class": str(per_class), "seed": str(seed),
                                 "classes": len(data.classes), **row})
                    print(f"{what:27} {per_class:4} per class, seed {seed}: {row['test_accuracy_percent']:.2f} % in "
                          f"{row['steps']} steps, {row['training_seconds']:.0f} s", flush=True)
                    write(RESULTS, COLUMNS, rows)
    print()
    for what, per_class in dict.fromkeys((row["what"], row["per_class"]) for row in rows):
        found = [row["test_accuracy_percent"] for row in rows if (row["what"], row["per_class"]) == (what, per_class)]
        spread = f" ± {np.std(found, ddof=1):.2f}" if len(found) > 1 else ""
        print(f"{what:27} {per_class:>4} per class: {np.mean(found):.2f}{spread} %, {len(found)} seeds")


if __name__ == "__main__":
    main()
