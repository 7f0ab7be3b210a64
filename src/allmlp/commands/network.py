"""A network that has no name, on the command line: `--model FILE.json`, and `--set network.KEY=VALUE`.

The file holds a network's config, as `allmlp models NAME --config` prints it. Settings change the config of the
recipe's network field by field; blocks may also be spelled in words (`models/spelling.py`), and the stem named by its
kind.
"""

import json
from pathlib import Path

from allmlp.errors import BadSetting, printable, unknown_name
from allmlp.models.config import ModelConfig
from allmlp.models.spelling import respelled
from allmlp.recipe import Recipe
from allmlp.train.start import network_config
from allmlp.values import with_dotted

FIELD = "network"
MOST_BYTES = 1 << 20
STEMS = ("patches", "convolutions")


def is_config_file(model: str) -> bool:
    return model.endswith(".json")


def read_config(path: str) -> ModelConfig:
    """The config in a file. Raises `BadSetting` where there is none, and for a file of something else."""
    file = Path(path)
    if not file.is_file():
        raise BadSetting(f"--model {path}: no such file; `allmlp models NAME --config` prints what belongs in it")
    if file.stat().st_size > MOST_BYTES:
        raise BadSetting(f"--model {path}: {file.stat().st_size:,} bytes are no config of a network")
    try:
        return ModelConfig.from_json(file.read_bytes())
    except BadSetting as error:
        raise BadSetting(f"--model {path}: {error}; `allmlp models NAME --config` prints what belongs in it") from None


def with_config(recipe: Recipe, config: ModelConfig, name: str | None = None) -> Recipe:
    """The recipe with a network of its own, called `name` in reports (None: as before)."""
    return recipe.with_(network=json.loads(config.to_json()), model=name or recipe.model)


def with_network_setting(recipe: Recipe, key: str, text: str) -> Recipe:
    """The recipe with the field `key` ("depth", "stem.tokens") of its network set from `text`, read as JSON.

    "blocks" in words too, "stem" by its kind too. Raises `UnknownName` and `BadSetting`, also where the recipe starts
    from weights, which have a network already.
    """
    if recipe.init:
        raise BadSetting(f"--set {FIELD}.{key}: {recipe.init} brings its own network; leave one of the two out")
    config = network_config(recipe)
    if key == "blocks" and not text.lstrip().startswith(("[", "{")):
        return with_config(recipe, respelled(config, text))
    if key == "stem" and not text.lstrip().startswith("{"):
        if text not in STEMS:
            raise unknown_name("stem", text, STEMS)
        text = json.dumps({"kind": text})
    try:
        return with_config(recipe, with_dotted(config, key, text))
    except BadSetting as error:
        raise type(error)(f"--set {FIELD}.{key}={printable(text, 60)}: {error}") from None
