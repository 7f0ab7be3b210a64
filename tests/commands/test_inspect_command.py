"""`allmlp inspect` as a person uses it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import allmlp
from allmlp.commands.inspect import along_training

GOLDEN = Path(__file__).parent.parent / "golden"
SHAPE = {"image_size": (8, 12), "patch_size": (2, 3), "seed": 0}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two networks, a run that kept two checkpoints, and an image."""
    folder = tmp_path_factory.mktemp("inspect")
    for name in ("mixer", "gmlp"):
        allmlp.save(allmlp.create_model(f"{name}_p2_8", classes=["<b>cat", "dog"], **SHAPE),
                    folder / f"{name}.safetensors")
    (folder / "run").mkdir()
    for seed, name in enumerate(("last", "best")):
        allmlp.save(allmlp.create_model("mixer_p2_8", num_classes=2, seed=seed), folder / "run" / f"{name}.safetensors",
                    {"step": 10 * (seed + 1), "epochs": seed + 1})
    pixels = np.random.default_rng(0).integers(256, size=(20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    return folder


def test_a_network_and_an_image_become_a_page_that_works_offline(cli, files, tmp_path):
    output = tmp_path / "out"
    code, out, err = cli("inspect", files / "gmlp.safetensors", files / "image.png", "--output", output, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert sorted(Path(file).name for file in found["files"]) == sorted(file.name for file in output.iterdir())
    names = {Path(file).stem for file in found["files"]}
    assert names == {"index", "stem", "spatial-gate", "sparsity", "evidence"}
    assert found["left_out"] == ["gmlp: no token MLP in the blocks shown"]
    page = (output / "index.html").read_text()
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)
    assert all(f"{name}.svg" in page for name in names - {"index"})
    assert "99.5 % of the weights" in page  # scale, rule and source stand in the captions
    assert "As MLP-Mixer&#x27;s figure 7" in page
    assert "gmlp: no token MLP" in page


@pytest.mark.slow
def test_two_networks_stand_side_by_side(cli, files, tmp_path):
    code, out, _ = cli("inspect", files / "mixer.safetensors", files / "gmlp.safetensors", files / "image.png",
                       "--output", tmp_path / "out", "--json")
    assert code == 0
    names = {Path(file).stem for file in json.loads(out)["files"]}
    assert names == {"index", "stem", "token-mixing", "spatial-gate-2", "sparsity", "evidence-1", "evidence-2"}


def test_the_checkpoints_of_a_run_are_taken_in_the_order_of_training(files):
    found = along_training([str(files / "run")])
    assert list(found) == ["last, epoch 1", "best, epoch 2"]
    assert [path.name for path in found.values()] == ["last.safetensors", "best.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("name,size", [("google-mixer-tiny.npz", None), ("google-mixer-rect.npz", "48x32"),
                                       ("facebook-resmlp-tiny.pth", None)])
def test_files_of_others_are_drawn(cli, files, tmp_path, name, size):
    arguments = ["--image-size", size] if size else []
    code, _, err = cli("inspect", GOLDEN / name, files / "image.png", *arguments, "--output", tmp_path / "out")
    assert (code, err) == (0, "")
    assert (tmp_path / "out" / "evidence.png").exists()


@pytest.mark.slow
def test_features_of_a_data_set_are_embedded(cli, tmp_path):
    allmlp.save(allmlp.create_model("mixer_p2_8", num_classes=10, seed=0), tmp_path / "x.safetensors")
    code, _, _ = cli("inspect", tmp_path / "x.safetensors", "--data", "digits", "--most-images", 60,
                       "--output", tmp_path / "out")
    assert code == 0
    assert (tmp_path / "out" / "embedding.svg").exists()
    assert "60 drawn from 360 images of digits" in (tmp_path / "out" / "index.html").read_text()


def mistakes(files: Path) -> dict[str, tuple[list[object], str]]:
    mixer = files / "mixer.safetensors"
    return {
        "no such image": ([mixer, files / "none.png"], "none.png: no such file"),
        "a glob without match": ([mixer, files / "*.jpg"], "*.jpg: no such file, folder or match"),
        "no such network": ([files / "none"], "none"),
        "no image": ([mixer, files / "empty.png"], "empty.png"),
        "no such block": ([mixer, "--blocks", "0,7"], "block 7: the network has blocks 0 to 3"),
        "no number": ([mixer, "--blocks", "first"], "'first' are no block numbers"),
        "a folder in use": ([mixer, "--output", files], "holds something already; say --overwrite"),
        "a file": ([mixer, "--output", mixer], "is a file; give the name of a folder"),
        "five networks": ([mixer] * 5, "5 networks: at most 4"),
        "no run": ([mixer, "--along-training"], "not a run folder"),
        "no such data": ([mixer, "--data", "digitz"], "digits"),
        "broken images of no data": ([mixer, "--skip-bad"], "--skip-bad says how DATA is opened; give --data too"),
        "a split of no data": ([mixer, "--split", "val"], "--split is about the images of DATA; give --data too"),
        "an embedding of nothing": ([mixer, "--embedding", "umap"], "--embedding is about the images of DATA"),
        "processes for no data": ([mixer, "--workers", "1"], "--workers is about the images of DATA; give --data too"),
        "few images of no data": ([mixer, "--most-images", "9"], "--most-images is about the images of DATA"),
    }


@pytest.mark.parametrize("kind", mistakes(Path()))
def test_a_mistake_is_one_clear_line(cli, files, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    (files / "empty.png").write_bytes(b"")
    arguments, says = mistakes(files)[kind]
    code, out, err = cli("inspect", *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.glob("*/*.png"))


@pytest.mark.parametrize("data", [[], ["--data", "digits"]], ids=["alone", "beside data"])
def test_a_broken_image_is_told_without_an_option_that_would_not_help(cli, files, tmp_path, data):
    (tmp_path / "broken.png").write_bytes(b"")
    code, out, err = cli("inspect", files / "mixer.safetensors", tmp_path / "broken.png", *data)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"allmlp: {tmp_path / 'broken.png'}: ")
    assert err.endswith("; leave it out\n")


def test_a_run_that_kept_one_moment_says_so(cli, files, tmp_path):
    (tmp_path / "best.safetensors").write_bytes((files / "run" / "best.safetensors").read_bytes())
    code, _, err = cli("inspect", tmp_path, "--along-training")
    assert code == 2
    assert "of one moment only" in err
