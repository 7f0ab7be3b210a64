"""`allmlp train` as a person uses it."""

import json
import signal

import pytest

from allmlp.recipe import Recipe


def test_a_run_leaves_everything_a_person_looks_for(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"recipe.json", "run.json", "metrics.jsonl", "summary.csv", "results.json", "best.safetensors",
            "last.safetensors", "state.safetensors", "report.html", "batch.png"} <= names
    results = json.loads((trained / "results.json").read_text())
    assert results["splits"]["test"]["count"] == 360
    assert 50 < results["splits"]["test"]["score_percent"] <= 100


def test_flags_and_dotted_settings_change_the_recipe(cli):
    code, out, _ = cli("train", "digits", "--show-recipe", "--epochs", 7, "--lr", 0.5, "--batch-size", 64, "--seed", 3,
                       "--set", "augment.affine.degrees=1", "--set", "optimizer.clip_norm=none")
    recipe = Recipe.from_json(out)
    assert code == 0
    assert (recipe.schedule.epochs, recipe.optimizer.learning_rate, recipe.batch_size, recipe.seed) == (7, 0.5, 64, 3)
    assert recipe.augment.affine is not None
    assert (recipe.augment.affine.degrees, recipe.optimizer.clip_norm) == (1, None)


def test_the_recipe_of_a_run_can_be_run_again(cli, trained):
    code, out, _ = cli("train", "digits", "--recipe", trained, "--show-recipe")
    assert code == 0
    assert Recipe.from_json(out) == Recipe.from_json((trained / "recipe.json").read_text())


def test_json_output_is_one_object_on_stdout(cli, tmp_path):
    code, out, _ = cli("train", "digits", "--epochs", 1, "--output", tmp_path / "run", "--json", "--threads", 1)
    assert code == 0
    assert json.loads(out)["epochs"] == 1


def test_weights_of_a_run_are_a_start_for_another(cli, trained, tmp_path):
    code, out, _ = cli("train", "digits", "--init", trained, "--epochs", 1, "--output", tmp_path / "run",
                       "--threads", 1, "--lr", "1e-5", "--json")
    before = json.loads((trained / "results.json").read_text())["splits"]["test"]["score_percent"]
    assert code == 0
    assert abs(json.loads(out)["splits"]["test"]["score_percent"] - before) < 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run_which_says_how_to_go_on(stopped, tmp_path, number):
    metrics = tmp_path / "run" / "metrics.jsonl"
    code, err = stopped(number, lambda: metrics.exists() and metrics.stat().st_size > 0, "train", "digits", "--epochs",
                        500, "--output", tmp_path / "run", "--threads", 1)
    assert code == 128 + number
    assert f"go on with: allmlp train --resume {tmp_path / 'run'}" in err
    assert (tmp_path / "run" / "state.safetensors").exists()


