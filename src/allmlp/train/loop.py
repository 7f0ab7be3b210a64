"""Training, one function to be read top to bottom.

Randomness has no state: the order of an epoch follows from (seed, epoch), an image's augmentation from (seed, epoch,
image), a batch's from (seed, step), stochastic depth from (seed, step, part). A run that is stopped and resumed at any
step therefore ends as one that was not, bit for bit on the same machine and threads.

Which epoch is "best": the one with the highest validation accuracy, when there is a validation split. Without one,
"best" is the last epoch: a test split is watched, never chosen on.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from allmlp import checkpoint
from allmlp.backends.pytorch import PyTorchPredictor, choose_device
from allmlp.data.batch import augment_batch
from allmlp.data.dataset import Data
from allmlp.data.loader import Loader
from allmlp.data.memory import kept_where_it_fits
from allmlp.data.picture import batch_titles, save_batch_picture
from allmlp.data.seeds import derived_seed
from allmlp.errors import BadSetting, TrainingStopped
from allmlp.evaluate.dataset import evaluate_dataset
from allmlp.models.model import Model
from allmlp.models.resize import resize
from allmlp.models.variants import create_model
from allmlp.preprocess import normalise
from allmlp.recipe import Recipe
from allmlp.train import run_folder
from allmlp.train.display import Display, SilentDisplay
from allmlp.train.ema import Ema
from allmlp.train.first_batch import first_batch
from allmlp.train.losses import build_loss, to_targets
from allmlp.train.optimizer import build_optimizer, learning_rate_factor, total_steps
from allmlp.train.state import Counters, load_state, save_state
from allmlp.train.stop import StopRequest

SAVE_EVERY_SECONDS = 60.0  # at most this much work is lost to a kill; saving itself takes milliseconds to seconds


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `stopped`: None when it is complete, else why it is not ("SIGINT", "time limit")."""

    output: Path
    model: Model  # the one to use: averaged where the recipe averages, best where there is a validation split
    counters: Counters
    stopped: str | None
    finished_by: str  # "schedule" or "early stopping"
    first_images: torch.Tensor  # the first training batch as the network saw it, uint8 (N, 3, H, W)


