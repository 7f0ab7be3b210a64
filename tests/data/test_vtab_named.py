"""The tasks on sets that torchvision knows, and on folders, as tiny files in their own formats."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from torchvision import datasets

from allmlp.data import open_data
from allmlp.data.dataset import Data
from allmlp.errors import BadData

Make = Callable[..., bytes]
Expected = dict[str, list[tuple[str, str]]]
"""Of each split the images, by the ends of their names, with their classes."""


def in_order(split: str, keys: list[str]) -> list[str]:
    return sorted(keys, key=lambda key: hashlib.md5((split + key).encode()).hexdigest())


@pytest.fixture
def put(tmp_path: Path, png_of: Make) -> Callable[..., str]:
    """Writes a text, bytes or, by name alone, a picture below the folder; returns the MD5."""
    def write(path: str, content: bytes | str | None = None) -> str:
        body = png_of(path) if content is None else content.encode() if isinstance(content, str) else content
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(body)
        return hashlib.md5(body).hexdigest()

    return write


def has(data: Data, expected: Expected) -> None:
    assert {split: len(images) for split, images in data.splits.items()} == {
        split: len(own) for split, own in expected.items()}
    for split, own in expected.items():
        images = data.splits[split]
        for i, (name, label) in enumerate(own):
            assert images.name(i).endswith(name), (split, i)
            assert data.classes[images.labels[i]] == label
            assert images.image(i).ndim == 3


def test_dtd_has_its_own_three_parts(tmp_path: Path, put: Callable):
    parts = {}
    for split, name in (("train", "train1"), ("validation", "val1"), ("test", "test1")):
        parts[split] = [f"{kind}/{kind}_{split}{i}.jpg" for kind in ("striped", "banded") for i in range(2)]
        put(f"dtd/dtd/labels/{name}.txt", "\n".join(parts[split]) + "\n")
        for path in parts[split]:
            put(f"dtd/dtd/images/{path}")
    has(open_data("vtab:dtd", data_dir=tmp_path), {
        ours: [(f"/{key}", key.split("/")[0]) for key in in_order(pool, parts[pool])]
        for ours, pool in (("train", "train"), ("val", "validation"), ("test", "test"))})


def test_pets_validate_on_a_fifth_of_the_training_images(tmp_path: Path, put: Callable):
    for split, numbers in (("trainval", range(5)), ("test", range(5, 7))):
        lines = [f"{name}_{n} {label} 1 1" for label, name in enumerate(("Abyssinian", "pug"), 1) for n in numbers]
        put(f"oxford-iiit-pet/annotations/{split}.txt", "\n".join(lines) + "\n")
        for line in lines:
            put(f"oxford-iiit-pet/images/{line.split()[0]}.jpg")
    trainval = in_order("train", [f"{name}_{n}.jpg" for name in ("Abyssinian", "pug") for n in range(5)])
    test = in_order("test", [f"{name}_{n}.jpg" for name in ("Abyssinian", "pug") for n in (5, 6)])
    named = {"Abyssinian": "Abyssinian", "pug": "Pug"}
    has(open_data("vtab:pets", data_dir=tmp_path), {
        split: [(f"/{key}", named[key.split("_")[0]]) for key in own]
        for split, own in (("train", trainval[:8]), ("val", trainval[8:]), ("test", test))})


def test_flowers_are_ordered_by_their_files(tmp_path: Path, put: Callable, monkeypatch: pytest.MonkeyPatch):
    numbers = {"trnid": [6, 1, 9], "valid": [2, 3], "tstid": [4, 5, 7, 8]}
    labels = np.array([[1, 102, 2, 1, 77, 3, 5, 6, 7]], np.uint8)
    md5 = {}
    for file, arrays in (("imagelabels.mat", {"labels": labels}), ("setid.mat", {k: [v] for k, v in numbers.items()})):
        (tmp_path / "flowers-102").mkdir(exist_ok=True)
        savemat(tmp_path / "flowers-102" / file, arrays)
        md5[file] = hashlib.md5((tmp_path / "flowers-102" / file).read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", datasets.Flowers102._file_dict | {
        "label": ("imagelabels.mat", md5["imagelabels.mat"]), "setid": ("setid.mat", md5["setid.mat"])})
    for number in range(1, 10):
        put(f"flowers-102/jpg/image_{number:05d}.jpg")
    has(open_data("vtab:flowers102", data_dir=tmp_path), {
        ours: [(f"/{key}", datasets.Flowers102.classes[int(labels[0, int(key[6:11]) - 1]) - 1])
               for key in in_order(pool, [f"image_{number:05d}.jpg" for number in numbers[part]])]
        for ours, pool, part in (("train", "train", "trnid"), ("val", "validation", "valid"),
                                 ("test", "test", "tstid"))})


@pytest.mark.parametrize("task", ["cifar100", "svhn"])
def test_small_images_are_ordered_by_their_numbers(
    tmp_path: Path, put: Callable, noise_of: Callable, monkeypatch: pytest.MonkeyPatch, task: str
):
    counts = {"train": 20, "test": 6}
    images = {split: np.stack([noise_of(f"{split}{i}", 32, 32) for i in range(n)]) for split, n in counts.items()}
    if task == "cifar100":
        for split in counts:
            rows = images[split].transpose(0, 3, 1, 2).reshape(len(images[split]), -1)
            told = {"data": rows, "fine_labels": [i % 3 for i in range(len(rows))]}
            md5 = put(f"cifar-100-python/{split}", pickle.dumps(told, 2))
            monkeypatch.setattr(datasets.CIFAR100, f"{split}_list", [[split, md5]])
        md5 = put("cifar-100-python/meta", pickle.dumps({"fine_label_names": ["0", "1", "2"]}, 2))
        monkeypatch.setattr(datasets.CIFAR100, "meta", datasets.CIFAR100.meta | {"md5": md5})
    else:
        known = dict(datasets.SVHN.split_list)
        for split, count in counts.items():
            savemat(tmp_path / f"{split}_32x32.mat", {"X": images[split].transpose(1, 2, 3, 0),
                                                     "y": [[i % 3 or 10] for i in range(count)]})
            md5 = hashlib.md5((tmp_path / f"{split}_32x32.mat").read_bytes()).hexdigest()
            known[split] = [known[split][0], f"{split}_32x32.mat", md5]
        monkeypatch.setattr(datasets.SVHN, "split_list", known)
    train, test = ([int(key) for key in in_order(split, [str(i) for i in range(counts[split])])] for split in counts)
    data = open_data(f"vtab:{task}", data_dir=tmp_path)
    for split, pool, numbers in (("train", "train", train[:18]), ("val", "train", train[18:]), ("test", "test", test)):
        own = data.splits[split]
        assert [data.classes[k] for k in own.labels] == [str(number % 3) for number in numbers]
        assert all(np.array_equal(own.image(i), images[pool][number]) for i, number in enumerate(numbers))


def test_patch_camelyon_is_ordered_by_part_and_number(tmp_path: Path, noise_of: Callable):
    (tmp_path / "pcam").mkdir()
    counts = {"train": 5, "valid": 3, "test": 4}
    for part, count in counts.items():
        start = tmp_path / "pcam" / f"camelyonpatch_level_2_split_{part}"
        with h5py.File(f"{start}_x.h5", "w") as file:
            file["x"] = np.stack([noise_of(f"{part}{i}", 96, 96) for i in range(count)])
        with h5py.File(f"{start}_y.h5", "w") as file:
            file["y"] = (np.arange(count, dtype=np.uint8) % 2).reshape(-1, 1, 1, 1)
    data = open_data("vtab:camelyon", data_dir=tmp_path)
    for ours, pool, part in (("train", "train", "train"), ("val", "validation", "valid"), ("test", "test", "test")):
        keys = in_order(pool, [f"{part}_{i}" for i in range(counts[part])])
        assert data.splits[ours].labels.tolist() == [int(key.split("_")[1]) % 2 for key in keys]
        assert np.array_equal(data.splits[ours].image(0), noise_of(keys[0].replace("_", ""), 96, 96))


@pytest.mark.parametrize("task, folder, ending", [
    ("eurosat", "eurosat/2750", ""), ("resisc45", "NWPU-RESISC45", ""), ("resisc45", "resisc45", "")])
def test_satellite_images_have_three_fifths_to_train_and_one_each_to_choose_and_test(
    tmp_path: Path, put: Callable, task: str, folder: str, ending: str
):
    names = [f"{kind}_{i}.jpg" for kind in ("airplane", "beach") for i in range(5)]
    for name in names:
        put(f"{folder}/{name.split('_')[0]}/{name}")
    order = [key.partition("_")[2] for key in in_order("train", [f"{name.split('_')[0]}_{name}" for name in names])]
    has(open_data(f"vtab:{task}", data_dir=tmp_path), {
        split: [(f"/{name}", name.split("_")[0]) for name in own]
        for split, own in (("train", order[:6]), ("val", order[6:8]), ("test", order[8:]))})


def test_caltech_trains_on_thirty_of_each_class_background_too_and_says_that_they_are_our_draw(
    tmp_path: Path, put: Callable
):
    for kind, count in (("BACKGROUND_Google", 33), ("Faces", 31)):
        for i in range(count):
            put(f"caltech101/101_ObjectCategories/{kind}/image_{i:04d}.jpg")
    data = open_data("vtab:caltech101", data_dir=tmp_path)
    assert data.classes == ("BACKGROUND_Google", "Faces")
    assert {split: np.bincount(images.labels).sum() for split, images in data.splits.items()} == {
        "train": 54, "val": 6, "test": 4}
    training = np.concatenate([data.splits["train"].labels, data.splits["val"].labels])
    assert np.bincount(training).tolist() == [30, 30]
    assert np.bincount(data.splits["test"].labels).tolist() == [3, 1]
    assert any("our draw" in note for note in data.notes)
    names = [images.name(i) for images in data.splits.values() for i in range(len(images))]
    assert len(set(names)) == 64


def test_sun397_is_drawn_or_parted_by_the_lists_of_tensorflow_datasets(tmp_path: Path, put: Callable):
    put("SUN397/ClassName.txt", "/a/abbey\n/b/bow_window/indoor\n")
    files = [f"/{kind}/sun_{i}.jpg" for kind in ("a/abbey", "b/bow_window/indoor") for i in range(10)]
    for file in files:
        put(f"SUN397{file}")
    names = {"a": "abbey", "b": "bow_window/indoor"}
    order = in_order("train", files)
    drawn = {"train": ("train", order[:14]), "val": ("validation", order[14:16]), "test": ("test", order[16:])}
    listed = {"train": ("train", files[3:9]), "val": ("validation", files[:3]), "test": ("test", files[9:18])}
    for parts in (drawn, listed):
        data = open_data("vtab:sun397", data_dir=tmp_path)
        has(data, {split: [(file, names[file[1]]) for file in in_order(pool, own)]
                   for split, (pool, own) in parts.items()})
        for (_, own), name in zip(listed.values(), ("tr", "va", "te"), strict=True):
            put(f"SUN397/sun397_tfds_{name}.txt", "\n".join(own) + "\n")


def test_an_incomplete_set_without_a_part_is_refused(tmp_path: Path, put: Callable):
    put("NWPU-RESISC45/beach/beach_1.jpg")
    with pytest.raises(BadData, match="vtab:resisc45: no images for train and val; the set is incomplete"):
        open_data("vtab:resisc45", data_dir=tmp_path)