WRONG = {
    "no data": (["train"], "give DATA"),
    "unknown data": (["train", "digit"], "did you mean digits"),
    "missing folder": (["train", "/nowhere/at/all"], "/nowhere/at/all"),
    "an output of a name too long": (["train", "digits", "--output", "a" * 300], "a" * 200),
    "data of a name too long": (["train", "a" * 300], "a" * 200),
    "unknown model": (["train", "digits", "--model", "mixer_s15_224"], "did you mean mixer_s16_224"),
    "unknown recipe": (["train", "digits", "--recipe", "digitz"], "did you mean digits"),
    "indivisible size": (["train", "digits", "--image-size", "9"], "not divisible by the patch height 2; take 8 or 10"),
    "not a size": (["train", "digits", "--image-size", "big"], "'big' is not an image size"),
    "wrong dotted name": (["train", "digits", "--set", "optimizer.learning_rat=1"], "did you mean learning_rate?"),
    "a seed too large": (["train", "digits", "--seed", "9" * 30], "less than"),
    "a misspelt model and no data": (["train", "/nowhere", "--model", "mixr_s16_224"], "did you mean mixer_s16_224"),
    "no key": (["train", "digits", "--set", "=1"], "give KEY=VALUE"),
    "wrong dotted value": (["train", "digits", "--set", "optimizer.learning_rate=fast"], "learning_rate"),
    "no value": (["train", "digits", "--set", "seed"], "give KEY=VALUE"),
    "negative rate": (["train", "digits", "--lr", "-1"], "greater than 0"),
    "no epochs": (["train", "digits", "--epochs", "0"], "epochs"),
    "unknown device": (["train", "digits", "--device", "tpu"], "device 'tpu' is not available here"),
    "no run to resume": (["train", "--resume", "/nowhere"], "not a run folder"),
    "settings with resume": (["train", "--resume", "/nowhere", "--lr", "1"], "'--lr' cannot be given with it"),
    "another split with resume": (["train", "--resume", "/nowhere", "--val-fraction", "0.3"], "'--val-fraction'"),
    "another part with resume": (["train", "--resume", "/nowhere", "--split-seed", "0"], "'--split-seed' cannot be"),
    "bad images with resume": (["train", "--resume", "/nowhere", "--skip-bad"], "'--skip-bad' cannot be given with it"),
    "another place with resume": (["train", "--resume", "/nowhere", "--data-dir", "x"], "'--data-dir' cannot be given"),
    "a download with resume": (["train", "--resume", "/nowhere", "--download"], "'--download' cannot be given with it"),
    "replacing with resume": (["train", "--resume", "/nowhere", "--overwrite"], "'--overwrite' cannot be given"),
    "a task with resume": (["train", "--resume", "/nowhere", "--task", "segmentation"], "'--task' cannot be given"),
    "weights that are not there": (["train", "digits", "--init", "/nowhere.safetensors"], "no such file"),
    "a moment that never fades": (["train", "digits", "--set", "optimizer.betas=[1,1]"], "less than 1"),
    "epochs without end": (["train", "digits", "--set", "schedule.epochs=1e308"], "less than or equal"),
    "a bias without end": (["train", "digits", "--set", "loss.head_bias_init=1e39"], "less than or equal"),
    "a setting one level up": (["train", "digits", "--set", "epochs=5"], "there is schedule.epochs"),
    "no time limit": (["train", "digits", "--time-limit", "nan"], "not a number of at least 0"),
    "a teacher that is not there": (["train", "digits", "--set", "distillation.teacher=runs/no"], "no such file"),
    "weights and a network": (["train", "digits", "--init", "a.safetensors", "--model", "mixer_p2_8"], "leave one out"),
    "unknown logger": (["train", "digits", "--logger", "tensorbord"], "did you mean tensorboard"),
    "no file of weights": (["train", "digits", "--init", __file__], "not a file of weights"),
    "unknown command": (["trian", "digits"], "invalid choice: 'trian'"),
    "unknown flag": (["train", "digits", "--speed", "9"], "unrecognized arguments: --speed"),
}


@pytest.mark.parametrize("arguments,says", WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_clear_line_and_exit_code_2(cli, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(*arguments)
    assert code == 2
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1
    assert err.startswith("allmlp: ")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[" * 100_000, b" " * 2_000_000, b"{}"],
                         ids=["bytes", "brackets", "spaces", "nothing"])
def test_a_recipe_file_that_is_none_is_told_in_one_short_line(cli, tmp_path, content):
    (tmp_path / "recipe.json").write_bytes(content)
    code, out, err = cli("train", "digits", "--recipe", tmp_path / "recipe.json", "--show-recipe")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert len(err) < 400


def test_a_run_in_the_way_is_not_overwritten(cli, trained):
    before = (trained / "best.safetensors").read_bytes()
    code, _, err = cli("train", "digits", "--output", trained, "--epochs", 1)
    assert code == 2
    assert "holds a run already" in err
    assert (trained / "best.safetensors").read_bytes() == before


def test_a_place_that_no_run_can_be_in_is_told_before_any_data_is_read(cli, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    (tmp_path / "images").mkdir()  # no data, which would be told if it were looked at
    code, out, err = cli("train", tmp_path / "images", "--output", tmp_path / "letter.txt" / "run")
    assert (code, out) == (2, "")
    assert err == (f"allmlp: {tmp_path / 'letter.txt' / 'run'}: nothing can be written into {tmp_path / 'letter.txt'}; "
                   "choose another --output\n")


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["", "overwrite"])
def test_weights_in_a_folder_that_is_no_run_are_not_written_over(cli, tmp_path, overwrite):
    (tmp_path / "best.safetensors").write_bytes(b"of months")
    code, out, err = cli("train", "digits", "--epochs", 1, "--output", tmp_path, "--quiet", *overwrite)
    assert (code, out) == (2, "")
    assert err == (f"allmlp: {tmp_path}: holds best.safetensors and no run (no recipe.json), which is not written "
                   "over; move it away, or choose another --output\n")
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]
    assert (tmp_path / "best.safetensors").read_bytes() == b"of months"


def test_a_run_that_was_killed_before_it_had_a_recipe_can_be_begun_again(cli, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    assert cli("train", "digits", "--epochs", 1, "--output", tmp_path, "--quiet", "--threads", 1)[0] == 0