def run(
    recipe: Recipe,
    data: Data,
    output: str | Path,
    *,
    device: str = "auto",
    workers: int = 0,
    time_limit_minutes: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    source: dict[str, Any] | None = None,
    display: Display | None = None,
) -> Outcome:
    """Train `recipe` on `data` into the run folder `output`.

    `workers`: processes that load images (0: this one). `time_limit_minutes`: stop after so many minutes of this call,
    saved so that `resume` can go on. `source`: how `data` was opened, noted in `run.json`. Raises `AllMLPError`:
    `BadSetting` for settings that fit neither model nor data, `CannotWrite` for a full disk, `TrainingStopped` at the
    first non-finite loss.
    """
    output, display, started = Path(output), display or SilentDisplay(), time.monotonic()
    where = choose_device(device)
    run_folder.prepare(output, recipe, resume, overwrite)

    torch.manual_seed(recipe.seed)
    # What is resumed was saved whole; the file that the run started from may be gone by now.
    model = checkpoint.load(output / "last.safetensors") if resume else starting_model(recipe, data)
    model = model.to(where)
    preprocess = model.preprocess
    if recipe.freeze_backbone:
        model.requires_grad_(False)
        model.head.requires_grad_(True)
    ema = Ema(model, recipe.ema_decay) if recipe.ema_decay else None
    optimizer = build_optimizer(model, recipe.optimizer)
    train_data = data.splits["train"]
    loss_of = build_loss(recipe.loss, train_data.labels, len(data.classes), where)
    loader = Loader(train_data, preprocess, recipe.augment, recipe.batch_size, recipe.seed, workers)
    watched = "val" if "val" in data.splits else "test" if "test" in data.splits else None
    watched_data = kept_where_it_fits(data.splits[watched], preprocess, workers) if watched else None
    if recipe.early_stopping_epochs and watched != "val":
        raise BadSetting("early_stopping_epochs needs a validation split (a val/ folder), and there is none")

    counters = Counters()
    first_images, targets = first_batch(loader, recipe, len(data.classes))
    if resume:
        counters = load_state(output / "state.safetensors", model, ema, optimizer)
        display.say(f"going on at step {counters.step} of {output}")
    else:
        run_folder.write_start(output, recipe, data, {"device": str(where), "threads": torch.get_num_threads(),
                                                      "workers": workers, "source": source})
        save_batch_picture(first_images, batch_titles(targets, data.classes), output / "batch.png")
    last_step = total_steps(recipe.schedule, loader.steps_per_epoch)
    judged = ema.model if ema else model  # the network that is evaluated and saved
    writer = SummaryWriter(str(output), purge_step=counters.step)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stopped, finished_by, saved_at = None, "schedule", time.monotonic()
    clock_start = time.monotonic() - counters.seconds

    def save() -> None:
        counters.seconds = time.monotonic() - clock_start
        checkpoint.save(judged, output / "last.safetensors", _provenance(recipe, counters))
        save_state(output / "state.safetensors", model, ema, optimizer, counters)
        run_folder.write_history(output, counters.history)

    with StopRequest() as stop:
        while counters.step < last_step and not counters.finished:
            epoch, start = divmod(counters.step, loader.steps_per_epoch)
            epoch_started, epoch_first_image = time.monotonic(), counters.epoch_images
            model.train(not recipe.freeze_backbone)
            row: dict[str, Any] = {}
            left = 0.0
            for images, labels, indices in loader.epoch(epoch, start):
                # One optimizer step.
                targets = to_targets(labels.to(where, non_blocking=True), len(data.classes))
                pixels = images.to(where, non_blocking=True)
                pixels, targets = augment_batch(pixels, targets, recipe.augment, recipe.seed, counters.step)
                rate = recipe.optimizer.learning_rate * learning_rate_factor(recipe.schedule, counters.step,
                                                                             loader.steps_per_epoch)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                batch_loss = 0.0
                for part in range(recipe.gradient_accumulation):
                    part_pixels = pixels[part :: recipe.gradient_accumulation]
                    if len(part_pixels) == 0:
                        continue
                    torch.manual_seed(derived_seed(recipe.seed, "depth", counters.step, part))
                    with torch.autocast(where.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                        logits = model(normalise(part_pixels, preprocess))
                    share = len(part_pixels) / len(pixels)
                    loss = loss_of(logits, targets[part :: recipe.gradient_accumulation]) * share
                    loss.backward()
                    batch_loss += loss.item()
                if not math.isfinite(batch_loss):
                    _stop_on_non_finite(batch_loss, counters, epoch, [train_data.name(int(i)) for i in indices], output)
                if recipe.optimizer.clip_norm:
                    nn.utils.clip_grad_norm_(learning, recipe.optimizer.clip_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if ema:
                    ema.update(model, counters.step)
                counters.step += 1
                counters.epoch_loss_sum += batch_loss * len(images)
                counters.epoch_images += len(images)

                # What a person sees, and when to stop.
                now = time.monotonic()
                row = {
                    "epoch": epoch + 1, "step": counters.step, "lr": rate,
                    "train_loss": counters.epoch_loss_sum / counters.epoch_images,
                    "images_per_second": (counters.epoch_images - epoch_first_image) / max(now - epoch_started, 1e-9),
                    "seconds": now - clock_start,
                }
                left = (now - clock_start) / counters.step * (last_step - counters.step)
                display.step(counters.step, last_step, {**row, "seconds_left": left})
                if stop.signal:
                    stopped = stop.signal.name
                elif time_limit_minutes is not None and now - started > 60 * time_limit_minutes:
                    stopped = "time limit"
                if stopped or counters.step == last_step:
                    break
                if now - saved_at > SAVE_EVERY_SECONDS:
                    save()
                    saved_at = time.monotonic()

            epoch_done = counters.step % loader.steps_per_epoch == 0 or counters.step == last_step
            if epoch_done:
                if watched_data:
                    found = evaluate_dataset(PyTorchPredictor(judged), watched_data, workers)
                    row |= {"eval_split": watched, "eval_loss": found.metrics.negative_log_likelihood,
                            "eval_score": found.score_percent, "score_name": found.score_name,
                            "eval_top1": getattr(found.metrics, "top1_percent", None),
                            "eval_top5": getattr(found.metrics, "top5_percent", None)}
                counters.history.append(row)
                counters.epoch_loss_sum, counters.epoch_images = 0.0, 0
                for key in ("train_loss", "lr", "images_per_second", "eval_loss", "eval_score"):
                    if row.get(key) is not None:
                        writer.add_scalar(key, row[key], counters.step)
                score = row.get("eval_score") if watched == "val" else None
                if score is not None and (counters.best_score is None or score > counters.best_score):
                    counters.best_score, counters.best_epoch = score, epoch + 1
                    checkpoint.save(judged, output / "best.safetensors", _provenance(recipe, counters))
                patience = recipe.early_stopping_epochs
                if patience and epoch + 1 - counters.best_epoch >= patience:
                    counters.finished, finished_by = True, "early stopping"
                display.epoch(counters.step, last_step, {**row, "seconds_left": left})
            if stopped and counters.step < last_step:
                break
            stopped = None

        counters.finished = counters.finished or counters.step >= last_step
        if not counters.best_epoch and counters.finished:
            counters.best_epoch = len(counters.history)
        save()
    writer.close()
    if counters.best_score is None:
        checkpoint.save(judged, output / "best.safetensors", _provenance(recipe, counters))
    return Outcome(output, checkpoint.load(output / "best.safetensors", str(where)), counters, stopped, finished_by,
                   first_images)


def starting_model(recipe: Recipe, data: Data) -> Model:
    """The network a recipe starts from: fresh, or the weights of `recipe.init` with a head for the data's classes.

    Weights come to `recipe.image_size` by `resize`; the head keeps the rows of classes that it knew by name.
    """
    if recipe.init:
        model = checkpoint.load_at(recipe.init, recipe.image_size)
        if model.classes != data.classes:
            model = resize(model, classes=data.classes, seed=recipe.seed)
    else:
        model = create_model(recipe.model, image_size=recipe.image_size, classes=data.classes,
                             stochastic_depth=recipe.stochastic_depth, seed=recipe.seed)
    changes = {"crop_ratio": recipe.crop_ratio, "interpolation": recipe.interpolation}
    changes = {key: value for key, value in changes.items() if value is not None}
    model.preprocess = model.preprocess.with_(**changes) if changes else model.preprocess
    model.output = recipe.loss.kind
    return model


def _provenance(recipe: Recipe, counters: Counters) -> dict[str, Any]:
    score = counters.history[-1].get("eval_score") if counters.history else None
    return {"recipe": recipe.name, "model": recipe.model, "init": recipe.init, "data": recipe.data, "seed": recipe.seed,
            "step": counters.step, "epochs": len(counters.history), "eval_score": score}


def _stop_on_non_finite(loss: float, counters: Counters, epoch: int, names: list[str], output: Path) -> None:
    kept = [name for name in ("best.safetensors", "last.safetensors") if (output / name).exists()]
    write = output / "non_finite_batch.txt"
    write.write_text("\n".join(names) + "\n", encoding="utf-8")
    raise TrainingStopped(
        f"the loss became {loss} at step {counters.step + 1} (epoch {epoch + 1}); the batch's images are listed in "
        f"{write}; kept: {', '.join(kept) or 'no checkpoint yet'}; lower optimizer.learning_rate"
    )
