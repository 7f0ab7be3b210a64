"""`allmlp train`."""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allmlp.backends.pytorch import choose_device
from allmlp.checkpoint import find_checkpoint, is_published, provenance
from allmlp.commands.network import FIELD, is_config_file, read_config, with_config, with_network_setting
from allmlp.commands.source import given_flags, lost_place, open_source, reopened, source_of
from allmlp.commands.threads import set_threads
from allmlp.data import canonical, data_folder, kind_of, short_name
from allmlp.data.dataset import Data
from allmlp.errors import AllMLPError, BadCheckpoint, BadData, BadImage, BadSetting
from allmlp.files import check_parent
from allmlp.models.config import ModelConfig
from allmlp.models.variants import VARIANTS, model_config
from allmlp.recipe import Recipe
from allmlp.recipes import choose, find
from allmlp.train import train
from allmlp.train.display import SilentDisplay, display_for_stderr
from allmlp.train.distributed import Processes, join
from allmlp.train.engine import Engine
from allmlp.train.run_folder import check_same, read_begun, read_recipe, read_split, write_source
from allmlp.train.start import network_config, network_name
from allmlp.values import with_dotted
from allmlp.weights.hub import is_hub_name

EXPERIMENT = ("model", "recipe", "init", "output", "epochs", "batch_size", "lr", "image_size", "seed", "task")
SIGNAL_EXIT = {"SIGINT": 130, "SIGTERM": 143}


@dataclass(frozen=True)
class Plan:
    """What is to run: a new run or an old one to go on with."""

    recipe: Recipe
    data: Data
    output: Path
    source: dict[str, Any]  # how `data` was opened
    threads: int | None = None  # of an old run, as other threads would sum in another order
    processes: int = 1  # of an old run
    moved: bool = False  # the data of an old run, which lies elsewhere now


def run(options: argparse.Namespace) -> int:
    if options.devices > 1 and "ALLMLP_RENDEZVOUS" not in os.environ:
        raise BadSetting(f"--devices {options.devices} starts processes, and torchrun did so already; leave it out")
    with join(options.device) as processes:
        return train_together(options, processes)


def train_together(options: argparse.Namespace, processes: Processes) -> int:
    """The command in one of `processes`, of which the first one speaks."""
    plan = processes.in_turn(lambda: resumed_run(options) if options.resume else new_run(options))
    output = processes.from_first(plan.output)  # its name may hold the time
    if options.show_recipe:
        if processes.first:
            print(plan.recipe.to_json(indent=2))
        return 0
    if plan.moved:
        processes.only_first(lambda: write_source(output, plan.source))
    threads = set_threads(options.threads or (plan.threads if plan.processes == processes.count else None),
                          known_config(plan.recipe))
    display = display_for_stderr() if processes.first and not options.quiet else SilentDisplay()
    engine = Engine(options.sharding, options.compile, options.activation_checkpointing)
    loggers = [] if options.logger == "none" else options.logger.split(",")
    together = f"{processes.count} processes, " if processes.count > 1 else ""
    try:
        what = (f"{plan.recipe.name}: {plan.recipe.init or network_name(plan.recipe)} on {plan.data.name}, "
                f"{', '.join(f'{len(part):,} {name}' for name, part in plan.data.splits.items())}, "
                f"{len(plan.data.classes)} classes; device {choose_device(options.device)}, {together}"
                f"CPU threads {threads}; run folder {output}")
        result = train(plan.recipe, plan.data, output, device=options.device, workers=options.workers,
                       source=plan.source, time_limit_minutes=options.time_limit, resume=bool(options.resume),
                       overwrite=options.overwrite, display=display, opening=[*plan.data.notes, what], engine=engine,
                       processes=processes, loggers=loggers, save_every_seconds=options.save_every)
    except BadImage as error:
        if not (output / "recipe.json").exists():
            raise
        raise BadData(f"{error}; replace that file and go on with: allmlp train --resume {output}; or begin again "
                      "without such files: --skip-bad --overwrite") from None
    finally:
        display.close()
    if not processes.first:
        return SIGNAL_EXIT.get(result.stopped or "", 0)
    if result.stopped:
        print(f"stopped by {result.stopped} after step {result.counters.step}; go on with: "
              f"allmlp train --resume {output}", file=sys.stderr)
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
    if options.init and options.model:
        raise BadSetting(f"--init {options.init} brings its own network, so --model {options.model} cannot be given "
                         "with it; leave one out")
    if options.recipe:
        find(options.recipe)  # a wrong name is told before anything is read
    if options.model:
        named_config(options.model, options.image_size)
    place = Path(options.output or "runs")
    if not os.path.isfile(place) and not options.show_recipe:
        check_parent(place / "recipe.json", place, "another --output")  # before any data is read
    source = source_of(options)
    data = open_source(options, source)
    if options.task is not None and options.task != data.task:
        has = "a mask for each image" if data.task == "segmentation" else "no masks"
        other = ", or give a folder with images/ and masks/" if options.task == "segmentation" else ""
        raise BadSetting(f"--task {options.task}: {data.name} has {has}, so it is for {data.task}; leave --task out"
                         f"{other}")
    recipe = build_recipe(options, data)
    if not recipe.init:
        network_config(recipe)
    model = Path(recipe.init).stem if recipe.init else recipe.model
    output = options.output or f"runs/{time.strftime('%Y%m%d-%H%M%S')}-{model}-{short_name(options.data)}"
    return Plan(recipe, data, Path(output), source)


