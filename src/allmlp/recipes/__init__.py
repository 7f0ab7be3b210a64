"""The recipes, one a file, or one a table of close variants. An explicit list.

Each file's docstring says the command, what was published and where, what was measured here, time and hardware, and
what is unverified.
"""

from pathlib import Path
from types import ModuleType

import numpy as np

from allmlp.data.dataset import Data
from allmlp.errors import BadSetting, unknown_name
from allmlp.recipe import Recipe
from allmlp.recipes import (
    bit_hyperrule,
    digit_masks,
    digits,
    digits_dino,
    digits_distill,
    digits_sam,
    folder,
    gmlp_imagenet,
    mixer_big_vision,
    mixer_finetune,
    mixer_imagenet,
    mixer_imagenet21k,
    mixer_jft,
    mixer_sam,
    resmlp_cifar,
    resmlp_dino,
    resmlp_distilled,
    resmlp_imagenet,
    resmlp_imagenet21k,
    scenes,
)

FILES: dict[ModuleType, tuple[Recipe, ...]] = {
    digits: (digits.RECIPE,),
    digits_sam: (digits_sam.RECIPE,),
    digits_distill: (digits_distill.RECIPE,),
    digits_dino: (digits_dino.RECIPE,),
    folder: (folder.RECIPE,),
    scenes: (scenes.RECIPE,),
    digit_masks: digit_masks.RECIPES,
    mixer_imagenet: mixer_imagenet.RECIPES,
    mixer_big_vision: mixer_big_vision.RECIPES,
    mixer_imagenet21k: mixer_imagenet21k.RECIPES,
    mixer_jft: mixer_jft.RECIPES,
    mixer_finetune: mixer_finetune.RECIPES,
    bit_hyperrule: bit_hyperrule.RECIPES,
    mixer_sam: mixer_sam.RECIPES,
    resmlp_imagenet: resmlp_imagenet.RECIPES,
    resmlp_distilled: resmlp_distilled.RECIPES,
    resmlp_imagenet21k: resmlp_imagenet21k.RECIPES,
    resmlp_cifar: resmlp_cifar.RECIPES,
    resmlp_dino: resmlp_dino.RECIPES,
    gmlp_imagenet: gmlp_imagenet.RECIPES,
}
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipes in FILES.values() for recipe in recipes}

# The largest shorter side (pixels) that a network is chosen for, in rising order.
NETWORK_BY_SIZE = ((48, "mixer_t4_32"), (80, "mixer_t8_64"), (160, "mixer_t8_96"))
DIGIT_LIKE_PX = 12  # images this small get the digits recipe: nothing in them can be cropped or flipped safely
MOST_BYTES = 1_000_000  # of the file of a recipe
FEW = 1000  # below so many, that recipe's batches of 128 would leave too few steps


def find(name: str) -> Recipe:
    """A recipe by name, or from the JSON file of one (a run's `recipe.json`). Raises `UnknownName`, `BadSetting`."""
    if name in RECIPES:
        return RECIPES[name]
    path = Path(name) / "recipe.json" if Path(name).is_dir() else Path(name)
    if path.suffix == ".json" and path.is_file():
        if path.stat().st_size > MOST_BYTES:
            raise BadSetting(f"--recipe {path}: {path.stat().st_size:,} bytes are no recipe; give the recipe.json of a "
                             "run")
        return Recipe.from_json(path.read_bytes())
    raise unknown_name("recipe", name, RECIPES, "`allmlp recipes` lists them; or give the recipe.json of a run")


def about(name: str) -> str:
    """What the file of a recipe says about it: command, published result, time, hardware, and what is unverified."""
    return next((file.__doc__ or "").strip() for file, recipes in FILES.items() if RECIPES[name] in recipes)


def choose(source: str, data: Data) -> Recipe:
    """The recipe for data of which only the images are known: by their number, and by the median shorter side of up to
    32 of them. Images as small as digits get the digits recipe or, where they are few, the folder recipe unmirrored.
    """
    if source == digits.RECIPE.data:
        return digits.RECIPE
    if source == digit_masks.RECIPE.data:
        return digit_masks.RECIPE
    images = data.splits["train"]
    picked = np.linspace(0, len(images) - 1, min(len(images), 32)).astype(int)
    size_px = float(np.median([min(images.image(int(i)).shape[:2]) for i in picked]))
    recipe = folder.for_images(len(images))
    if data.task == "segmentation":
        network = next((name for limit, name in NETWORK_BY_SIZE if size_px <= limit), digit_masks.FOLDER.model)
        return digit_masks.FOLDER.with_(model=network)
    if size_px <= DIGIT_LIKE_PX:
        unmirrored = recipe.with_(model=digits.RECIPE.model, augment=recipe.augment.with_(horizontal_flip=0.0))
        return digits.RECIPE if len(images) >= FEW else unmirrored
    network = next((name for limit, name in NETWORK_BY_SIZE if size_px <= limit), recipe.model)
    return recipe.with_(model=network)
