"""Resize: accuracy right after a network is brought to another image size, and after one epoch of fine-tuning.

    python benchmarks/resize.py [--model mixer_p2_8] [--seeds 3] [--skip-fine-tuning]

Each network is trained here, on scikit-learn's digits enlarged to 8 x 8 (for one ratio 7 x 7) patches of 4 x 4 pixels,
with the digits recipe in a short form. Then it is brought to 0.5, 0.75, 1.29, 1.5 and 2 times the size by each method,
and tested on the same 360 digits, enlarged to the new size. Beside the methods of `allmlp.resize` stand
- image: the network stays, and images of the new size are resized to the one it knows;
- patch: the patches grow with the image, so that their number stays (where they get a whole number of pixels);
- none (ratio 1): the same further epoch for the network at its own size, for comparison.

Digits hold no more than 8 x 8 pixels of detail, so a larger image shows nothing new: what is measured is how much of
what the network knows survives, not what a higher resolution is worth. Nothing is chosen on the test images except
`resize`'s "auto", which is read off this table. Rows go to results/resize.csv, in place of those of the same network.
"""

import argparse
import csv
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from allmlp import checkpoint
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.data.dataset import Data
from allmlp.data.digits import open_digits
from allmlp.data.memory import Kept
from allmlp.evaluate.dataset import evaluate_dataset
from allmlp.models.model import Model
from allmlp.models.resize import INTERPOLATIONS, Method, resize
from allmlp.models.variants import create_model
from allmlp.preprocess import Preprocess
from allmlp.recipes import RECIPES
from allmlp.train.loop import run
from allmlp.train.run_folder import machine

RESULTS = Path(__file__).parent.parent / "results" / "resize.csv"
COLUMNS = ("model", "ratio", "method", "seed", "accuracy_before_percent", "accuracy_after_percent",
           "accuracy_after_one_epoch_percent", "old_tokens", "new_tokens", "parameters", "epochs", "cpu_seconds",
           "threads", "processor", "torch", "commit", "date", "command")
PATCH_PX = 4
SIDES = {8: (4, 6, 12, 16), 7: (9,)}  # patches along a side: of training, and of the new sizes
EPOCHS = {"mixer_p2_8": 12, "resmlp_p2_8": 20, "gmlp_p2_8": 12}
DIGITS = RECIPES["digits"]
TRAINING = DIGITS.with_(batch_size=32, crop_ratio=1.0, optimizer=DIGITS.optimizer.with_(learning_rate=2e-3))
FINE_TUNING = TRAINING.with_(schedule=DIGITS.schedule.with_(epochs=1, warmup_epochs=0.1), ema_decay=None,
                             optimizer=DIGITS.optimizer.with_(learning_rate=5e-4))


def trained(name: str, side: int, seed: int, data: Data, epochs: int, folder: Path) -> Model:
    """A network for `side` x `side` patches, trained from scratch."""
    start = folder / "start.safetensors"
    fresh = create_model(name, image_size=PATCH_PX * side, patch_size=PATCH_PX, classes=data.classes, seed=seed)
    checkpoint.save(fresh, start)
    schedule = DIGITS.schedule.with_(epochs=epochs, warmup_epochs=min(1, epochs / 2))
    recipe = TRAINING.with_(init=str(start), model=name, seed=seed, schedule=schedule)
    return run(recipe, data, folder / "run", device="cpu").model


def fine_tuned(model: Model, seed: int, data: Data, folder: Path) -> Model:
    """`model` after one further epoch on `data`."""
    start = folder / "resized.safetensors"
    checkpoint.save(model, start)
    return run(FINE_TUNING.with_(init=str(start), seed=seed), data, folder / "fine", device="cpu", overwrite=True).model


def enlarged(data: Data, preprocess: Preprocess) -> Data:
    """The same images, at the size of `preprocess`."""
    return Data(data.name, data.classes, {name: Kept(part, preprocess) for name, part in data.splits.items()})


