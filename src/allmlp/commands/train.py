"""`allmlp train`."""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from allmlp.backends.pytorch import choose_device
from allmlp.checkpoint import provenance
from allmlp.data import open_data
from allmlp.data.dataset import Data
from allmlp.errors import BadSetting
from allmlp.recipe import Recipe
from allmlp.recipes import choose, find
from allmlp.train import train
from allmlp.train.display import SilentDisplay, display_for_stderr
from allmlp.train.run_folder import read_recipe, read_run, read_split
from allmlp.values import with_dotted

EXPERIMENT = ("data", "model", "recipe", "init", "output", "epochs", "batch_size", "lr", "image_size", "seed")
SIGNAL_EXIT = {"SIGINT": 130, "SIGTERM": 143}


def run(options: argparse.Namespace) -> int:
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.resume:
        given = [name for name in EXPERIMENT if getattr(options, name) is not None] + options.settings
        if given:
            raise BadSetting(f"--resume goes on with the run as it is, so {given[0]!r} cannot be given with it; "
                             "start a new run to change it")
        output = Path(options.resume)
        recipe, about = read_recipe(output), read_run(output)
        source = about["source"]
        data = open_data(source["data"], val_fraction=source["val_fraction"], seed=source["seed"],
                         skip_bad=source["skip_bad"], split_files=read_split(output))
    else:
        if options.data is None:
            raise BadSetting("give DATA: 'digits' or a folder of images (or --resume RUN)")
        data = open_data(options.data, val_fraction=options.val_fraction, seed=options.split_seed,
                         skip_bad=options.skip_bad)
        recipe = build_recipe(options, data)
        model = Path(recipe.init).stem if recipe.init else recipe.model
        stamp = time.strftime("%Y%m%d-%H%M%S")
        output = Path(options.output or f"runs/{stamp}-{model}-{Path(options.data).resolve().name}")
        source = {"data": options.data if options.data == "digits" else str(Path(options.data).resolve()),
                  "val_fraction": options.val_fraction, "seed": options.split_seed, "skip_bad": options.skip_bad}
    if options.show_recipe:
        print(recipe.to_json(indent=2))
        return 0
    display = SilentDisplay() if options.quiet else display_for_stderr()
    try:
        for note in data.notes:
            display.say(note)
        display.say(f"{recipe.name}: {recipe.init or recipe.model} on {data.name}, "
                    f"{', '.join(f'{len(part):,} {name}' for name, part in data.splits.items())}, "
                    f"{len(data.classes)} classes; device {choose_device(options.device)}, "
                    f"{torch.get_num_threads()} threads; run folder {output}")
        result = train(recipe, data, output, device=options.device, workers=options.workers, source=source,
                       time_limit_minutes=options.time_limit, resume=bool(options.resume), overwrite=options.overwrite,
                       display=display)
    finally:
        display.close()
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


def build_recipe(options: argparse.Namespace, data: Data) -> Recipe:
    """The recipe that the options ask for: by name or by the data, then changed by flags, then by `--set`."""
    recipe = find(options.recipe) if options.recipe else choose(options.data, data)
    changes = {"data": data.name, "model": options.model, "init": options.init, "image_size": options.image_size,
               "batch_size": options.batch_size, "seed": options.seed}
    recipe = recipe.with_(**{key: value for key, value in changes.items() if value is not None})
    if options.init:
        recipe = recipe.with_(model=str(provenance(options.init).get("model", recipe.model)))
    if options.epochs is not None:
        warmup = min(recipe.schedule.warmup_epochs, options.epochs / 10)  # a short run keeps some of it for learning
        recipe = recipe.with_(schedule=recipe.schedule.with_(epochs=options.epochs, warmup_epochs=warmup))
    if options.lr is not None:
        recipe = recipe.with_(optimizer=recipe.optimizer.with_(learning_rate=options.lr))
    for setting in options.settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise BadSetting(f"--set {setting!r}: give KEY=VALUE, e.g. --set optimizer.learning_rate=0.001")
        recipe = with_dotted(recipe, key, value)
    if data.multi_label and recipe.loss.kind == "softmax":
        recipe = recipe.with_(loss=recipe.loss.with_(kind="sigmoid"))
    return recipe
