"""Every recipe: it is complete as a value, its file says what is known of it, and it takes one real step when small."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from allmlp import checkpoint
from allmlp.data.dataset import Data
from allmlp.errors import BadSetting, UnknownName
from allmlp.models.variants import create_model, model_config
from allmlp.recipe import Augment, Dino, Distillation, Recipe
from allmlp.recipes import FILES, RECIPES, about, bit_hyperrule, choose, find
from allmlp.train.loop import run
from allmlp.train.start import starting_model
from allmlp.values import with_dotted

CLASSES = tuple("abcde")
DOCUMENT = Path(__file__).parents[2] / "docs" / "recipes.md"


class Noise:
    """Six images of unequal sizes, each of its own noise."""

    classes, labels = CLASSES, np.array([0, 1, 2, 3, 4, 0])

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, (20 + index, 26 - index, 3), dtype=np.uint8)

    def name(self, index: int) -> str:
        return f"noise/{index}"


class MaskedNoise(Noise):
    """The same with a class for every pixel."""

    def label_map(self, index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, len(CLASSES), (20 + index, 26 - index), dtype=np.uint8)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> dict[str, str]:
    """A small trained network of each family, as a file: where fine-tuning starts, and a teacher."""
    folder = tmp_path_factory.mktemp("networks")
    for family in ("mixer", "resmlp", "gmlp"):
        model = create_model(f"{family}_p2_8", classes=CLASSES, seed=1)
        torch.nn.init.normal_(model.head.weight, std=0.1)
        checkpoint.save(model, folder / f"{family}.safetensors", {})
    return {family: str(folder / f"{family}.safetensors") for family in ("mixer", "resmlp", "gmlp")}


def reduced(recipe: Recipe, small: dict[str, str]) -> Recipe:
    """The recipe for one step of four images of 8 pixels (16 where it enlarges its weights)."""
    family = recipe.model.partition("_")[0]
    changes = {"model": f"{family}_p2_8", "batch_size": "4", "schedule.warmup_steps": "0", "schedule.steps": "1",
               "schedule.epochs": "100", "image_size": "[16, 16]" if recipe.image_size else "null"}
    if recipe.init:
        changes["init"] = small[family]
    if recipe.distillation:
        changes["distillation.teacher"] = small["mixer"]
    if recipe.dino:
        changes |= {"dino.out_dim": "16", "dino.head_hidden": "16", "dino.bottleneck": "8", "dino.local_crops": "2",
                    "dino.local_image_size": "[6, 6]"}
    for path, value in changes.items():
        recipe = with_dotted(recipe, path, value)
    return recipe


# Recipes that differ in the size of the network alone are one when reduced, and need to run once.
PLACES = {family: family for family in ("mixer", "resmlp", "gmlp")}
DISTINCT = {reduced(recipe.with_(name="", data="", expected=None), PLACES).to_json(): name
            for name, recipe in RECIPES.items()}


@pytest.mark.parametrize("name", DISTINCT.values())
def test_it_takes_one_real_step_at_reduced_size(name, small, tmp_path):
    recipe = reduced(RECIPES[name], small)
    data = Data("noise", CLASSES, {"train": MaskedNoise() if recipe.segmentation else Noise()})
    before = starting_model(recipe, data).state_dict()
    outcome = run(recipe, data, tmp_path, loggers=())
    after = outcome.model.state_dict()
    assert outcome.counters.step == 1
    assert np.isfinite(outcome.counters.history[0]["train_loss"])
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert any(not torch.equal(after[key], before[key]) for key in after.keys() & before.keys())


@pytest.mark.parametrize("name", RECIPES)
def test_it_goes_to_json_and_back_and_names_a_network_that_can_be_built(name):
    recipe = RECIPES[name]
    assert recipe.name == name
    assert Recipe.from_json(recipe.to_json()) == recipe
    model_config(recipe.model, image_size=recipe.image_size)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.rpartition(".")[2])
def test_its_file_says_command_results_time_hardware_and_what_is_unverified(file):
    text = file.__doc__ or ""
    assert re.search(r"^    allmlp train ", text, re.MULTILINE)
    for part in ("Published", "Here:", "Time and hardware:", "UNVERIFIED:"):
        assert part in text, part
    assert any(f"--recipe {recipe.name}" in text or f"allmlp train {recipe.name}" in text or recipe.name == "folder"
               for recipe in FILES[file])
    for recipe in FILES[file]:
        assert about(recipe.name) == text.strip()
        assert recipe.expected is None or recipe.expected.source


def test_published_numbers_of_the_recipes_stand_in_their_files():
    for recipe in RECIPES.values():
        if recipe.expected and recipe.expected.accuracy and "jft" not in recipe.name:
            assert f"{recipe.expected.accuracy:g}" in about(recipe.name).replace(".00", ""), recipe.name


def test_a_recipe_that_is_none_is_answered_with_near_names_and_where_all_are_listed():
    with pytest.raises(UnknownName, match=r"did you mean .*resmlp_s12_imagenet.*`allmlp recipes`"):
        find("resmlp_s12_imagnet")


@pytest.mark.parametrize("fields,message", [
    ({"distillation": Distillation(), "dino": Dino()}, "two ways to learn from a network"),
    ({"dino": Dino(), "augment": Augment(mixup=0.2)}, "set augment.mixup and augment.cutmix to 0"),
    ({"stochastic_depth_rule": "mlp"}, "set stochastic_depth too"),
])
def test_settings_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(BadSetting, match=message):
        Recipe(name="a", model="mixer_p2_8", **fields)


def test_a_recipe_written_before_the_newer_settings_still_loads():
    old = ('{"name": "small", "model": "mixer_p2_8", "augment": {"mixup": 0.2}, "optimizer": {"learning_rate": 0.002}, '
           '"schedule": {"epochs": 3.0, "warmup_epochs": 0.5}, "loss": {"kind": "softmax"}, "batch_size": 32}')
    recipe = Recipe.from_json(old)
    assert recipe.augment == Augment(mixup=0.2)
    assert (recipe.schedule.rule, recipe.schedule.steps) == ("allmlp", None)
    assert (recipe.distillation, recipe.dino) == (None, None)


def test_the_document_has_a_row_for_every_recipe_with_its_number():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(RECIPES) <= set(rows)
    for name, recipe in RECIPES.items():
        if recipe.expected and recipe.expected.accuracy:
            assert f"{recipe.expected.accuracy:g}" in rows[name], name


class Flat:
    """`count` images of `size_px` x `size_px` pixels."""

    classes = ("a", "b")

    def __init__(self, count: int, size_px: int):
        self.labels, self.size_px = np.arange(count) % 2, size_px

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        return np.zeros((self.size_px, self.size_px, 3), np.uint8)

    def name(self, index: int) -> str:
        return str(index)


@pytest.mark.parametrize("count,size_px,name,model,batch_size,flip", [
    (1437, 8, "digits", "mixer_p2_8", 128, 0.0),
    (100, 8, "folder", "mixer_p2_8", 16, 0.0),
    (100, 32, "folder", "mixer_t4_32", 16, 0.5),
    (500, 90, "folder", "mixer_t8_96", 32, 0.5),
    (5000, 300, "folder", "mixer_t16_224", 64, 0.5),
])
def test_a_folder_gets_network_and_batch_by_its_images(count, size_px, name, model, batch_size, flip):
    recipe = choose("pictures", Data("pictures", Flat.classes, {"train": Flat(count, size_px)}))
    assert (recipe.name, recipe.model, recipe.batch_size) == (name, model, batch_size)
    assert recipe.augment.horizontal_flip == flip


@pytest.mark.parametrize("num_images,image_px,steps,warmup,size,mixup", [
    (1_000, (32, 32), 500, 100, (128, 128), 0.0),
    (19_999, (96, 96), 500, 100, (384, 384), 0.0),
    (20_000, (95, 97), 10_000, 500, (128, 128), 0.1),
    (500_000, (300, 500), 20_000, 500, (384, 384), 0.1),
])
def test_bits_rule_follows_from_the_number_and_the_size_of_the_images(num_images, image_px, steps, warmup, size, mixup):
    recipe = bit_hyperrule.recipe("pictures", num_images, image_px)
    assert (recipe.schedule.steps, recipe.schedule.warmup_steps) == (steps, warmup)
    assert recipe.schedule.milestones == ((200, 300, 400) if steps == 500 else tuple(
        round(share * steps) for share in (0.3, 0.6, 0.9)))
    assert (recipe.image_size, recipe.augment.mixup) == (size, mixup)
    assert recipe.crop_ratio == (128 / 160 if size == (128, 128) else 384 / 448)
