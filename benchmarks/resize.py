"""Resize: accuracy right after a network is brought to another image size, and after one epoch of fine-tuning.

    python benchmarks/resize.py [--model mixer_p2_8] [--seeds 3] [--skip-fine-tuning]

Each network is trained here, on scikit-learn's digits enlarged to 8 x 8 (for one ratio 7 x 7) patches of 4 x 4 pixels,
with the digits recipe in a short form. Then it is brought to 0.5, 0.75, 1.29, 1.5 and 2 times the size by each method,
and tested on the same 360 digits, enlarged to the new size. Beside the methods of `allmlp.resize` stand
- image: the network stays, and images of the new size are resized to the one it knows;
- patch: the patches grow with the image, so that their number stays (where they get a whole number of pixels);
- none (ratio 1): the same further epoch for the network at its own size, for comparison.

`constant_images_change_percent`: how far the pooled features of five grey, constant images move by the change alone, in
the mean over channels and images, relative to the features' standard deviation over the test digits.

Digits hold no more than 8 x 8 pixels of detail, so a larger image shows nothing new: what is measured is how much of
what the network knows survives, not what a higher resolution is worth. Nothing is chosen on the test images except
`resize`'s "auto", which is read off this table. Rows go to results/resize.csv, in place of those of the same network.
"""

import argparse
import copy
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
from allmlp.models.resize import INTERPOLATIONS, Method
from allmlp.models.variants import create_model
from allmlp.preprocess import Preprocess, to_network_input
from allmlp.recipes import RECIPES
from allmlp.reproduce.resolution import changes
from allmlp.train.loop import run
from allmlp.train.run_folder import machine
from rows import read, write

RESULTS = Path(__file__).parent.parent / "results" / "resize.csv"
COLUMNS = ("model", "ratio", "method", "seed", "accuracy_before_percent", "accuracy_after_percent",
           "accuracy_after_one_epoch_percent", "constant_images_change_percent", "old_tokens", "new_tokens",
           "parameters", "epochs", "cpu_seconds", "threads", "processor", "torch", "commit", "date", "command")
PATCH_PX = 4
GREYS = np.array([0, 64, 128, 191, 255], np.uint8)[:, None, None, None]
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


def pooled(model: Model, images: np.ndarray) -> torch.Tensor:
    """Features `(N, C)` in float64 of uint8 images of the model's size."""
    model = copy.deepcopy(model).double()
    with torch.no_grad():
        tokens = model.forward_features(to_network_input(images, model.preprocess).double())
        return model.forward_head(tokens, pre_logits=True)


def constant_images_change_percent(model: Model, changed: Model, digits: np.ndarray) -> float:
    """See above; `digits`: images of the old size."""
    greys = [np.ones((5, *each.preprocess.image_size, 3), np.uint8) * GREYS for each in (model, changed)]
    moved = (pooled(changed, greys[1]) - pooled(model, greys[0])).abs().mean()
    return 100 * float(moved / pooled(model, digits).std(0).mean())


def rows(name: str, seed: int, epochs: int, fine_tuning: bool, folder: Path) -> Iterator[dict]:
    """All rows of one network and seed: two trainings from scratch, and what becomes of them."""
    digits = open_digits()

    def accuracy(model: Model, data: Data) -> float:
        percent = evaluate_dataset(PyTorchPredictor(model), data.splits["test"]).score_percent
        assert percent is not None, "digits have test images"
        return percent

    for old, news in SIDES.items():
        model = trained(name, old, seed, digits, epochs, folder / str(old))
        before, known = accuracy(model, digits), Kept(digits.splits["test"], model.preprocess).images
        for new in (old, *news):
            data = enlarged(digits, model.preprocess.with_(image_size=(PATCH_PX * new, PATCH_PX * new)))
            methods: list[Method] = [*INTERPOLATIONS, *(["block"] if new % old == 0 else [])]
            made = changes(model, PATCH_PX * new, methods) if new != old else [("none", model)]
            for method, changed in made:
                start = time.process_time()
                row = {"model": name, "ratio": f"{new / old:.2f}", "method": method, "seed": seed, "epochs": epochs,
                       "accuracy_before_percent": before, "accuracy_after_percent": accuracy(changed, data),
                       "old_tokens": old * old, "new_tokens": math.prod(changed.config.grid),
                       "parameters": sum(parameter.numel() for parameter in changed.parameters())}
                row["constant_images_change_percent"] = constant_images_change_percent(model, changed, known)
                if fine_tuning:
                    row["accuracy_after_one_epoch_percent"] = accuracy(fine_tuned(changed, seed, data, folder), data)
                yield {**row, "cpu_seconds": time.process_time() - start}


def as_text(row: dict) -> dict[str, str]:
    return {key: f"{value:.2f}" if isinstance(value, float) else str(value) for key, value in row.items()}


def show(table: list[dict]) -> None:
    """For each network and column a table in Markdown: methods down, ratios across, mean ± deviation over the seeds."""
    for name in dict.fromkeys(row["model"] for row in table):
        rows = [row for row in table if row["model"] == name]
        ratios = sorted({row["ratio"] for row in rows} - {"1.00"}, key=float)
        before = [float(row["accuracy_before_percent"]) for row in rows if row["method"] == "none"]
        print(f"\n{name}: {np.mean(before):.1f} % before, {len({row['seed'] for row in rows})} seeds")
        for column in COLUMNS[5:8]:
            if not all(row[column] for row in rows):
                continue
            print(f"\n{column}\n\n| method | " + " | ".join(ratios) + " |\n|---" + "|---" * len(ratios) + "|")
            for method in dict.fromkeys(row["method"] for row in rows if row["ratio"] != "1.00"):
                cells = [[float(row[column]) for row in rows if (row["method"], row["ratio"]) == (method, ratio)]
                         for ratio in ratios]
                print(f"| {method} | " + " | ".join(map(mean_and_deviation, cells)) + " |")


def mean_and_deviation(values: list[float]) -> str:
    if not values:
        return "–"
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="mixer_p2_8", choices=EPOCHS)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--epochs", type=int, help="of the training from scratch")
    options.add_argument("--skip-fine-tuning", action="store_true")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--show", action="store_true", help="print the tables of results/resize.csv, measure nothing")
    options.add_argument("--dry", action="store_true", help="leave results/resize.csv as it is")
    chosen = options.parse_args()
    if chosen.show:
        show(read(RESULTS))
        return
    torch.set_num_threads(chosen.threads)
    epochs, fine_tuning = chosen.epochs or EPOCHS[chosen.model], not chosen.skip_fine_tuning
    about, found = machine(), []
    where = {"threads": chosen.threads, "processor": about["processor"], "torch": about["versions"]["torch"],
             "commit": about["commit"], "date": time.strftime("%Y-%m-%d"),
             "command": f"python benchmarks/resize.py --model {chosen.model} --seeds {chosen.seeds}"
                        + (f" --epochs {chosen.epochs}" if chosen.epochs else "")
                        + (" --skip-fine-tuning" if chosen.skip_fine_tuning else "")}
    for seed in range(chosen.seeds):
        with tempfile.TemporaryDirectory() as temporary:
            for row in rows(chosen.model, seed, epochs, fine_tuning, Path(temporary)):
                found.append(row)
                print(*(f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}"
                        for key, value in row.items()), sep=", ", flush=True)
    found = [as_text({**dict.fromkeys(COLUMNS, ""), **row, **where}) for row in found]
    if not chosen.dry:
        write(RESULTS, COLUMNS, [row for row in read(RESULTS) if row["model"] != chosen.model] + found)
    show(found)


if __name__ == "__main__":
    main()
