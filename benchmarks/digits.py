"""Digits: our recipe over seeds, from arrays and from PNG folders, beside an SVM and a small ResNet of timm.

    python benchmarks/digits.py [--seeds 5] [--keep]

All on scikit-learn's 1,797 real digits with the same split (1,437 to train, 360 to test). The SVM's C and gamma are
chosen by cross-validation inside the training part. The ResNet is trained with the same augmentation, optimizer and
schedule, for as long as our runs took. Nothing is chosen on the test part: every network is that of its last epoch.
Rows go to results/digits.csv, one for each training; the summary is printed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC
from torch.nn import functional as F

from allmlp.data.batch import augment_batch
from allmlp.data.digits import open_digits
from allmlp.data.seeds import derived_seed
from allmlp.preprocess import Preprocess, normalise
from allmlp.recipes import RECIPES
from allmlp.train.ema import Ema
from allmlp.train.optimizer import learning_rate_factor, parameter_groups
from allmlp.train.run_folder import machine
from rows import read, write

RESULTS = Path(__file__).parent.parent / "results" / "digits.csv"
COLUMNS = ("what", "seed", "test_accuracy_percent", "training_seconds", "process_seconds", "parameters", "epochs",
           "threads", "processor", "cores", "torch", "commit", "date", "command")
RECIPE = RECIPES["digits"]


def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and test images, uint8 `(N, 8, 8, 3)`, with their classes."""
    splits = open_digits().splits
    stacked = [(np.stack([part.image(i) for i in range(len(part))]), part.labels) for part in
               (splits["train"], splits["test"])]
    return stacked[0][0], stacked[0][1], stacked[1][0], stacked[1][1]


def ours(data: str, seed: int, folder: Path) -> dict:
    """One run of the command line in a process of its own."""
    arguments = ["train", data, "--recipe", "digits", "--seed", str(seed), "--output", str(folder), "--json", "--quiet"]
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "allmlp", *arguments], check=True, text=True, capture_output=True)
    result = json.loads(done.stdout)
    return {"test_accuracy_percent": result["splits"]["test"]["score_percent"], "training_seconds": result["seconds"],
            "process_seconds": time.monotonic() - start, "parameters": result["parameters"], "epochs": result["epochs"],
            "command": f"allmlp train {'digits' if data == 'digits' else 'FOLDER'} --recipe digits --seed {seed}"}


def svm(train_images, train_labels, test_images, test_labels) -> dict:
    """scikit-learn's RBF SVM on the 64 grey values."""
    def flat(images: np.ndarray) -> np.ndarray:
        return images[..., 0].reshape(len(images), -1).astype(np.float64)

    start = time.monotonic()
    search = GridSearchCV(make_pipeline(MinMaxScaler(), SVC()), cv=5, param_grid={
        "svc__C": [1, 3, 10, 30, 100], "svc__gamma": [0.01, 0.02, 0.05, 0.1, 0.2, "scale"]})
    search.fit(flat(train_images), train_labels)
    accuracy = 100 * search.score(flat(test_images), test_labels)
    return {"test_accuracy_percent": accuracy, "training_seconds": time.monotonic() - start,
            "command": f"sklearn.svm.SVC {search.best_params_}"}


def small_resnet() -> torch.nn.Module:
    """timm's ResNet class for 8 x 8 pixels: a 3 x 3 stem without strides or pooling, four basic blocks."""
    model = timm.models.resnet.ResNet(
        timm.models.resnet.BasicBlock, layers=(1, 1, 1, 1), num_classes=10, channels=(24, 32, 48, 64), stem_width=24)
    model.conv1 = torch.nn.Conv2d(3, model.bn1.num_features, 3, padding=1, bias=False)
    torch.nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = torch.nn.Identity()
    return model


