"""Frozen values: JSON there and back, dotted settings, and one clear line for each mistake."""

import pytest

from allmlp.errors import BadSetting, UnknownName, unknown_name
from allmlp.recipe import Affine, Recipe
from allmlp.recipes import RECIPES
from allmlp.values import with_dotted


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_go_to_json_and_back(name):
    assert Recipe.from_json(RECIPES[name].to_json()) == RECIPES[name]


def test_values_are_frozen():
    with pytest.raises(Exception, match="frozen"):
        RECIPES["digits"].seed = 3


@pytest.mark.parametrize("path,text,expected", [
    ("seed", "7", 7), ("optimizer.name", "sgd", "sgd"), ("optimizer.betas", "[0.8, 0.9]", (0.8, 0.9)),
    ("optimizer.clip_norm", "null", None), ("optimizer.clip_norm", "none", None), ("freeze_backbone", "true", True),
    ("image_size", "[16, 24]", (16, 24)), ("schedule.epochs", "1e2", 100.0),
])
def test_a_dotted_setting_is_read_as_what_it_is(path, text, expected):
    value = with_dotted(RECIPES["digits"], path, text)
    for part in path.split("."):
        value = getattr(value, part)
    assert value == expected


def test_setting_a_part_of_an_optional_group_turns_it_on():
    recipe = with_dotted(RECIPES["mixer_b16_imagenet"], "augment.affine.degrees", "3")
    assert recipe.augment.affine == Affine(degrees=3)


@pytest.mark.parametrize("path,text,says", [
    ("optimiser.learning_rate", "1", "did you mean optimizer?"),
    ("optimizer.learning_rate.x", "1", "no fields of its own"),
    ("batch_size", "true", "batch_size is true"), ("optimizer.clip_norm", "false", "clip_norm is false"),
    ("optimizer.learning_rate", "-1", "greater than 0 (got -1)"),
    ("batch_size", "many", "valid integer"),
    ("schedule.epochs", "NaN", "finite"),
    ("optimizer", "3", "optimizer"),
    ("gradient_accumulation", "3", "not divisible"),
])
def test_a_wrong_setting_is_one_line_that_names_it(path, text, says):
    with pytest.raises((BadSetting, UnknownName)) as error:
        with_dotted(RECIPES["digits"], path, text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "a"}', '{"name": "a", "model": "b", "modle": 1}'])
def test_json_that_is_no_recipe_is_one_line(text):
    with pytest.raises(BadSetting) as error:
        Recipe.from_json(text)
    assert "\n" not in str(error.value)


def test_an_unknown_name_is_answered_with_the_nearest_or_all():
    assert "did you mean beta?" in str(unknown_name("letter", "betta", ["alpha", "beta"]))
    assert "accepted: alpha, beta" in str(unknown_name("letter", "zzz", ["beta", "alpha"]))
    assert "(30 in all)" in str(unknown_name("number", "zzz", [f"{i:02d}" for i in range(30)]))


def test_a_misspelt_field_is_named_before_the_field_that_is_missing_for_it():
    with pytest.raises(BadSetting, match="unknown setting of recipe 'modle'; did you mean model"):
        Recipe.from_json('{"name": "a", "modle": "mixer_p2_8"}')