def changes(model: Model, old: int, new: int) -> Iterator[tuple[str, Model]]:
    """Each method with the network that it makes of `model` for `new` instead of `old` patches along a side."""
    size_px = PATCH_PX * new
    methods: list[Method] = [*INTERPOLATIONS, *(["block"] if new % old == 0 else [])]
    for method in methods:
        yield method, resize(model, image_size=size_px, method=method)
    yield "image", model
    if size_px % old == 0:
        yield "patch", resize(model, image_size=size_px, patch_size=size_px // old)


def rows(name: str, seed: int, epochs: int, fine_tuning: bool, folder: Path) -> Iterator[dict]:
    """All rows of one network and seed: two trainings from scratch, and what becomes of them."""
    digits = open_digits()

    def accuracy(model: Model, data: Data) -> float:
        percent = evaluate_dataset(PyTorchPredictor(model), data.splits["test"]).score_percent
        assert percent is not None, "digits have test images"
        return percent

    for old, news in SIDES.items():
        model = trained(name, old, seed, digits, epochs, folder / str(old))
        before = accuracy(model, digits)
        for new in (old, *news):
            data = enlarged(digits, model.preprocess.with_(image_size=(PATCH_PX * new, PATCH_PX * new)))
            for method, changed in changes(model, old, new) if new != old else [("none", model)]:
                start = time.process_time()
                row = {"model": name, "ratio": f"{new / old:.2f}", "method": method, "seed": seed, "epochs": epochs,
                       "accuracy_before_percent": before, "accuracy_after_percent": accuracy(changed, data),
                       "old_tokens": old * old, "new_tokens": math.prod(changed.config.grid),
                       "parameters": sum(parameter.numel() for parameter in changed.parameters())}
                if fine_tuning:
                    row["accuracy_after_one_epoch_percent"] = accuracy(fine_tuned(changed, seed, data, folder), data)
                yield {**row, "cpu_seconds": time.process_time() - start}


def write(new: list[dict], where: dict) -> None:
    """Put `new` into the table in place of all rows of the same networks."""
    kept = []
    if RESULTS.exists():
        with RESULTS.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if row["model"] not in {row["model"] for row in new}]
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(kept)
        writer.writerows({key: f"{value:.2f}" if isinstance(value, float) else value
                          for key, value in {**row, **where}.items()} for row in new)


def show(found: list[dict]) -> None:
    """Mean and standard deviation over the seeds, for each ratio and method: right after / after one epoch."""
    def group(row: dict) -> tuple:
        return row["old_tokens"], row["ratio"], row["method"]

    for each in dict.fromkeys(map(group, found)):
        line = f"{each[0]} tokens x {each[1]} {each[2]:14}"
        for column in ("accuracy_after_percent", "accuracy_after_one_epoch_percent"):
            values = [row[column] for row in found if group(row) == each and column in row]
            if values:
                spread = f" ± {np.std(values, ddof=1):4.1f}" if len(values) > 1 else ""
                line += f"  {np.mean(values):5.1f}{spread}"
        print(line)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="mixer_p2_8", choices=EPOCHS)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--epochs", type=int, help="of the training from scratch")
    options.add_argument("--skip-fine-tuning", action="store_true")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--dry", action="store_true", help="leave results/resize.csv as it is")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    epochs, fine_tuning = chosen.epochs or EPOCHS[chosen.model], not chosen.skip_fine_tuning
    about, found = machine(), []
    where = {"threads": chosen.threads, "processor": about["processor"], "torch": about["versions"]["torch"],
             "commit": about["commit"], "date": time.strftime("%Y-%m-%d"),
             "command": f"python benchmarks/resize.py --model {chosen.model} --seeds {chosen.seeds}"
                        + (" --skip-fine-tuning" if chosen.skip_fine_tuning else "")}
    for seed in range(chosen.seeds):
        with tempfile.TemporaryDirectory() as temporary:
            for row in rows(chosen.model, seed, epochs, fine_tuning, Path(temporary)):
                found.append(row)
                print(*(f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}"
                        for key, value in row.items()), sep=", ", flush=True)
    if not chosen.dry:
        write(found, where)
    print(f"\n{chosen.model}: accuracy (%) right after, and after one epoch")
    show(found)


if __name__ == "__main__":
    main()
