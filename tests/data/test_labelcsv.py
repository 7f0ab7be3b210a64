from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from allmlp.data.imagefolder import FolderImages, open_folder
from allmlp.data.labelcsv import NAME, read_labels
from allmlp.data.write import write_folder
from allmlp.errors import BadData

Put = Callable[..., Path]

PRESENT = {"a.jpg", "b/c.jpg", "d, e.jpg"}


def read(tmp_path: Path, text: str | bytes):
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_labels(path, PRESENT)


@pytest.fixture
def beach(put: Put) -> Path:
    """Split folders with a `labels.csv` in each; "sun" is only in validation."""
    folder = put("train/a.png", "train/b.png", "train/deep/c.png", "train/unlisted.png", "val/a.png")
    (folder / "train" / "labels.csv").write_text("file,labels\nb.png,sea;people\na.png,\ndeep/c.png,sea\n")
    (folder / "val" / "labels.csv").write_text("file,labels\na.png,people; sun\n")
    return folder


def test_each_file_gets_its_labels_in_the_order_of_the_lines(tmp_path: Path):
    found = read(tmp_path, 'file,labels\nb/c.jpg, two; one ;two\n\na.jpg,\n"d, e.jpg",""\n')
    assert found.problems == ()
    assert list(found.labels.items()) == [("b/c.jpg", ("one", "two")), ("a.jpg", ()), ("d, e.jpg", ())]


@pytest.mark.parametrize("text", [
    "\ufefffile,labels\na.jpg,x\n", "File , Labels\r\na.jpg,x\r\n", "labels,author,file\nx,me,./a.jpg\n",
    "file,labels\nb\\..\\a.jpg,x\n".replace("b\\..\\", ""),
])  # fmt: skip
def test_other_ways_to_write_the_same_are_understood(tmp_path: Path, text: str):
    found = read(tmp_path, text)
    assert (found.problems, found.labels) == ((), {"a.jpg": ("x",)})


def test_a_backslash_separates_folders_too(tmp_path: Path):
    assert read(tmp_path, "file,labels\nb\\c.jpg,x\n").labels == {"b/c.jpg": ("x",)}


@pytest.mark.parametrize(("text", "problem"), [
    ("", "line 1 is '', expected 'file,labels'"),
    ("file;labels\na.jpg;x\n", "line 1 is 'file;labels', expected 'file,labels' (comma between columns, ';' between"),
    ("a.jpg,x\n", "line 1 is 'a.jpg,x', expected 'file,labels'"),
    ("file,labels\na.jpg,x\na.jpg,y\n", "line 3: 'a.jpg' stands in line 2 already"),
    ("file,labels\n\nno.jpg,x\n", "line 3: no file 'no.jpg' in this folder"),
    ("file,labels\n../a.jpg,x\n", "line 2: '../a.jpg' leads out of the folder"),
    ("file,labels\n/etc/passwd,x\n", "line 2: '/etc/passwd' leads out of the folder"),
    ("file,labels\n,x\n", "line 2: no file name"),
    ("file,labels\na.jpg,x,y\n", "line 2: 3 columns, expected 2; put cells with a comma in double quotes"),
    ("file,labels\na.jpg\n", "line 2: 1 columns, expected 2"),
    ('file,labels\na.jpg,"x\n', "cannot be read: unexpected end of data"),
    ("file,labels\na.jpg,\n", "no image has a label"),
    (b"file,labels\na.jpg,\xff\xfe\n", "not UTF-8 text; save it as CSV UTF-8"),
])  # fmt: skip
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str | bytes, problem: str):
    found = read(tmp_path, text)
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{tmp_path / 'labels.csv'}: ")
    assert problem in found.problems[0]


