"""What SAM, distillation and DINO bring to a small Mixer with few labels, beside the plain recipe at equal epochs.

    python benchmarks/objectives.py [--seeds 3] [--sizes 10 30] [--keep]

Of scikit-learn's digits each seed draws 10, and 30, images of each class from the training part. Every method learns
from these same images by the digits recipe, in batches of 32, for as many epochs, and is measured on the fixed test
part (360 images; one is 0.28 points). What had to be chosen was chosen on other images of the training part, with
another seed (docs/log.md); the test part decided nothing.

- plain; SAM, whose steps cost two;
- distillation from the same Mixer: soft from one that was trained on the same images for twice the epochs, soft and
  hard from one that was trained on the whole training part;
- DINO on the whole training part without labels: k-NN, a linear probe and fine-tuning with the labels of the few; k-NN
  and probe on the features of fresh weights beside them.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allmlp import checkpoint
from allmlp.backends import Predictor, load_features
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.data.dataset import Data, ImageDataset, Subset
from allmlp.data.digits import open_digits
from allmlp.data.seeds import generator
from allmlp.evaluate import evaluate_dataset
from allmlp.evaluate.knn import NEIGHBOURS, knn_predictor
from allmlp.evaluate.linear import linear_probe
from allmlp.models.variants import create_model
from allmlp.recipe import Distillation, Recipe
from allmlp.recipes import RECIPES
from allmlp.train.loop import run
from allmlp.train.run_folder import machine
from rows import read, write

RESULTS = Path(__file__).parent.parent / "results" / "objectives.csv"
COLUMNS = ("what", "images_per_class", "seed", "test_accuracy_percent", "epochs", "cpu_seconds", "threads", "processor",
           "cores", "torch", "commit", "date", "command")
SIZES = (10, 30)  # images of a class
EPOCHS: dict[int | str, int] = {10: 75, 30: 35, "all": 12}  # some 300 steps, and 540
DINO, SAM, DISTILL = RECIPES["digits_dino"], RECIPES["digits_sam"], RECIPES["digits_distill"]


def plain(images_per_class: int | str, seed: int) -> Recipe:
    """The digits recipe for few images."""
    recipe = RECIPES["digits"].with_(batch_size=32, seed=seed, expected=None)
    return recipe.with_(schedule=recipe.schedule.for_epochs(EPOCHS[images_per_class]),
                        optimizer=recipe.optimizer.with_(learning_rate=4e-3))


def draw(train: ImageDataset, images_per_class: int, seed: int) -> Subset:
    """So many images of each class, another choice for each seed."""
    order = generator(seed, "few labels").permutation(len(train))
    chosen = [order[train.labels[order] == k][:images_per_class] for k in range(len(train.classes))]
    return Subset(train, np.sort(np.concatenate(chosen)))


def learn(recipe: Recipe, train: ImageDataset, folder: Path) -> Path:
    """A run that sees no other image; returns its folder."""
    run(recipe, Data("digits", tuple(train.classes), {"train": train}), folder, device="cpu", loggers=())
    return folder


def of(folder: Path) -> Predictor:
    return PyTorchPredictor(checkpoint.load(folder))


def accuracy(predictor: Predictor, test: ImageDataset) -> float:
    found = evaluate_dataset(predictor, test).score_percent
    assert found is not None
    return found


def by_teacher(folder: Path, **changes: Any) -> Distillation:
    """The recipe's distillation, from the network of a run."""
    assert DISTILL.distillation is not None
    return DISTILL.distillation.with_(teacher=str(folder), **changes)


