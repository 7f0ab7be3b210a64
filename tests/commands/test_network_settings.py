"""Networks without a name on the command line: a config in a file, and settings of the network."""

import json

import pytest

from allmlp import checkpoint
from allmlp.models.config import ModelConfig
from allmlp.models.variants import model_config
from allmlp.recipe import Recipe


def shown(cli, *arguments) -> ModelConfig:
    code, out, _ = cli("train", "digits", "--show-recipe", *arguments)
    assert code == 0
    return ModelConfig.from_json(json.dumps(Recipe.from_json(out).network))


def test_settings_of_the_network_change_the_config_that_its_name_stands_for(cli):
    found = shown(cli, "--set", "network.depth=6", "--set", "network.stem=convolutions", "--set",
                  "network.stem.tokens=[2,3]", "--set", "network.blocks=mixer,attention")
    assert [layer.kind for layer in found.layers] == ["mixer", "attention"] * 3
    assert (found.grid, found.width) == ((2, 3), model_config("mixer_p2_8").width)


def test_blocks_may_be_json(cli):
    blocks = [{"kind": "sum", "weights": [0.3, 2], "blocks": [{"kind": "pooling"}, {"kind": "attention", "heads": 4}]}]
    found = shown(cli, "--set", f"network.blocks={json.dumps(blocks)}")
    assert found.blocks[0].weights == (0.3, 2)


def test_a_file_made_from_a_name_is_the_network_with_that_name(cli, tmp_path):
    code, out, _ = cli("models", "mixer_p2_8", "--config")
    assert code == 0
    (tmp_path / "mine.json").write_text(out)
    assert shown(cli, "--model", tmp_path / "mine.json") == model_config("mixer_p2_8")


def test_a_recipe_with_a_network_of_its_own_stays_itself_and_one_without_is_written_as_ever(cli, tmp_path):
    _, plain, _ = cli("train", "digits", "--show-recipe")
    assert "network" not in json.loads(plain)
    _, out, _ = cli("train", "digits", "--show-recipe", "--set", "network.blocks=mixer*2,pooling")
    (tmp_path / "recipe.json").write_text(out)
    _, again, _ = cli("train", "digits", "--show-recipe", "--recipe", tmp_path / "recipe.json")
    assert again == out
    _, named, _ = cli("train", "digits", "--show-recipe", "--recipe", tmp_path / "recipe.json", "--model", "gmlp_p2_8")
    assert "network" not in json.loads(named)


def test_such_a_network_trains_and_its_checkpoint_needs_nothing_else(cli, tmp_path):
    code, out, said = cli("train", "digits", "--set", "network.blocks=mixer~conv*2",
                          "--set", "network.stem=convolutions", "--epochs", 1, "--output", tmp_path / "run", "--json",
                          "--threads", 1)
    model = checkpoint.load(tmp_path / "run")
    name = "mixer_p2_8 with depth, blocks, stem changed"
    assert f"digits: {name} on digits, " in said
    assert f"<h1>{name}<span> on </span>digits</h1>" in (tmp_path / "run" / "report.html").read_text()
    assert code == 0
    assert [layer.kind for layer in model.config.layers] == ["sum"] * 2
    assert json.loads(out)["parameters"] == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("arguments", "says"), [
    (["--set", "model.depth=3"], "the network's own settings are --set network.depth"),
    (["--set", "network.blocks=mixr"], "did you mean mixer?"),
    (["--set", "network.depht=3"], "did you mean depth?"),
    (["--set", "network.stem=patch"], "did you mean patches?"),
    (["--set", "network.width=zero"], "--set network.width=zero: model: width"),
    (["--set", "network.blocks=[{}]"], "kind"),
    (["--model", "nowhere.json"], "no such file; `allmlp models NAME --config` prints what belongs in it"),
    (["--init", "a.safetensors", "--set", "network.depth=3"], "a.safetensors"),
])
def test_what_makes_no_network_is_one_clear_line(cli, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("train", "digits", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert says in err
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_something_else_is_told_by_its_name(cli, tmp_path):
    (tmp_path / "x.json").write_text('{"name": "digits"}')
    code, _, err = cli("train", "digits", "--model", tmp_path / "x.json")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "x.json" in err
    assert cli("models", "mixer*", "--config")[0] == 2