def test_labels_of_all_splits_are_the_classes_and_rows_of_bits(beach: Path):
    data = open_folder(beach)
    assert data.classes == ("people", "sea", "sun")
    assert data.multi_label
    train, val = data.splits["train"], data.splits["val"]
    assert isinstance(train, FolderImages)
    assert train.files == ("train/b.png", "train/a.png", "train/deep/c.png")
    assert train.labels.dtype == np.uint8
    assert train.labels.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]
    assert val.labels.tolist() == [[1, 0, 1]]
    assert train.image(2).shape == (5, 6, 3)
    assert data.notes == ("train/: 1 image not in labels.csv and not used: train/unlisted.png",
                          "no training image has the label sun")


def test_a_mistake_in_a_label_file_stops_the_data_set(beach: Path):
    (beach / "val" / "labels.csv").write_text("file,labels\nnone.png,sea\n")
    with pytest.raises(BadData, match=r"val.labels\.csv: line 2: no file 'none\.png' in this folder"):
        open_folder(beach)


def test_a_label_file_in_one_split_only_is_refused(beach: Path):
    (beach / "val" / "labels.csv").unlink()
    (beach / "val" / "x").mkdir()
    with pytest.raises(BadData, match=r"a labels\.csv in some splits but not in val/; put one in each"):
        open_folder(beach)


def test_a_label_file_beside_the_split_folders_is_noted(beach: Path):
    (beach / "labels.csv").write_text("file,labels\n")
    assert "not used, because it is no split: labels.csv" in open_folder(beach).notes


def test_of_one_folder_with_a_label_file_a_part_is_held_out(beach: Path, put: Put):
    names = [f"{index}.png" for index in range(10)]
    folder = put(*(f"one/{name}" for name in names)) / "one"
    (folder / "labels.csv").write_text("file,labels\n" + "".join(f"{name},x\n" for name in names))
    data = open_folder(folder)
    assert data.classes == ("x",)
    assert {split: images.labels.shape for split, images in data.splits.items()} == {"train": (8, 1), "val": (2, 1)}
    assert data.notes == ("held out for validation: 2 of 10 images, at random (fraction 0.2, seed 0)",)
    assert open_folder(folder, split_files=data.split_files).splits["val"].name(0) == data.splits["val"].name(0)


def test_bad_files_of_several_labels_are_left_out_with_their_rows(beach: Path):
    (beach / "train" / "b.png").write_bytes(b"")
    train = open_folder(beach, skip_bad=True).splits["train"]
    assert train.labels.tolist() == [[0, 0, 0], [0, 1, 0]]


def test_shares_are_soft_labels_and_come_back_when_written(put, tmp_path: Path):
    root = put("in/1.png", "in/2.png", "in/3.png")
    (root / "in" / NAME).write_text("file,shares\n1.png,cat=0.75;dog=0.25\n2.png,dog=1\n3.png,eel=0.5; cat = 0.5\n")
    data = open_folder(root / "in", val_fraction=0)
    assert not data.multi_label
    labels = data.splits["train"].labels
    assert (labels.dtype, labels.tolist()) == (np.float32, [[0.75, 0.25, 0], [0, 1, 0], [0.5, 0, 0.5]])
    write_folder(data, root / "out")
    back = open_folder(root / "out", val_fraction=0)
    assert (back.classes, back.splits["train"].labels.tolist()) == (data.classes, labels.tolist())


@pytest.mark.parametrize("shares, said", [
    ("cat=0.5;dog=0.4", "sum to 0.9"), ("cat", "expected each class once"), ("cat=much", "expected each class once"),
    ("cat=0.5;cat=0.5", "each class once"), ("", "expected each class"), ("cat=2;dog=-1", "expected each class once"),
    ("cat=nan", "expected each class once"),
])  # fmt: skip
def test_shares_that_are_none_are_refused_by_line(put, shares: str, said: str):
    root = put("1.png")
    (root / NAME).write_text(f"file,shares\n1.png,{shares}\n")
    with pytest.raises(BadData, match=f"line 2: .*{said}"):
        open_folder(root)
