"""Few-shot accuracy on scikit-learn's digits, on frozen features, beside k-NN, a linear probe and the network's head.

    python benchmarks/fewshot_digits.py [--seeds 3] [--keep]

Three kinds of features: of the network that `allmlp train digits` makes (which has learnt the labels of the whole
training part: what few-shot then measures is how cleanly its features are sorted), of the same network with fresh
weights, and the pixels themselves. Of each, 1, 5, 10 and 25 images of a class, and all of the training part, are given
to four classifiers: least squares as published (L2 = 1024), least squares with L2 chosen on further training images,
k-NN with as many neighbours as there are shots, 20 at most, and logistic regression. Seed s is that of the network and
of the draw, and all classifiers get the same images. The test part (360 images; one is 0.28 points) decides nothing.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from allmlp import checkpoint
from allmlp.backends import load_features, load_predictor
from allmlp.data.digits import open_digits
from allmlp.errors import BadData
from allmlp.evaluate import evaluate_dataset, predict_dataset
from allmlp.evaluate.fewshot import L2, SHOTS, choose_l2, draw_shots, few_shot
from allmlp.evaluate.knn import NEIGHBOURS, knn_classifier
from allmlp.evaluate.linear import fit_linear
from allmlp.models.variants import create_model
from allmlp.recipes import RECIPES
from allmlp.train.loop import run
from allmlp.train.run_folder import machine
from rows import read, write

RESULTS = Path(__file__).parent.parent / "results" / "fewshot_digits.csv"
COLUMNS = ("features", "classifier", "shots", "l2", "seed", "test_accuracy_percent", "threads", "processor", "cores",
           "torch", "commit", "date", "command")
NUM_CLASSES = 10
ALL = "all"

Features = dict[str, np.ndarray]  # of the splits "train" and "test", (N, C)


def features_of(seed: int, folder: Path) -> Iterator[tuple[str, Features, float | None]]:
    """Each kind of features, and the test accuracy of the network's own head where it has learnt one."""
    data = open_digits()
    recipe = RECIPES["digits"].with_(seed=seed)
    run(recipe, data, folder / "run", device="cpu", loggers=())
    checkpoint.save(create_model(recipe.model, num_classes=NUM_CLASSES, seed=seed), folder / "fresh.safetensors")
    head = evaluate_dataset(load_predictor(folder / "run", "cpu"), data.splits["test"]).score_percent
    models = {"trained": (folder / "run", head), "fresh weights": (folder / "fresh.safetensors", None)}
    for name, (model, accuracy) in models.items():
        predictor = load_features(model, "cpu")
        yield name, {split: predict_dataset(predictor, images) for split, images in data.splits.items()}, accuracy
    pixels = {split: np.stack([images.image(i)[..., 0].ravel() for i in range(len(images))]).astype(np.float32)
              for split, images in data.splits.items()}
    yield "pixels", pixels, None


def measure(features: Features, labels: dict[str, np.ndarray], shots: int | str, seed: int) -> Iterator[dict]:
    """A row for each classifier."""
    number = int(np.bincount(labels["train"]).max()) if shots == ALL else int(shots)
    chosen = draw_shots(labels["train"], number, seed)
    x, y = features["train"][chosen], labels["train"][chosen]

    def row(classifier: str, logits: np.ndarray, l2: float | str = "") -> dict:
        hits = logits.argmax(1) == labels["test"]
        return {"classifier": classifier, "l2": l2, "shots": shots, "test_accuracy_percent": 100 * float(hits.mean())}

    yield row("least squares", few_shot(x, y, features["test"], NUM_CLASSES), L2)
    try:
        l2 = choose_l2(features["train"], labels["train"], NUM_CLASSES, shots=number)
        yield row("least squares, L2 chosen", few_shot(x, y, features["test"], NUM_CLASSES, l2=l2), l2)
    except BadData:  # with all images there are none left to choose on
        assert shots == ALL
    yield row("k-NN", knn_classifier(x, y, NUM_CLASSES, min(NEIGHBOURS, number))(features["test"]))
    yield row("linear probe", fit_linear(x, y, NUM_CLASSES)(features["test"]))


def summary(rows: list[dict]) -> Iterator[str]:
    """Mean and spread over seeds."""
    for key in dict.fromkeys((row["features"], row["classifier"], str(row["shots"])) for row in rows):
        same = [row for row in rows if (row["features"], row["classifier"], str(row["shots"])) == key]
        found = np.array([float(row["test_accuracy_percent"]) for row in same])
        spread = found.std(ddof=1) if len(found) > 1 else 0.0
        used = ", ".join(sorted({f"L2 {float(row['l2']):g}" for row in same if row["l2"]}))
        yield f"{key[0]:14}{key[2]:>4} shots  {key[1]:26}{found.mean():6.2f} ± {spread:.2f} %   {used}"


def main() -> None:
    torch.set_num_threads(1)
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--keep", action="store_true", help="keep the seeds that are there, make the others")
    chosen = options.parse_args()
    about = machine()
    where = {"threads": 1, "processor": about["processor"], "cores": about["cores"],
             "torch": about["versions"]["torch"], "commit": about["commit"], "date": time.strftime("%Y-%m-%d"),
             "command": "python benchmarks/fewshot_digits.py"}
    labels = {split: images.labels for split, images in open_digits().splits.items()}
    rows = read(RESULTS) if chosen.keep else []
    for seed in range(chosen.seeds):
        if str(seed) in {str(row["seed"]) for row in rows}:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for name, features, head in features_of(seed, Path(folder)):
                common = {**where, "features": name, "seed": seed}
                if head is not None:
                    rows.append({**common, "classifier": "the network's head", "shots": ALL,
                                 "test_accuracy_percent": head})
                rows += [{**common, **row} for shots in (*SHOTS, ALL) for row in measure(features, labels, shots, seed)]
        write(RESULTS, COLUMNS, rows)
        print(f"seed {seed} is done", flush=True)
    print(*summary(read(RESULTS)), sep="\n")


if __name__ == "__main__":
    main()