def neighbours(features: Predictor, train: ImageDataset) -> Predictor:
    """DINO's 20 are few of ImageNet's 1,281 images a class; here at most as many as a class has."""
    return knn_predictor(features, train, min(NEIGHBOURS, len(train) // len(train.classes)))


def measure(seed: int, sizes: list[int], train: ImageDataset, test: ImageDataset, folder: Path) -> Iterator[dict]:
    """A row for each method and size, the test accuracy of one seed."""
    def row(what: str, size: int | str, seconds: float, found: float, epochs: float | str = "") -> dict:
        return {"what": what, "images_per_class": size, "seed": seed, "test_accuracy_percent": found, "epochs": epochs,
                "cpu_seconds": seconds}

    taught, seconds = timed(lambda: learn(plain("all", seed + 1000), train, folder / "teacher"))
    yield row("teacher, all images", "all", seconds, accuracy(of(taught), test), EPOCHS["all"])
    dino, seconds = timed(lambda: learn(DINO.with_(seed=seed), train, folder / "dino"))
    for size in sizes:
        few, recipe, here = draw(train, size, seed), plain(size, seed), folder / str(size)
        longer = recipe.with_(schedule=recipe.schedule.for_epochs(2 * EPOCHS[size]), seed=seed + 1000)
        for what, recipe_here in {
            "plain": recipe,
            "SAM": recipe.with_(optimizer=recipe.optimizer.with_(sam_rho=SAM.optimizer.sam_rho)),
            "teacher, same images, twice the epochs": longer,
            "distilled from it, soft": recipe.with_(
                distillation=by_teacher(here / "teacher, same images, twice the epochs")),
            "distilled from teacher of all, soft": recipe.with_(distillation=by_teacher(taught)),
            "distilled from teacher of all, hard": recipe.with_(distillation=by_teacher(taught, kind="hard")),
            "DINO, fine-tuned": recipe.with_(init=str(dino)),
        }.items():
            learnt, taken = timed(lambda: learn(recipe_here, few, here / what))  # noqa: B023
            yield row(what, size, taken, accuracy(of(learnt), test), recipe_here.schedule.epochs)
        fresh = here / "fresh.safetensors"
        checkpoint.save(create_model(recipe.model, num_classes=10, seed=seed), fresh)
        for what, model, spent in (("DINO", dino, seconds), ("fresh weights", fresh, 0.0)):
            features = load_features(model, "cpu")
            for how, fit in (("k-NN", neighbours), ("linear probe", linear_probe)):
                yield row(f"{what}, {how}", size, spent, accuracy(fit(features, few), test),
                          DINO.schedule.epochs if model is dino else "")


def timed(make: Callable[[], Path]) -> tuple[Path, float]:
    """What `make` returns, and this process's own seconds."""
    start = time.process_time()
    return make(), time.process_time() - start


def summary(rows: list[dict]) -> Iterator[str]:
    """Mean and spread over seeds, and of the difference to the plain recipe with the same images."""
    score = {(row["what"], str(row["images_per_class"]), str(row["seed"])): float(row["test_accuracy_percent"])
             for row in rows}
    for what, size in dict.fromkeys((what, size) for what, size, _ in score):
        seeds = [seed for w, s, seed in score if (w, s) == (what, size)]
        found = np.array([score[what, size, seed] for seed in seeds])
        line = f"{size:>4} {what:40} {found.mean():6.2f} ± {found.std(ddof=min(1, len(found) - 1)):.2f} %"
        if ("plain", size, seeds[0]) in score and what != "plain":
            more = found - np.array([score["plain", size, seed] for seed in seeds])
            line += f"   {more.mean():+.2f} ({', '.join(f'{value:+.2f}' for value in more)}) to plain"
        yield line


def main() -> None:
    torch.set_num_threads(1)
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), choices=SIZES, help="images of a class")
    options.add_argument("--keep", action="store_true", help="keep the rows that are there, make the others")
    chosen = options.parse_args()
    about = machine()
    rows = read(RESULTS) if chosen.keep else []
    where = {"threads": torch.get_num_threads(), "processor": about["processor"], "cores": about["cores"],
             "torch": about["versions"]["torch"], "commit": about["commit"], "date": time.strftime("%Y-%m-%d"),
             "command": "python benchmarks/objectives.py"}
    splits = open_digits().splits
    for seed in range(chosen.seeds):
        there = {row["images_per_class"] for row in rows if row["seed"] == str(seed)}
        sizes = [size for size in chosen.sizes if str(size) not in there]
        made: list[dict] = []
        with tempfile.TemporaryDirectory() as temporary:
            for row in measure(seed, sizes, splits["train"], splits["test"], Path(temporary)) if sizes else ():
                if str(row["images_per_class"]) in there:
                    continue
                made.append({**where, **row})
                print(f"{row['images_per_class']!s:>4} {row['what']:40} seed {seed}: "
                      f"{row['test_accuracy_percent']:.2f} % in {row['cpu_seconds']:.0f} s", flush=True)
        rows += made
        write(RESULTS, COLUMNS, rows)
    print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
