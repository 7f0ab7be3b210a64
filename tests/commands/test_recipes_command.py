"""`allmlp recipes`."""

import json

from allmlp.recipe import Recipe
from allmlp.recipes import RECIPES


def test_every_recipe_is_listed_with_where_its_number_comes_from(cli):
    code, out, _ = cli("recipes")
    assert code == 0
    names = [line.split()[0] for line in out.splitlines()[:-1]]
    assert names == list(RECIPES)
    assert "300 epochs    76.44   MLP-Mixer Table 3" in out
    assert "99.39*" in out  # ours, measured


def test_one_recipe_is_shown_with_its_story_and_every_number(cli):
    code, out, _ = cli("recipes", "resmlp_s12_imagenet")
    assert code == 0
    assert "deit issue 106" in out
    assert Recipe.from_json(out[out.index("\n{") :]) == RECIPES["resmlp_s12_imagenet"]


def test_json_gives_recipes_that_can_be_read_back(cli):
    code, out, _ = cli("recipes", "mixer_*_jft*", "--json")
    assert code == 0
    found = [Recipe.from_json(json.dumps(row["recipe"])) for row in json.loads(out)]
    assert found == [recipe for name, recipe in RECIPES.items() if "_jft" in name]


def test_a_name_that_is_none_is_answered_with_one_that_is(cli):
    code, out, err = cli("recipes", "digit")
    assert (code, out) == (2, "")
    assert "did you mean digits" in err
