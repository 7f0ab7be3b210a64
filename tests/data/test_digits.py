import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from allmlp.data import open_data
from allmlp.data.dataset import Data, ImageDataset
from allmlp.data.digits import ArrayImages, open_digits
from allmlp.data.imagefolder import open_folder
from allmlp.data.write import write_folder
from allmlp.errors import BadData, CannotWrite

# Of "digits/1080\ndigits/…", the names of the test images in their order: figures on other images do not compare.
TEST_SPLIT_SHA256 = "71eaed6d4c23c2adf051f32ccee92d90ad98ef99c2bd4d48b9b041d7e49a4dd5"


@pytest.fixture(scope="module")
def digits() -> Data:
    return open_digits()


def number(images: ImageDataset, index: int) -> int:
    """Which of scikit-learn's images it is, by its name."""
    return int(images.name(index).removeprefix("digits/"))


def test_there_are_1437_training_and_360_test_images_of_ten_classes(digits: Data):
    assert {split: len(images) for split, images in digits.splits.items()} == {"train": 1437, "test": 360}
    assert digits.classes == tuple("0123456789")
    assert all(isinstance(images, ImageDataset) and images.classes == digits.classes
               for images in digits.splits.values())


def test_each_of_scikit_learns_images_is_there_once_with_its_label_and_its_grey_values(digits: Data):
    source: Any = load_digits()
    seen = set()
    scaled = {value: round(value * 255 / 16) for value in range(17)}
    for images in digits.splits.values():
        assert images.labels.dtype == np.int64
        for index, label in enumerate(images.labels):
            which = number(images, index)
            seen.add(which)
            assert label == source.target[which]
            expected = [[[scaled[int(value)]] * 3 for value in row] for row in source.images[which]]
            assert images.image(index).dtype == np.uint8
            assert images.image(index).tolist() == expected
    assert seen == set(range(1797))


def test_a_fifth_of_each_class_is_for_testing(digits: Data):
    test = np.bincount(digits.splits["test"].labels)
    every = test + np.bincount(digits.splits["train"].labels)
    assert np.abs(test - every / 5).max() < 1


def test_the_split_is_the_one_that_published_figures_were_measured_on(digits: Data):
    names = "\n".join(digits.splits["test"].name(index) for index in range(360))
    assert hashlib.sha256(names.encode()).hexdigest() == TEST_SPLIT_SHA256


def test_the_digits_are_a_named_source():
    assert open_data("digits").name == "digits"


# --- written down as a folder ----------------------------------------------------------------------------------------


def test_digits_written_as_png_files_come_back_to_the_pixel(digits: Data, tmp_path: Path):
    write_folder(digits, tmp_path / "out")
    back = open_folder(tmp_path / "out")
    assert (back.classes, set(back.splits), back.split_files) == (digits.classes, {"train", "test"}, None)
    for split, images in back.splits.items():
        original = digits.splits[split]
        assert len(images) == len(original)
        for index, label in enumerate(images.labels):
            which = int(Path(images.name(index)).stem)  # files are numbered in the order of the split
            assert label == original.labels[which]
            np.testing.assert_array_equal(images.image(index), original.image(which))
    assert (tmp_path / "out" / "train" / "0").is_dir()


def small(classes: tuple[str, ...], labels: np.ndarray) -> Data:
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 5, 3), dtype=np.uint8)
    names = [f"small/{index}" for index in range(len(labels))]
    return Data("small", classes, {split: ArrayImages(images, labels, classes, names) for split in ("train", "val")})


def test_a_class_without_images_in_a_split_keeps_its_folder(tmp_path: Path):
    write_folder(small(("ant", "bee", "cow"), np.array([0, 0, 2])), tmp_path)
    assert sorted(os.listdir(tmp_path / "val")) == ["ant", "bee", "cow"]
    assert sorted(os.listdir(tmp_path / "val" / "ant")) == ["0000.png", "0001.png"]
    assert os.listdir(tmp_path / "val" / "bee") == []


def test_images_with_several_labels_come_back_with_them(tmp_path: Path):
    labels = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=np.uint8)
    data = small(("a, b", 'c "d"', "e"), labels)
    write_folder(data, tmp_path)
    back = open_folder(tmp_path)
    assert back.classes == data.classes
    for split in ("train", "val"):
        np.testing.assert_array_equal(back.splits[split].labels, labels)
        for index in range(3):
            np.testing.assert_array_equal(back.splits[split].image(index), data.splits[split].image(index))


def test_nothing_is_written_into_a_folder_that_has_something_in_it(tmp_path: Path, digits: Data):
    (tmp_path / "mine.txt").write_text("precious")
    for out in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(CannotWrite, match="there is something already; give a new or an empty folder"):
            write_folder(digits, out)
    assert os.listdir(tmp_path) == ["mine.txt"]


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a\\b", "Thumbs.db"])
def test_a_class_that_cannot_be_a_folder_is_refused_before_anything_is_written(name: str, tmp_path: Path):
    with pytest.raises(BadData, match="cannot be the name of a folder"):
        write_folder(small(("ok", name), np.array([0, 1])), tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["", "a;b", " a"])
def test_a_label_that_cannot_stand_in_a_list_is_refused(name: str, tmp_path: Path):
    with pytest.raises(BadData, match="cannot stand in a list"):
        write_folder(small(("ok", name), np.eye(2, dtype=np.uint8)), tmp_path)


def test_a_disk_that_refuses_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Data):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(CannotWrite, match="No space left on device; what was written so far is incomplete"):
        write_folder(digits, tmp_path)