def resumed_run(options: argparse.Namespace) -> Plan:
    """The run in a folder, exactly; its data from a new place where DATA says so. Raises `BadSetting` where the options
    would change it, and `BadData` for other data than it began with."""
    given = ["--" + name.replace("_", "-") for name in EXPERIMENT if getattr(options, name) is not None]
    given += options.settings + given_flags(options) + ["--overwrite"] * options.overwrite
    moved = options.data is not None
    if moved and "--data-dir" in given and kind_of(options.data)[0] in ("name", "vtab"):  # what it says is where
        given.remove("--data-dir")
    if given:
        raise BadSetting(f"--resume goes on with the run as it is, so {given[0]!r} cannot be given with it; "
                         "start a new run to change it")
    output = Path(options.resume)
    recipe, about = read_recipe(output), read_begun(output)
    source = about.get("source") or {}
    if moved:
        source = {**source, "data": canonical(options.data)}
    if options.data_dir:
        source["data_dir"] = str(data_folder(options.data_dir).resolve())
    try:
        data = reopened(source, read_split(output))
    except AllMLPError:
        if (place := lost_place(source)) is None:
            raise
        new = f"{source['data']} --data-dir PLACE" if place == source.get("data_dir") else "PLACE"
        raise BadData(f"{output}: its data was in {place}, where nothing is any more; say where it is now: "
                      f"allmlp train {new} --resume {output}") from None
    if moved:
        check_same(output, data)
    return Plan(recipe, data, output, source, about["threads"], about.get("processes", 1), moved)


def build_recipe(options: argparse.Namespace, data: Data) -> Recipe:
    """The recipe that the options ask for: by name or by the data, then changed by flags, then by `--set`."""
    recipe = find(options.recipe) if options.recipe else choose(options.data, data)
    file = read_config(options.model) if options.model and is_config_file(options.model) else None
    if options.init or options.model:
        recipe = recipe.with_(network=None)
    changes = {"data": data.name, "model": None if file else options.model, "init": options.init,
               "image_size": options.image_size, "batch_size": options.batch_size, "seed": options.seed}
    recipe = recipe.with_(**{key: value for key, value in changes.items() if value is not None})
    if file:
        recipe = with_config(recipe, file, Path(options.model).stem)
    if options.init:
        recipe = recipe.with_(model=network_of(options.init))
    if options.epochs is not None:
        recipe = recipe.with_(schedule=recipe.schedule.for_epochs(options.epochs))
    if options.lr is not None:
        recipe = recipe.with_(optimizer=recipe.optimizer.with_(learning_rate=options.lr))
    for setting in options.settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise BadSetting(f"--set {setting!r}: give KEY=VALUE, e.g. --set optimizer.learning_rate=0.001")
        owner, _, name = key.partition(".")
        if owner == "model" and name:
            raise BadSetting(f"--set {setting!r}: 'model' is a name; the network's own settings are "
                             f"--set {FIELD}.{name}")
        recipe = with_network_setting(recipe, name, value) if owner == FIELD and name else with_dotted(
            recipe, key, value)
    if data.task == "classification" and data.multi_label and recipe.loss.kind == "softmax":
        recipe = recipe.with_(loss=recipe.loss.with_(kind="sigmoid"))
    return recipe


def named_config(model: str, image_size: tuple[int, int] | None) -> ModelConfig:
    """The config of a name or file at a size. Raises what reading it does."""
    if not is_config_file(model):
        return model_config(model, image_size=image_size)
    config = read_config(model)
    return config if image_size is None else config.with_(image_size=image_size)


def known_config(recipe: Recipe) -> ModelConfig | None:
    """The network of a recipe, where its config says what it is: not of weights from elsewhere."""
    if recipe.network is None and recipe.model not in VARIANTS:
        return None
    return network_config(recipe.with_(init=None))


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
