"""`allmlp evaluate`, `predict`, `models` and `data` as a person uses them."""

import csv
import io
import json
import os
import pickle
import shutil

import pytest
from PIL import Image

from allmlp import create_model
from allmlp.backends import native


def test_evaluating_a_run_gives_the_accuracy_that_training_reported(cli, trained):
    reported = json.loads((trained / "results.json").read_text())["splits"]["test"]
    code, out, _ = cli("evaluate", trained, "digits", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["top1_percent"] == reported["top1_percent"]
    assert found["split"] == "test"


def test_image_files_give_the_same_accuracy_as_the_arrays(cli, trained, digit_files):
    _, arrays, _ = cli("evaluate", trained, "digits", "--json")
    code, files, _ = cli("evaluate", trained, digit_files, "--json")
    assert code == 0
    assert json.loads(files)["top1_percent"] == json.loads(arrays)["top1_percent"]
    assert json.loads(files)["confusion"] == json.loads(arrays)["confusion"]


def test_per_class_table_names_every_class(cli, trained):
    code, out, _ = cli("evaluate", trained / "last.safetensors", "digits", "--per-class")
    assert code == 0
    assert "test accuracy" in out
    assert all(any(line.startswith(f"{digit} ") for line in out.splitlines()) for digit in range(10))


def test_predicting_files_folders_and_globs(cli, trained, digit_files):
    one = sorted((digit_files / "test" / "3").iterdir())[0]
    code, out, _ = cli("predict", trained, one, digit_files / "test" / "4", f"{digit_files}/test/5/*.png", "--json")
    assert code == 0
    rows = json.loads(out)["predictions"]
    count = 1 + sum(len(list((digit_files / "test" / name).iterdir())) for name in "45")
    assert len(rows) == count
    assert rows[0]["file"] == str(one)
    assert rows[0]["probability"] == rows[0]["top"][0]["probability"]
    assert all(1 >= row["top"][0]["probability"] >= row["top"][1]["probability"] >= 0 for row in rows)


def test_predictions_as_csv(cli, trained, digit_files, tmp_path):
    code, out, _ = cli("predict", trained, digit_files / "test" / "0", "--csv", "-", "--top", 2)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert list(rows[0]) == ["file", "class_1", "probability_1", "class_2", "probability_2"]
    cli("predict", trained, digit_files / "test" / "0", "--csv", tmp_path / "out.csv", "--top", 2)
    assert (tmp_path / "out.csv").read_text() == out


def test_a_file_whose_name_is_no_unicode_is_in_the_table_too(cli, trained, digit_files, tmp_path):
    name = b"caf\xe9.png"  # Latin-1, as on older disks
    try:
        shutil.copy(next((digit_files / "test" / "0").iterdir()), os.fsencode(tmp_path) + b"/" + name)
    except OSError:
        pytest.skip("this file system has Unicode names only")
    code, _, err = cli("predict", trained, tmp_path, "--csv", tmp_path / "out.csv")
    assert (code, err) == (0, "")
    row, = csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8")))
    assert row["file"] == f"{tmp_path}/caf\\xe9.png"


def test_a_broken_image_is_named_or_skipped(cli, trained, digit_files, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    Image.new("L", (30, 20), 128).save(tmp_path / "good.png")
    code, _, err = cli("predict", trained, tmp_path)
    assert code == 2
    assert "bad.png" in err
    assert "--skip-bad" in err
    code, out, err = cli("predict", trained, tmp_path, "--skip-bad", "--json")
    assert code == 0
    assert [row["file"] for row in json.loads(out)["predictions"]] == [str(tmp_path / "good.png")]
    assert "skipped" in err


class Payload:
    def __reduce__(self):
        import os

        return os.mkdir, ("/tmp/allmlp-payload-ran",)


@pytest.fixture
def bad_checkpoints(tmp_path, trained):
    whole = (trained / "best.safetensors").read_bytes()
    files = {
        "truncated": whole[: len(whole) // 2],
        "cut in the header": whole[:50],
        "empty": b"",
        "pickle": pickle.dumps(Payload()),
        "text": b"hello, this is no checkpoint at all, only text",
    }
    made = {}
    for name, content in files.items():
        made[name] = tmp_path / f"{name}.safetensors"
        made[name].write_bytes(content)
    return made


@pytest.mark.parametrize("kind", ["truncated", "cut in the header", "empty", "pickle", "text"])
def test_a_bad_checkpoint_is_one_clear_line(cli, bad_checkpoints, digit_files, kind):
    import os

    for arguments in (["evaluate", bad_checkpoints[kind], "digits"],
                      ["predict", bad_checkpoints[kind], digit_files / "test" / "0"]):
        code, out, err = cli(*arguments)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert kind in err  # the file's name
    assert not os.path.exists("/tmp/allmlp-payload-ran")


def test_models_lists_every_network_with_its_parameters(cli):
    code, out, _ = cli("models", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["mixer_b16_224"]["parameters"] == 59_880_472
    code, out, _ = cli("models", "resmlp_12_224")
    assert "15,350,872" in out
    assert "blocks.0.linear_tokens" in out


def test_the_config_of_a_list_of_weights_is_refused(cli):
    assert cli("models", "mixer_b16_224", "--pretrained", "--config") == (
        2, "", "allmlp: --config prints one of the networks, and --pretrained lists published weights instead; give "
               "one of the two\n")


def test_an_unknown_network_is_answered_with_the_nearest(cli):
    code, _, err = cli("models", "mixer_b17_224")
    assert code == 2
    assert "mixer_b16_224" in err


def test_the_data_doctor_finds_a_broken_file_and_exits_with_1(cli, digit_files, tmp_path):
    code, out, _ = cli("data", "check", digit_files)
    assert code == 0
    assert "1,437" in out
    folder = tmp_path / "data"
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (20, 20), (i * 40, len(name) * 10 + len(split), len(split))).save(
                    folder / split / name / f"{name}{i}.png")
    (folder / "train" / "cat" / "broken.png").write_bytes(b"")
    code, out, _ = cli("data", "check", folder)
    assert code == 1
    assert "broken.png" in out
    code, out, _ = cli("data", "check", folder, "--json")
    assert code == 1
    assert json.loads(out)
    assert cli("data", "--json", "check", folder)[:2] == (1, out)
    code, out, err = cli("data", "write", folder, tmp_path / "out", "--split-seed", "0")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--split-seed says which part --val-fraction holds out, and here none is; give --val-fraction too" in err
    assert not (tmp_path / "out").exists()
    assert cli("data", "check", folder, "--skip-bad") == (
        2, "", "allmlp: --skip-bad has no effect: a folder is looked at as it lies, all of it; leave it out\n")


FOLDERS = {
    "empty": ([], "no "),
    "one class": (["train/cat/0.png", "train/cat/1.png"], "one class"),
    "other classes": (["train/cat/0.png", "train/dog/0.png", "val/cat/1.png", "val/cow/0.png"], "cow"),
}


@pytest.mark.parametrize("files,says", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_cannot_be_learnt_from_is_one_clear_line(cli, tmp_path, files, says):
    for i, name in enumerate(files):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (i * 50, 0, 0)).save(tmp_path / name)
    code, _, err = cli("train", tmp_path, "--output", tmp_path / "run")
    assert code == 2
    assert says in err
    assert len(err.splitlines()) == 1


def test_digits_are_not_written_over_something_else(cli, digit_files):
    code, _, err = cli("data", "write", "digits", digit_files)
    assert code == 2
    assert str(digit_files) in err


def test_a_run_is_measured_on_what_it_held_out_even_after_images_were_added(cli, digit_files, tmp_path):
    tree = tmp_path / "tree"
    for name in ("3", "7"):
        (tree / name).mkdir(parents=True)
        for file in sorted((digit_files / "train" / name).iterdir())[:30]:
            (tree / name / file.name).write_bytes(file.read_bytes())
    code, out, _ = cli("train", tree, "--epochs", 2, "--output", tmp_path / "run", "--split-seed", 5, "--json")
    reported = json.loads(out)["splits"]["val"]
    assert code == 0
    (tree / "3" / "more.png").write_bytes(sorted((digit_files / "test" / "3").iterdir())[0].read_bytes())
    code, out, _ = cli("evaluate", tmp_path / "run", tree, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["count"], found["top1_percent"]) == (reported["count"], reported["top1_percent"])
    assert any("not in the recorded split" in note for note in found["notes"])


def test_an_option_without_effect_is_said(cli, trained, digit_files):
    code, out, _ = cli("evaluate", trained, digit_files, "--val-fraction", 0.5)
    assert code == 0
    assert "--val-fraction has no effect: the data has its own splits" in out
    _, out, _ = cli("evaluate", trained, digit_files)
    assert "no effect" not in out


def test_a_folder_called_like_an_image_is_no_image(cli, trained, tmp_path):
    (tmp_path / "dir.jpg").mkdir()
    Image.new("L", (30, 20), 128).save(tmp_path / "good.png")
    code, out, _ = cli("predict", trained, tmp_path, "--json")
    assert code == 0
    assert len(json.loads(out)["predictions"]) == 1


def test_a_broken_training_image_is_named_with_what_to_do(cli, digit_files, tmp_path):
    for name in ("3", "7"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for file in sorted((digit_files / "train" / name).iterdir())[:10]:
            (tmp_path / "data" / name / file.name).write_bytes(file.read_bytes())
    (tmp_path / "data" / "3" / "broken.png").write_bytes(b"")
    code, _, err = cli("train", tmp_path / "data", "--model", "mixer_p2_8", "--epochs", 1, "--output", tmp_path / "run")
    assert code == 2
    assert "broken.png" in err.splitlines()[-1]
    assert "--skip-bad" in err.splitlines()[-1]
    code, _, err = cli("train", tmp_path / "data", "--model", "mixer_p2_8", "--epochs", 1, "--output", tmp_path / "run",
                       "--skip-bad")
    assert code == 0
    assert "broken.png" in err


def test_class_names_from_a_file_do_not_speak_to_the_terminal(cli, tmp_path):
    import allmlp

    Image.new("L", (30, 20), 128).save(tmp_path / "good.png")
    allmlp.save(allmlp.create_model("mixer_p2_8", classes=["\x1b[2J", "a\nb"], seed=0), tmp_path / "x.safetensors")
    code, out, _ = cli("predict", tmp_path / "x.safetensors", tmp_path / "good.png")
    assert code == 0
    assert "?[2J 50.0 %" in out
    assert out.rstrip("\n").isprintable()
    _, out, _ = cli("predict", tmp_path / "x.safetensors", tmp_path / "good.png", "--csv", "-")
    cli("predict", tmp_path / "x.safetensors", tmp_path / "good.png", "--csv", tmp_path / "x.csv")
    assert "?[2J" in out
    assert all(line.isprintable() for line in out.splitlines())
    assert (tmp_path / "x.csv").read_text() == out


@pytest.mark.parametrize("name", ["x" * 5000, "/proc/self/mem", "", "a/../nothing"], ids=lambda name: name[:20])
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_name_that_leads_to_no_weights_is_one_line(cli, command, name, tmp_path):
    Image.new("L", (8, 8), 128).save(tmp_path / "good.png")
    code, out, err = cli(command, name, tmp_path / "good.png" if command == "predict" else "digits")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


def test_logits_that_are_not_finite_are_one_line(cli, tmp_path):
    """Weights that are finite, and so large that what they give is not."""
    import torch

    import allmlp

    Image.new("L", (8, 8), 128).save(tmp_path / "good.png")
    model = allmlp.create_model("mixer_p2_8", num_classes=10, seed=0)
    for parameter in (model.norm.weight, model.head.weight):
        torch.nn.init.constant_(parameter, 1e38)
    allmlp.save(model, tmp_path / "x.safetensors")
    for command, data in (("predict", tmp_path / "good.png"), ("evaluate", "digits")):
        code, out, err = cli(command, tmp_path / "x.safetensors", data, "--skip-bad")
        assert (code, out) == (2, "")
        assert "images are not finite (NaN or infinite)" in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("given", ["９６", "9٣", "64x９６"])
def test_an_image_size_is_written_in_plain_digits(cli, given):
    code, _, err = cli("predict", "x", "y", "--image-size", given)
    assert code == 2
    assert "is not an image size" in err


def test_a_network_without_names_and_with_another_number_of_classes_is_told_in_those_words(cli, tmp_path):
    import allmlp

    allmlp.save(allmlp.create_model("mixer_p2_8", num_classes=7, seed=0), tmp_path / "x.safetensors")
    code, _, err = cli("evaluate", tmp_path / "x.safetensors", "digits")
    assert code == 2
    assert "the network has 7 classes without names, and the data 10: '0', '1', '2', '3', '4', …" in err


@pytest.mark.parametrize("threads", ["0", "-1", "100000", "two"])
def test_a_number_of_threads_that_no_runtime_takes_is_refused_before_it_crashes(cli, trained, digit_files, threads):
    code, _, err = cli("predict", trained, digit_files, "--threads", threads)
    assert code == 2
    assert f"'{threads}' is not a" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_an_exported_network_uses_as_many_threads_as_were_asked_for(cli, tmp_path, digit_files, monkeypatch, command):
    engine = pytest.importorskip("allmlp_native", reason="the engine is not installed: make native")
    native.export(create_model("mixer_p2_8", num_classes=10), tmp_path / "m.allmlp")
    asked, model = [], engine.Model

    def counted(path, threads, level):
        asked.append(threads)
        return model(path, threads, level)

    monkeypatch.setattr(engine, "Model", counted)
    data = digit_files / "test" / "0" if command == "predict" else "digits"
    assert cli(command, tmp_path / "m.allmlp", data, "--threads", 1)[0] == 0
    assert asked == [1]


@pytest.mark.parametrize("command", ["predict", "serve"])
def test_workers_are_not_offered_where_none_would_work(cli, trained, command):
    code, _, err = cli(command, trained, "--workers", 2)
    assert code == 2
    assert "--workers" in err


def test_a_name_that_is_too_long_for_a_file_is_one_line(cli, trained):
    code, _, err = cli("predict", trained, "x" * 300)
    assert code == 2
    assert "no such file, folder or match" in err


def test_a_folder_that_may_not_be_read_is_not_called_empty(cli, trained, tmp_path, monkeypatch):
    assert "no images in this folder" in cli("predict", trained, tmp_path)[2]
    monkeypatch.setattr(os, "access", lambda *_: False)
    code, _, err = cli("predict", trained, tmp_path)
    assert (code, f"{tmp_path}: cannot be read" in err) == (2, True)
