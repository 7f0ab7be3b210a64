"""Training, one function to be read top to bottom.

Randomness has no state: the order of an epoch follows from (seed, epoch), an image's augmentation from (seed, epoch,
image), a batch's from (seed, step), stochastic depth from (seed, step, part). A run that is stopped and resumed at any
step therefore ends as one that was not, bit for bit on the same machine and threads. Several processes that train
together (`distributed.py`) each call `run` and come to what one comes to; the first writes and speaks.

Which epoch is "best": the one with the highest validation accuracy, when there is a validation split. Without one,
"best" is the last epoch: a test split is watched, never chosen on.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from allmlp import checkpoint
from allmlp.data.batch import augment_batch
from allmlp.data.dataset import Data
from allmlp.data.loader import Batch, Loader
from allmlp.data.picture import batch_titles, save_batch_picture
from allmlp.data.place import Share
from allmlp.errors import BadData
from allmlp.models.model import Model
from allmlp.recipe import Recipe
from allmlp.train import run_folder
from allmlp.train.display import Display, SilentDisplay
from allmlp.train.distributed import ALONE, Processes
from allmlp.train.ema import Ema
from allmlp.train.engine import PLAIN, Engine, distribute, whole
from allmlp.train.first_batch import first_batch
from allmlp.train.loggers import check_loggers, open_loggers
from allmlp.train.losses import to_targets
from allmlp.train.objective import build_objective
from allmlp.train.optimizer import build_optimizer, set_rates, total_steps
from allmlp.train.start import starting_model
from allmlp.train.state import Counters, load_state, save_state, tensors_of_run
from allmlp.train.step import take_step
from allmlp.train.stop import SAVE, StopRequest
from allmlp.train.watch import Watch

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
    save_every_seconds: float = SAVE_EVERY_SECONDS,
    resume: bool = False,
    overwrite: bool = False,
    source: dict[str, Any] | None = None,
    display: Display | None = None,
    opening: Sequence[str] = (),
    loggers: Sequence[str] = ("tensorboard",),
    engine: Engine = PLAIN,
    processes: Processes = ALONE,
) -> Outcome:
    """Train `recipe` on `data` into the run folder `output`.

    `workers`: processes that load images (0: this one). `time_limit_minutes`: stop after so many minutes of this call,
    saved so that `resume` can go on. `source`: how `data` was opened, noted in `run.json`. `opening`: lines to say once
    everything that was asked for is known to be possible. `loggers`: names of `loggers.LOGGERS`. `processes`: those
    that train together, each of which calls this; only the first one writes and shows. Raises `AllMLPError`:
    `BadSetting` for settings that fit neither model nor data, `CannotWrite` for a full disk, `TrainingStopped` at the
    first non-finite loss.
    """
    output, display, started = Path(output), display or SilentDisplay(), time.monotonic()
    where = processes.agreed(lambda: processes.device(device))
    processes.agreed(lambda: (engine.check(recipe, processes), check_loggers(loggers)))
    processes.only_first(lambda: run_folder.prepare(output, recipe, resume, overwrite))
    if resume and not processes.from_first((output / "state.safetensors").exists()):
        display.say(f"{output} was ended before it first saved; it begins again")
        resume = False

    torch.manual_seed(recipe.seed)
    # What is resumed was saved whole; the file that the run started from may be gone by now.
    model = processes.in_turn(
        lambda: checkpoint.load(output / "last.safetensors") if resume else starting_model(recipe, data)).to(where)
    if recipe.freeze_backbone:
        model.requires_grad_(False)
        model.head.requires_grad_(True)
    objective = processes.in_turn(lambda: build_objective(recipe, data, model, where))  # DINO's gives it another head
    ema = Ema(model, recipe.ema_decay, recipe.ema_warmup) if recipe.ema_decay else None
    network = distribute(model, ema, engine, processes)  # what is called in training; the same parameters
    optimizer = processes.agreed(lambda: build_optimizer(model, recipe.optimizer))
    judged = objective.judged(ema.model if ema else model)  # the network that is evaluated and saved
    loader = processes.agreed(lambda: Loader(
        data.splits["train"], model.preprocess, recipe.augment, recipe.batch_size, recipe.seed, workers,
        dino=recipe.dino, share=Share(processes.rank, processes.count, recipe.gradient_accumulation)))
    watch = processes.agreed(lambda: Watch(data, model.preprocess, recipe, processes, workers))
    last_step = processes.agreed(lambda: total_steps(recipe.schedule, loader.steps_per_epoch))

    counters = Counters()
    first_images, targets = processes.agreed(lambda: first_batch(loader, recipe, len(data.classes)))
    for line in opening:
        display.say(line)
    if resume:
        counters = processes.agreed(
            lambda: load_state(output / "state.safetensors", model, ema, optimizer, objective, processes))
        display.say(f"going on at step {counters.step} of {output}")
    else:
        settings = {"device": str(where), "threads": torch.get_num_threads(), "workers": workers,
                    "processes": processes.count, **vars(engine), "source": source}
        processes.only_first(lambda: run_folder.write_start(output, recipe, data, settings))
        processes.only_first(lambda: save_batch_picture(first_images, batch_titles(targets, data.classes),
                                                        output / "batch.png"))
    logger = processes.agreed(lambda: open_loggers(loggers if processes.first else (), output, counters.step,
                                                   run_folder.read_run(output) if processes.first else {}))
    first_step, stopped, saved_at = counters.step, None, time.monotonic()
    clock_start = time.monotonic() - counters.seconds

    def save() -> None:
        nonlocal saved_at
        counters.seconds = time.monotonic() - clock_start
        kept, tensors = whole(judged), tensors_of_run(model, ema, optimizer, objective, processes)

        def write() -> None:
            checkpoint.save(kept, output / "last.safetensors", _provenance(recipe, counters))
            save_state(output / "state.safetensors", tensors, optimizer, counters)
            run_folder.write_history(output, counters.history)

        processes.only_first(write)
        saved_at = time.monotonic()

    def save_best() -> None:
        kept = whole(judged)
        processes.only_first(
            lambda: checkpoint.save(kept, output / "best.safetensors", _provenance(recipe, counters)))

    with StopRequest() as stop:
        while counters.step < last_step and not counters.finished:
            epoch, start = divmod(counters.step, loader.steps_per_epoch)
            epoch_started, epoch_first_image = time.monotonic(), counters.epoch_images
            model.train(not recipe.freeze_backbone)
            row: dict[str, Any] = {}
            left = 0.0
            batches = loader.epoch(epoch, start)
            while (batch := _next(batches, processes, save)) is not None:
                # What was asked for since the last step: to save, to stop.
                spent = time.monotonic() - started if counters.step > first_step else 0.0
                wish = processes.highest(stop.wish(spent, time_limit_minutes, saved_at, save_every_seconds))
                if wish > SAVE:
                    stopped = stop.name(wish)
                    break
                if wish == SAVE:
                    save()

                # One optimizer step.
                targets = to_targets(batch.labels.to(where, non_blocking=True), len(data.classes))
                pixels, targets = augment_batch(batch.images.to(where, non_blocking=True), targets, recipe.augment,
                                                recipe.seed, counters.step, batch.place)
                rate = set_rates(optimizer, recipe.optimizer, recipe.schedule, counters.step, loader.steps_per_epoch)
                loss = take_step(network, objective, optimizer, pixels, targets, recipe, counters.step, batch.place,
                                 processes)
                if not math.isfinite(loss):
                    numbers = loader.batches(epoch)[counters.step % loader.steps_per_epoch]
                    processes.only_first(lambda: run_folder.stop_on_non_finite(
                        output, loss, counters.step, epoch, [loader.dataset.name(int(i)) for i in numbers]))  # noqa: B023
                objective.after_step(model, counters.step)
                if ema:
                    ema.update(model, counters.step)
                counters.step += 1
                counters.epoch_loss_sum += loss * batch.place.total
                counters.epoch_images += batch.place.total

                # What a person sees.
                now = time.monotonic()
                row = {
                    "epoch": epoch + 1, "step": counters.step, "lr": rate,
                    "train_loss": counters.epoch_loss_sum / counters.epoch_images,
                    "images_per_second": (counters.epoch_images - epoch_first_image) / max(now - epoch_started, 1e-9),
                    "seconds": now - clock_start,
                }
                left = (now - clock_start) / counters.step * (last_step - counters.step)
                display.step(counters.step, last_step, {**row, "seconds_left": left})
                if counters.step == last_step:
                    break
            if stopped:
                break

            # The end of an epoch.
            row |= watch.row(whole(judged))
            counters.history.append(row)
            counters.epoch_loss_sum, counters.epoch_images = 0.0, 0
            logger.row(row, counters.step)
            score = row.get("eval_score") if watch.split == "val" else None
            if score is not None and (counters.best_score is None or score > counters.best_score):
                counters.best_score, counters.best_epoch = score, epoch + 1
                save_best()
            patience = recipe.early_stopping_epochs
            counters.finished = bool(patience and epoch + 1 - counters.best_epoch >= patience)
            display.epoch(counters.step, last_step, {**row, "seconds_left": left})

        finished_by = "early stopping" if counters.finished and counters.step < last_step else "schedule"
        counters.finished = counters.finished or counters.step >= last_step
        if not counters.best_epoch and counters.finished:
            counters.best_epoch = len(counters.history)
        save()
        if counters.best_score is None:
            save_best()
    logger.close()
    final = checkpoint.load(output / "best.safetensors", str(where)) if processes.first else judged
    return Outcome(output, final, counters, stopped, finished_by, first_images)


def _next(batches: Iterator[Batch], processes: Processes, save: Callable[[], None]) -> Batch | None:
    """The next batch, None after the last. At an image that cannot be read, what was learnt before is saved."""
    try:
        return processes.agreed(lambda: next(batches, None))
    except BadData:
        if not processes.joined:
            save()
        raise


def _provenance(recipe: Recipe, counters: Counters) -> dict[str, Any]:
    score = counters.history[-1].get("eval_score") if counters.history else None
    return {"recipe": recipe.name, "model": recipe.model, "init": recipe.init, "data": recipe.data, "seed": recipe.seed,
            "step": counters.step, "epochs": len(counters.history), "eval_score": score}
