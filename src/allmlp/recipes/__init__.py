"""The recipes, one a file; each file's docstring says command, result, time and hardware. An explicit list."""

from pathlib import Path

import numpy as np

from allmlp.data.dataset import Data
from allmlp.errors import unknown_name
from allmlp.recipe import Recipe
from allmlp.recipes import digits, folder

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (digits.RECIPE, folder.RECIPE)}

# The largest shorter side (pixels) that a network is chosen for, in rising order.
NETWORK_BY_SIZE = ((48, "mixer_t4_32"), (80, "mixer_t8_64"), (160, "mixer_t8_96"))
DIGIT_LIKE_PX = 12  # images this small get the digits recipe: nothing in them can be cropped or flipped safely


def find(name: str) -> Recipe:
    """A recipe by name, or from the JSON file of one (a run's `recipe.json`). Raises `UnknownName`, `BadSetting`."""
    if name in RECIPES:
        return RECIPES[name]
    path = Path(name) / "recipe.json" if Path(name).is_dir() else Path(name)
    if path.suffix == ".json" and path.is_file():
        return Recipe.from_json(path.read_text(encoding="utf-8"))
    raise unknown_name("recipe", name, RECIPES, "or give the recipe.json of a run")


def choose(source: str, data: Data) -> Recipe:
    """The recipe for data of which only the images are known: by the median shorter side of up to 32 of them."""
    if source in RECIPES:
        return RECIPES[source]
    images = data.splits["train"]
    picked = np.linspace(0, len(images) - 1, min(len(images), 32)).astype(int)
    size_px = float(np.median([min(images.image(int(i)).shape[:2]) for i in picked]))
    if size_px <= DIGIT_LIKE_PX:
        return digits.RECIPE
    network = next((name for limit, name in NETWORK_BY_SIZE if size_px <= limit), folder.RECIPE.model)
    return folder.RECIPE.with_(model=network)
