import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from allmlp.cli import main
from allmlp.data import open_data
from allmlp.data.dataset import Data
from allmlp.data.digits import ArrayImages
from allmlp.data.shard import write_shards
from allmlp.errors import BadData, BadSetting, CannotWrite

Put = Callable[..., Path]


def found(data: Data) -> dict[str, list[tuple[str, bytes]]]:
    """What each split has, whatever its order: label and pixels of every image."""
    return {split: sorted((str(label), images.image(i).tobytes()) for i, label in enumerate(images.labels.tolist()))
            for split, images in data.splits.items()}


@pytest.mark.parametrize("images_per_shard", [1, 2, 100])
def test_shards_of_a_folder_have_its_images_labels_names_and_splits(pets: Path, tmp_path: Path, images_per_shard: int):
    data = open_data(str(pets))
    counts = write_shards(data, tmp_path / "out", images_per_shard)
    back = open_data(str(tmp_path / "out"))
    assert back.classes == data.classes
    assert found(back) == found(data)
    assert counts == {split: -(-len(images) // images_per_shard) for split, images in data.splits.items()}


def test_files_go_into_shards_byte_for_byte(pets: Path, tmp_path: Path):
    write_shards(open_data(str(pets)), tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "val-00000.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # pyright: ignore[reportOptionalMemberAccess]
    about = json.loads(members["000000000.json"])
    assert (about["file"], set(members)) == ("9.png", {f"00000000{i}.{end}" for i in (0, 1) for end in
                                                       ("png", "json", "cls")})
    assert members["000000000.png"] == (pets / "val" / about["label"] / "9.png").read_bytes()
    assert members["000000000.cls"] == {"cat": b"0", "dog": b"1"}[about["label"]]


def test_the_same_data_give_the_same_bytes_and_another_seed_another_order(pets: Path, tmp_path: Path):
    data = open_data(str(pets))
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_shards(data, tmp_path / name, seed=seed)
    one, same, other = ((tmp_path / name / "train-00000.tar").read_bytes() for name in "abc")
    assert one == same
    assert one != other


@pytest.mark.parametrize("labels", [
    np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], np.uint8),
    np.array([[1, 0, 0], [0.25, 0.75, 0], [0, 0, 1]], np.float32),
], ids=["several", "soft"])
def test_several_and_soft_labels_come_back(tmp_path: Path, labels: np.ndarray, noise_of: Callable):
    images = np.stack([noise_of(str(i)) for i in range(3)])
    data = Data("x", ("b", "a", "c"), {"train": ArrayImages(images, labels, ("b", "a", "c"), ["0", "1", "2"])})
    write_shards(data, tmp_path / "out")
    back = open_data(str(tmp_path / "out"), val_fraction=0)
    assert (back.classes, back.splits["train"].labels.dtype) == (data.classes, labels.dtype)
    assert found(back) == found(data)


def test_shards_of_shards_of_a_drawn_split_are_the_same_images(tree: Path, tmp_path: Path):
    data = open_data(str(tree))
    write_shards(data, tmp_path / "a")
    write_shards(open_data(str(tmp_path / "a")), tmp_path / "b", 3)
    assert found(open_data(str(tmp_path / "b"))) == found(data)


def test_nothing_is_overwritten_and_no_broken_image_gets_into_a_shard(pets: Path, tmp_path: Path):
    with pytest.raises(CannotWrite, match="there is something already"):
        write_shards(open_data(str(pets)), pets)
    with pytest.raises(BadSetting, match="images_per_shard 0"):
        write_shards(open_data(str(pets)), tmp_path / "out", 0)
    (pets / "train" / "cat" / "2.png").write_bytes(b"no image")
    with pytest.raises(BadData, match=r"cat/2.png: not an image"):
        write_shards(open_data(str(pets)), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tar"))  # not even half a one


@pytest.mark.parametrize("command", [["shard"], ["data", "shard"]])
def test_the_command_writes_shards_and_the_doctor_reads_them(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture, command: list[str]
):
    out = str(tmp_path / "out")
    assert main([*command, str(pets), out, "--images-per-shard", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "folder": out, "images": {"train": 5, "val": 2}, "shards": {"train": 3, "val": 1}}
    assert main(["data", "check", out, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"] == {"train": {"cat": 3, "dog": 2}, "val": {"cat": 1, "dog": 1}}
    assert report["formats"] == {"PNG": 7}


def test_the_doctor_finds_what_is_wrong_in_shards(put: Put, tmp_path: Path, capsys: pytest.CaptureFixture):
    data = open_data(str(put("train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png")))
    (tmp_path / "val/cat/3.png").write_bytes((tmp_path / "train/dog/2.png").read_bytes())
    write_shards(data, tmp_path / "out")
    assert main(["data", "check", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert "1 image in more than one split" in said
    assert "1 image with different labels in different places" in said


def test_writing_a_folder_from_shards_gives_the_images_back(pets: Path, tmp_path: Path):
    data = open_data(str(pets))
    write_shards(data, tmp_path / "shards")
    assert main(["data", "write", str(tmp_path / "shards"), str(tmp_path / "folder")]) == 0
    assert found(open_data(str(tmp_path / "folder"))) == found(data)


@pytest.mark.slow
def test_a_run_on_shards_is_resumed_and_evaluated_on_what_it_held_out(tree: Path, tmp_path: Path,
                                                                      capsys: pytest.CaptureFixture):
    shards, run = str(tmp_path / "shards"), str(tmp_path / "run")
    write_shards(open_data(str(tree), val_fraction=0), shards, 6)
    options = ["--model", "mixer_p2_8", "--image-size", "8", "--threads", "1", "--quiet", "--batch-size", "4"]
    assert main(["train", shards, "--epochs", "2", "--time-limit", "0", "--output", run, *options]) == 0
    assert main(["train", "--resume", run, "--quiet"]) == 0
    found = json.loads((tmp_path / "run" / "results.json").read_text())["splits"]["val"]
    held_out = json.loads((tmp_path / "run" / "split.json").read_text())
    assert all(key.startswith("train-0000") for own in held_out.values() for key in own)
    capsys.readouterr()
    assert main(["evaluate", run, shards, "--split", "val", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert (measured["count"], measured["top1_percent"]) == (found["count"], found["top1_percent"])
    assert measured["count"] == len(held_out["val"])


def test_options_without_effect_are_said(pets: Path, capsys: pytest.CaptureFixture, tmp_path: Path):
    options = ["--download", "--data-dir", str(tmp_path), "--val-fraction", "0.1"]
    assert main(["shard", str(pets), str(tmp_path / "out"), *options]) == 0
    said = capsys.readouterr().err
    for flag in ("--download", "--data-dir", "--val-fraction"):
        assert f"{flag} has no effect" in said
