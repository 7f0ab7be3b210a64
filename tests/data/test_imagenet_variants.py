from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from allmlp.cli import main
from allmlp.data import open_data
from allmlp.data.imagenet_variants import corruptions
from allmlp.errors import BadData

TENCH, GOLDFISH, CRANE = "n01440764", "n01443537", "n02012849"  # outputs 0, 1 and 134
Make = Callable[..., bytes]


def write(root: Path, png_of: Make, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(png_of(path))


@pytest.mark.parametrize("inside", ["", "imagenetv2-matched-frequency-format-val/"])
def test_v2_folders_are_numbers_of_classes_and_not_texts_in_order(tmp_path: Path, png_of: Make, inside: str):
    write(tmp_path, png_of, *(f"{inside}{number}/{i}.jpeg" for number in (0, 2, 10, 134, 999) for i in "ba"))
    data = open_data(f"imagenet-v2:{tmp_path}")
    assert list(data.splits) == ["test"]
    images = data.splits["test"]
    assert images.labels.tolist() == [0, 0, 2, 2, 10, 10, 134, 134, 999, 999]
    assert [data.classes[k] for k in (0, 134, 999)] == ["tench", "crane bird", "toilet tissue"]
    assert images.name(0).endswith("/0/a.jpeg")
    assert data.notes == ("imagenet-v2: images of 5 classes, the published set has 1,000",)
    assert not data.closed


@pytest.mark.parametrize("kind, closed", [("imagenet-a", True), ("imagenet-r", True), ("imagenet-sketch", False)])
@pytest.mark.parametrize("inside", ["", "unpacked/"])
def test_folders_by_synset_have_the_classes_that_are_there_or_all(
    tmp_path: Path, png_of: Make, kind: str, closed: bool, inside: str
):
    write(tmp_path, png_of, *(f"{inside}{synset}/{i}.jpg" for synset in (CRANE, TENCH) for i in (1, 2)))
    data = open_data(f"{kind}:{tmp_path}")
    assert data.closed == closed
    assert data.splits["test"].labels.tolist() == ([0, 0, 1, 1] if closed else [0, 0, 134, 134])
    assert data.classes == ("tench", "crane bird") if closed else len(data.classes) == 1000


def corrupted(root: Path, png_of: Make) -> None:
    for folder in ("noise/gaussian_noise", "noise/shot_noise", "fog"):
        for severity in "12345" if folder != "fog" else "25":
            paths = [f"{folder}/{severity}/{synset}/{i}.JPEG" for synset in (TENCH, GOLDFISH) for i in "12"]
            write(root, png_of, *paths)


def test_c_has_corruptions_and_severities_in_folders_of_kinds_or_not(tmp_path: Path, png_of: Make):
    corrupted(tmp_path, png_of)
    assert {name: list(own) for name, own in corruptions(tmp_path).items()} == {
        "fog": ["2", "5"], "gaussian_noise": list("12345"), "shot_noise": list("12345")}
    images = open_data(f"imagenet-c:{tmp_path}").splits["test"]
    assert len(images) == 48
    assert np.bincount(images.labels).tolist() == [24, 24]
    one = open_data(f"imagenet-c:{tmp_path / 'fog' / '2'}").splits["test"]
    assert one.labels.tolist() == [0, 0, 1, 1]
    assert images.image(0).shape == one.image(0).shape


@pytest.mark.parametrize("kind, path, said", [
    ("imagenet-v2", "n01440764/1.jpeg", "'n01440764' is no folder of a class"),
    ("imagenet-v2", "0/1.jpeg 1000/1.jpeg", "'1000' is no folder of a class"),
    ("imagenet-v2", "0/1.txt 1/1.txt", "no images"),
    ("imagenet-r", "n00004475/1.jpg n01440764/1.jpg", "n00004475 is none of the 1,000 classes"),
    ("imagenet-sketch", "cat/1.jpg dog/1.jpg", "called like n01440764"),
    ("imagenet-c", "fog/7/n01440764/1.jpg", "called like n01440764"),
])
def test_what_is_no_such_set_is_said_in_one_line(tmp_path: Path, png_of: Make, kind: str, path: str, said: str):
    write(tmp_path, png_of, *path.split())
    with pytest.raises(BadData, match=said) as caught:
        open_data(f"{kind}:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_there_is_nothing_to_train_on(tmp_path: Path, png_of: Make, capsys: pytest.CaptureFixture):
    write(tmp_path, png_of, f"{TENCH}/1.jpg", f"{CRANE}/1.jpg")
    assert main(["train", f"imagenet-r:{tmp_path}", "--output", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1] == "allmlp: this data has no train split, only test; it is not made for that"
    with pytest.raises(BadData, match="no such folder"):
        open_data(f"imagenet-a:{tmp_path / 'none'}")
