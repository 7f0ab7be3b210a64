"""`allmlp train`."""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allmlp.backends.pytorch import choose_device
from allmlp.checkpoint import find_checkpoint, is_published, provenance
from allmlp.commands.source import open_source, source_of
from allmlp.commands.threads import set_threads
from allmlp.data import open_data
from allmlp.data.dataset import Data
from allmlp.errors import BadCheckpoint, BadSetting
from allmlp.models.variants import model_config
from allmlp.recipe import Recipe
from allmlp.recipes import choose, find
from allmlp.train import train
from allmlp.train.display import SilentDisplay, display_for_stderr
from allmlp.train.run_folder import read_recipe, read_run, read_split
from allmlp.values import with_dotted
from allmlp.weights.hub import is_hub_name

EXPERIMENT = ("data", "model", "recipe", "init", "output", "epochs", "batch_size", "lr", "image_size", "seed")
SIGNAL_EXIT = {"SIGINT": 130, "SIGTERM": 143}


@dataclass(frozen=True)
class Plan:
    """What is to run: a new run or an old one to go on with."""

    recipe: Recipe
    data: Data
    output: Path
    source: dict[str, Any]  # how `data` was opened
    threads: int | None  # of an old run, as other threads would sum in another order


def run(options: argparse.Namespace) -> int:
    plan = resumed_run(options) if options.resume else new_run(options)
    if options.show_recipe:
        print(plan.recipe.to_json(indent=2))
        return 0
    threads = set_threads(options.threads or plan.threads, plan.recipe.model)
    display = SilentDisplay() if options.quiet else display_for_stderr()
    try:
        for note in plan.data.notes:
            display.say(note)
        display.say(f"{plan.recipe.name}: {plan.recipe.init or plan.recipe.model} on {plan.data.name}, "
                    f"{', '.join(f'{len(part):,} {name}' for name, part in plan.data.splits.items())}, "
                    f"{len(plan.data.classes)} classes; device {choose_device(options.device)}, "
                    f"CPU threads {threads}; run folder {plan.output}")
        result = train(plan.recipe, plan.data, plan.output, device=options.device, workers=options.workers,
                       source=plan.source, time_limit_minutes=options.time_limit, resume=bool(options.resume),
                       overwrite=options.overwrite, display=display)
    finally:
        display.close()
    if result.stopped:
        print(f"stopped by {result.stopped} after step {result.counters.step}; go on with: "
              f"allmlp train --resume {plan.output}", file=sys.stderr)
    if result.stopped in SIGNAL_EXIT:
        return SIGNAL_EXIT[result.stopped]
    if options.json:
        print(json.dumps(result.summary))
    else:
        for line in result.lines():
            print(line)
    return 0


def new_run(options: argparse.Namespace) -> Plan:
    """A run as the options describe it. Raises `BadSetting` without data."""
    if options.data is None:
        raise BadSetting("give DATA: 'digits' or a folder of images (or --resume RUN)")
    if options.recipe:
        find(options.recipe)  # a wrong name is told before anything is read
    if options.model:
        model_config(options.model, image_size=options.image_size)
    source = source_of(options)
    data = open_source(options, source)
    recipe = build_recipe(options, data)
    if not recipe.init:
        model_config(recipe.model, image_size=recipe.image_size)
    model = Path(recipe.init).stem if recipe.init else recipe.model
    output = options.output or f"runs/{time.strftime('%Y%m%d-%H%M%S')}-{model}-{Path(options.data).resolve().name}"
    return Plan(recipe, data, Path(output), source, threads=None)


def resumed_run(options: argparse.Namespace) -> Plan:
    """The run in a folder, exactly. Raises `BadSetting` where the options would change it."""
    given = [name for name in EXPERIMENT if getattr(options, name) is not None] + options.settings
    if given:
        raise BadSetting(f"--resume goes on with the run as it is, so {given[0]!r} cannot be given with it; "
                         "start a new run to change it")
    output = Path(options.resume)
    recipe, about = read_recipe(output), read_run(output)
    source = about["source"]
    data = open_data(source["data"], val_fraction=source["val_fraction"], seed=source["seed"],
                     skip_bad=source["skip_bad"], split_files=read_split(output))
    return Plan(recipe, data, output, source, about["threads"])


def build_recipe(options: argparse.Namespace, data: Data) -> Recipe:
    """The recipe that the options ask for: by name or by the data, then changed by flags, then by `--set`."""
    recipe = find(options.recipe) if options.recipe else choose(options.data, data)
    changes = {"data": data.name, "model": options.model, "init": options.init, "image_size": options.image_size,
               "batch_size": options.batch_size, "seed": options.seed}
    recipe = recipe.with_(**{key: value for key, value in changes.items() if value is not None})
    if options.init:
        recipe = recipe.with_(model=network_of(options.init))
    if options.epochs is not None:
        warmup = min(recipe.schedule.warmup_epochs, options.epochs / 10)  # a short run keeps some of it for learning
        recipe = recipe.with_(schedule=recipe.schedule.with_(epochs=options.epochs, warmup_epochs=warmup))
    if options.lr is not None:
        recipe = recipe.with_(optimizer=recipe.optimizer.with_(learning_rate=options.lr))
    for setting in options.settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise BadSetting(f"--set {setting!r}: give KEY=VALUE, e.g. --set optimizer.learning_rate=0.001")
        recipe = with_dotted(recipe, key, value)
    if data.multi_label and recipe.loss.kind == "softmax":
        recipe = recipe.with_(loss=recipe.loss.with_(kind="sigmoid"))
    return recipe


def network_of(init: str) -> str:
    """The name of the network in a checkpoint of ours; for weights from elsewhere, what they were called by.

    Raises `BadCheckpoint` for a file that is not there.
    """
    if is_published(init) or is_hub_name(init):
        return init
    find_checkpoint(init)
    try:
        return str(provenance(init).get("model", init))
    except BadCheckpoint:
        return init