def resnet(train_images, train_labels, test_images, test_labels, seed: int, seconds: float) -> dict:
    """`small_resnet` with our recipe's augmentation, optimizer and averaging.

    As many epochs as fit into `seconds` of this process's own time.
    """
    torch.manual_seed(derived_seed(seed, "resnet"))
    model, preprocess = small_resnet(), Preprocess(image_size=(8, 8))
    images, labels = (torch.from_numpy(a) for a in (train_images.transpose(0, 3, 1, 2).copy(), train_labels))
    steps_per_epoch = -(-len(images) // RECIPE.batch_size)
    settings = RECIPE.optimizer
    ema = Ema(model, RECIPE.ema_decay) if RECIPE.ema_decay else None
    optimizer = torch.optim.AdamW(parameter_groups(model, settings.weight_decay), betas=settings.betas, fused=True)
    schedule, start, step, epoch = RECIPE.schedule, time.process_time(), 0, 0
    while epoch < schedule.epochs:
        for chosen in torch.randperm(len(images)).split(RECIPE.batch_size):
            targets = F.one_hot(labels[chosen], 10).float()
            pixels, targets = augment_batch(images[chosen], targets, RECIPE.augment, seed, step)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * learning_rate_factor(schedule, step, steps_per_epoch)
            loss = F.cross_entropy(model(normalise(pixels, preprocess)), targets,
                                   label_smoothing=RECIPE.loss.label_smoothing)
            loss.backward()
            if settings.clip_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            if ema:
                ema.update(model, step)
            step += 1
        epoch += 1
        if epoch == 2:  # the first epoch warms up; the second tells how many there is time for
            second = time.process_time()
        if epoch == 4:
            per_epoch = (time.process_time() - second) / 2
            schedule = schedule.with_(epochs=max(8, int((seconds - (time.process_time() - start)) / per_epoch) + epoch))
    taken = time.process_time() - start
    judged = ema.model if ema else model
    for mine, theirs in zip(judged.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)  # running statistics are not averaged
    with torch.inference_mode():
        logits = judged.eval()(normalise(torch.from_numpy(test_images.transpose(0, 3, 1, 2).copy()), preprocess))
    accuracy = 100 * (logits.argmax(1).numpy() == test_labels).mean()
    return {"test_accuracy_percent": accuracy, "training_seconds": taken, "epochs": epoch,
            "parameters": sum(p.numel() for p in model.parameters()), "command": "benchmarks/digits.py small_resnet()"}


def earlier() -> list[dict]:
    """The rows of an earlier call, figures as numbers."""
    return [row | {name: float(row[name]) for name in ("test_accuracy_percent", "training_seconds")}
            for row in read(RESULTS)]


def main() -> None:
    torch.set_num_threads(1)  # as our runs have it: a second thread does not speed up networks so small
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--keep", action="store_true", help="keep the rows that are there, make the others")
    chosen = options.parse_args()
    about = machine()
    rows = earlier() if chosen.keep else []
    where = {"threads": torch.get_num_threads(), "processor": about["processor"], "cores": about["cores"],
             "torch": about["versions"]["torch"], "commit": about["commit"], "date": time.strftime("%Y-%m-%d")}

    def note(what: str, seed: int | str, row: dict) -> None:
        rows.append({**dict.fromkeys(COLUMNS, ""), **where, "what": what, "seed": str(seed), **row})
        print(f"{what:22} seed {seed}: {row['test_accuracy_percent']:.2f} % in {row['training_seconds']:.1f} s",
              flush=True)
        write(RESULTS, COLUMNS, rows)

    def missing(what: str) -> list[int]:
        there = {row["seed"] for row in rows if row["what"] == what}
        return [seed for seed in range(chosen.seeds) if str(seed) not in there]

    data = arrays()
    if not any(row["what"] == "SVM (RBF)" for row in rows):
        note("SVM (RBF)", "", svm(*data))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "png"
        subprocess.run([sys.executable, "-m", "allmlp", "data", "write", "digits", str(folder)], check=True,
                       capture_output=True)
        for seed in missing(RECIPE.model):
            note(RECIPE.model, seed, ours("digits", seed, Path(temporary) / f"run{seed}"))
        seconds = float(np.median([row["training_seconds"] for row in rows if row["what"] == RECIPE.model]))
        for seed in missing("timm ResNet"):
            note("timm ResNet", seed, resnet(*data, seed=seed, seconds=seconds))
        for seed in missing(f"{RECIPE.model}, PNG folder"):
            note(f"{RECIPE.model}, PNG folder", seed, ours(str(folder), seed, Path(temporary) / f"png{seed}"))
    print()
    for what in dict.fromkeys(row["what"] for row in rows):
        accuracies = [row["test_accuracy_percent"] for row in rows if row["what"] == what]
        seconds = [row["training_seconds"] for row in rows if row["what"] == what]
        spread = f" ± {np.std(accuracies, ddof=1):.2f}" if len(accuracies) > 1 else ""
        print(f"{what:22} {np.mean(accuracies):.2f}{spread} %, {len(accuracies)} seeds, at most {max(seconds):.0f} s")


if __name__ == "__main__":
    main()
