import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allmlp.data import open_data
from allmlp.data.dataset import Data, ImageDataset
from allmlp.data.imagefolder import FolderImages, open_folder
from allmlp.errors import AllMLPError, BadData, BadSetting, UnknownName

Put = Callable[..., Path]


def content(data: Data) -> dict[str, list[tuple[str, str]]]:
    """split -> (file, class) of each image, relative to the folder."""
    found = {}
    for split, images in data.splits.items():
        assert isinstance(images, FolderImages)
        assert images.classes == data.classes
        found[split] = [(file, data.classes[k]) for file, k in zip(images.files, images.labels, strict=True)]
    return found


def refusal(folder: Path | str, **options) -> str:
    """The one line with which a folder is refused."""
    with pytest.raises(BadData) as caught:
        open_folder(folder, **options)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


# --- split folders ---------------------------------------------------------------------------------------------------


def test_split_folders_are_the_splits_and_class_folders_the_classes(pets: Path):
    data = open_folder(pets)
    assert data.classes == ("cat", "dog")
    assert content(data) == {
        "train": [("train/cat/1.png", "cat"), ("train/cat/2.png", "cat"), ("train/cat/3.png", "cat"),
                  ("train/dog/1.png", "dog"), ("train/dog/2.png", "dog")],
        "val": [("val/cat/9.png", "cat"), ("val/dog/9.png", "dog")],
    }  # fmt: skip
    assert (data.notes, data.split_files, data.multi_label) == ((), None, False)


def test_images_are_opened_when_asked_for_and_named_by_their_path(pets: Path):
    images = open_folder(pets).splits["train"]
    assert isinstance(images, ImageDataset)
    assert images.labels.dtype == np.int64
    for index, path in enumerate(["train/cat/1.png", "train/cat/2.png"]):
        np.testing.assert_array_equal(images.image(index), np.asarray(Image.open(pets / path)))
        assert images.name(index) == str(pets / path)


def test_labels_are_known_without_opening_an_image(pets: Path):
    for path in pets.rglob("*.png"):
        path.write_bytes(b"")
    assert open_folder(pets).splits["train"].labels.tolist() == [0, 0, 0, 1, 1]


def test_a_data_set_can_be_sent_to_worker_processes(pets: Path):
    images = open_folder(pets).splits["val"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(images)).image(1), images.image(1))


@pytest.mark.parametrize(("folder", "split"), [("val", "val"), ("valid", "val"), ("validation", "val"), ("Val", "val"),
                                               ("test", "test"), ("TESTING", "test")])
def test_the_usual_names_of_splits_are_understood(pets: Path, folder: str, split: str):
    (pets / "val").rename(pets / folder)
    (pets / "train").rename(pets / "Train")
    assert set(open_folder(pets).splits) == {"train", split}


def test_two_folders_for_one_split_are_refused(pets: Path):
    shutil.copytree(pets / "val", pets / "valid")
    assert "val/ and valid/ are both the val split; keep one" in refusal(pets)


def test_classes_are_sorted_as_python_sorts_strings(put: Put):
    folder = put(*(f"{name}/1.png" for name in ("10", "9", "b", "B", "é", "a b")),
                 *(f"9/{name}.PNG" for name in (10, 2, "a", "B")))
    data = open_folder(folder, val_fraction=0)
    assert data.classes == ("10", "9", "B", "a b", "b", "é")
    assert data.splits["train"].labels.tolist() == [0, 1, 1, 1, 1, 1, 2, 3, 4, 5]
    assert [file for file, name in content(data)["train"] if name == "9"] == [
        "9/1.png", "9/10.PNG", "9/2.PNG", "9/B.PNG", "9/a.PNG",
    ]  # fmt: skip


def test_folders_inside_class_folders_belong_to_the_class(put: Put):
    folder = put("cat/1.png", "cat/indoors/2.png", "cat/indoors/night/3.JPG", "dog/1.png")
    assert content(open_folder(folder, val_fraction=0))["train"] == [
        ("cat/1.png", "cat"), ("cat/indoors/2.png", "cat"), ("cat/indoors/night/3.JPG", "cat"), ("dog/1.png", "dog"),
    ]  # fmt: skip


def test_hidden_folders_and_what_systems_leave_behind_are_no_classes_and_no_images(pets: Path):
    before = content(open_folder(pets))
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        shutil.copytree(pets / "train" / "cat", pets / "train" / name)
        shutil.copytree(pets / "train" / "cat", pets / "train" / "dog" / name)
    for name in ("Thumbs.db", ".DS_Store", "._1.png"):
        (pets / "train" / "cat" / name).write_bytes(b"x")
        (pets / name).write_bytes(b"x")
    data = open_folder(pets)
    assert content(data) == before
    assert data.notes[0].startswith("12 hidden or system paths ignored: ")


def test_what_is_left_aside_is_noted(pets: Path):
    (pets / "val" / "cat" / "notes.txt").write_text("x")
    for name in ("5.heic", "6.HEIC"):
        (pets / "train" / "cat" / name).write_bytes(b"x")
    shutil.copy(pets / "train" / "cat" / "1.png", pets / "train" / "stray.png")
    (pets / "annotations").mkdir()
    assert open_folder(pets).notes == (
        "train/: 2 files not read as an image (.heic 2; convert .heic to JPEG)",
        "train/: 1 image in no class folder and not used: train/stray.png",
        "val/: 1 file not read as an image (.txt 1)",
        "not used, because it is no split: annotations/",
    )


def test_a_class_called_train_is_a_class_if_it_holds_images(put: Put):
    folder = put("bus/1.png", "car/1.png", "train/1.png", "test/1.png")
    assert open_folder(folder, val_fraction=0).classes == ("bus", "car", "test", "train")


def test_the_train_folder_alone_has_a_note_about_the_val_folder_beside_it(pets: Path):
    data = open_folder(pets / "train")
    assert data.notes[0] == f"beside train/ lies val/, which is not used; give {pets} to use both"
    assert set(data.splits) == {"train", "val"}  # drawn


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="needs symbolic links")
def test_links_are_followed_but_not_round_in_circles(pets: Path, tmp_path_factory: pytest.TempPathFactory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(pets / "train" / "dog", elsewhere / "dog")
    (pets / "train" / "dog").symlink_to(elsewhere / "dog")
    before = content(open_folder(pets))
    assert len(before["train"]) == 5
    (pets / "train" / "cat" / "up").symlink_to(pets)
    (elsewhere / "dog" / "same").symlink_to(elsewhere / "dog")
    (pets / "self").symlink_to(pets / "self")
    data = open_folder(pets)
    assert content(data) == before
    assert data.notes == ("2 hidden or system paths ignored: train/cat/up, train/dog/same",)


# --- what is wrong with a folder -------------------------------------------------------------------------------------


def test_a_class_that_training_lacks_is_named(pets: Path, put: Put):
    put("val/cow/1.png", "val/ant/1.png")
    assert "val/ has classes that train/ lacks: ant, cow" in refusal(pets)


def test_a_class_that_validation_lacks_is_named_and_an_empty_folder_says_that_it_is_meant(pets: Path):
    shutil.rmtree(pets / "val" / "dog")
    assert "val/ lacks classes that train/ has: dog; if that is meant, make empty folders" in refusal(pets)
    (pets / "val" / "dog").mkdir()
    data = open_folder(pets)
    assert content(data)["val"] == [("val/cat/9.png", "cat")]
    assert data.notes == ("val/: no images of dog",)


def test_the_first_of_several_faults_is_raised_with_the_number_of_the_others(pets: Path):
    shutil.rmtree(pets / "val" / "dog")
    (pets / "train" / "cow").mkdir()
    line = refusal(pets)
    assert f"{pets / 'train'}: no images in cow/; a class needs at least one: add images or remove the folder" in line
    assert line.endswith("(1 more: `allmlp data check` lists them)")


def test_an_empty_class_folder_says_what_else_is_in_it(tree: Path):
    (tree / "fox").mkdir()
    (tree / "fox" / "1.heic").write_bytes(b"x")
    assert "no images (but .heic 1; convert .heic to JPEG) in fox/" in refusal(tree)


def test_a_missing_folder_a_file_and_an_empty_folder_are_refused(tmp_path: Path, put: Put):
    assert "no such folder" in refusal(tmp_path / "missing")
    assert "a file, not a folder" in refusal(put("a.png") / "a.png")
    (tmp_path / "empty").mkdir()
    assert "no images in it; expected a folder for each class" in refusal(tmp_path / "empty")
    (tmp_path / "empty" / "readme.txt").write_text("x")
    assert "no images in it; it has .txt 1; accepted are JPEG, PNG" in refusal(tmp_path / "empty")


def test_one_class_is_not_enough(put: Put):
    assert "only one class (cat/); expected two or more class folders" in refusal(put("cat/1.png", "cat/2.png"))


@pytest.mark.parametrize("inside", ["", "train/"])
def test_a_folder_one_level_too_high_names_the_right_one(put: Put, inside: str):
    folder = put(f"{inside}pets/cat/1.png", f"{inside}pets/dog/1.png")
    deeper = folder / inside / "pets"
    assert f"this looks one level too high: the classes seem to lie in {deeper}" in refusal(folder)


@pytest.mark.parametrize("names", [["pets"], ["pets", "birds"]])
def test_a_folder_of_data_sets_is_one_level_too_high(put: Put, names: list[str]):
    folder = put(*(f"{name}/{split}/{kind}/1.png" for name in names for split in ("train", "val") for kind in "ab"))
    assert f"one level too high: give {folder / min(names)}, which holds train/" in refusal(folder)


def test_split_folders_inside_the_class_folders_are_not_mixed(put: Put):
    folder = put(*(f"{name}/{split}/1.png" for name in ("cat", "dog") for split in ("train", "val")))
    assert "the splits lie inside the class folders (cat/train/); turn it round: train/cat/" in refusal(folder)


def test_a_folder_one_level_too_deep_names_the_right_one(tree: Path):
    line = refusal(tree / "cat")
    assert "images lie directly in it, without a folder for each class" in line
    assert f"this looks one level too deep (beside it lies dog/): give {tree}" in line


def test_images_without_any_class_folder_are_refused(put: Put):
    folder = put("all/1.png", "all/2.png") / "all"
    assert "put the images of each class into a folder with the name of the class" in refusal(folder)


def test_split_folders_without_class_folders_are_not_taken_for_classes(put: Put):
    assert "test/, train/ hold images directly" in refusal(put("train/1.png", "test/1.png"))


def test_split_folders_without_training_images_are_refused(pets: Path):
    shutil.rmtree(pets / "train")
    assert f"it has val/ but there is no train/; to use one of them alone give that folder, {pets / 'val'}" in refusal(
        pets
    )
    (pets / "train").mkdir()
    assert "it has val/ but train/ has no class folders" in refusal(pets)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_refused(tree: Path):
    (tree / "cat").chmod(0)
    try:
        assert "cannot be read: Permission denied" in refusal(tree)
    finally:
        (tree / "cat").chmod(0o755)


# --- drawing and restoring a split -----------------------------------------------------------------------------------


def test_of_one_tree_a_part_of_each_class_is_held_out(tree: Path):
    data = open_folder(tree)
    found = content(data)
    assert sorted(found["train"] + found["val"]) == sorted(
        (path.relative_to(tree).as_posix(), path.parent.name) for path in tree.rglob("*.png")
    )
    assert [name for _, name in found["val"]] == ["cat"] * 2 + ["dog"]
    assert data.notes == (
        "held out for validation: 3 of 16 images, from each class (fraction 0.2, seed 0)",
        "only one image, which stays in training: eel",
    )
    assert data.split_files == {split: tuple(file for file, _ in files) for split, files in found.items()}


def test_a_train_folder_without_another_split_is_drawn_from_too(pets: Path):
    shutil.rmtree(pets / "val")
    data = open_folder(pets)
    assert {split: len(images) for split, images in data.splits.items()} == {"train": 3, "val": 2}
    assert data.split_files is not None
    assert all(file.startswith("train/") for files in data.split_files.values() for file in files)


def test_the_same_fraction_and_seed_hold_out_the_same_images_wherever_the_folder_lies(tree: Path, tmp_path: Path):
    shutil.copytree(tree, tmp_path / "copy" / "of it")
    again = open_folder(tmp_path / "copy" / "of it")
    shutil.rmtree(tmp_path / "copy")
    assert open_folder(tree).split_files == again.split_files != open_folder(tree, seed=1).split_files


def test_nothing_is_held_out_for_a_fraction_of_zero_or_single_images(tree: Path, put: Put):
    whole = open_folder(tree, val_fraction=0)
    assert (set(whole.splits), whole.notes) == ({"train"}, ())
    data = open_folder(put("x/a/1.png", "x/b/1.png") / "x")
    assert set(data.splits) == {"train"}
    assert data.notes == ("nothing is held out for validation: no class has two images",)


@pytest.mark.parametrize("fraction", [-0.1, 1, 20, float("nan")])
def test_a_fraction_that_is_none_is_refused(tree: Path, fraction: float):
    with pytest.raises(BadSetting, match=r"val_fraction .*accepted are 0 .* up to, not including, 1"):
        open_folder(tree, val_fraction=fraction)


def test_a_split_that_was_written_down_is_restored_though_images_were_added(tree: Path, put: Put):
    before = open_folder(tree, val_fraction=0.4, seed=3)
    put("cat/99.png", "dog/99.png")
    after = open_folder(tree, split_files=before.split_files)
    assert content(after) == content(before)
    assert after.split_files == before.split_files
    assert after.notes == ("2 images not in the recorded split and not used: cat/99.png, dog/99.png",)


def test_a_split_cannot_be_restored_in_a_folder_with_split_folders(pets: Path):
    recorded = {"train": ["train/cat/1.png"], "val": ["train/cat/2.png"]}
    assert "it has split folders" in refusal(pets, split_files=recorded)


@pytest.mark.parametrize(("recorded", "reason"), [
    ({"train": ["cat/0.png"], "val": ["cat/77.png"]}, "names 'cat/77.png', which is not there"),
    ({"train": ["cat/0.png"], "val": ["cat/0.png"]}, r"names 'cat/0.png' twice \(train and val\)"),
])  # fmt: skip
def test_a_written_split_with_files_that_are_missing_or_named_twice_is_refused(tree: Path, recorded: dict, reason: str):
    with pytest.raises(BadData, match=reason):
        open_folder(tree, split_files=recorded)


# --- bad files -------------------------------------------------------------------------------------------------------


def test_a_bad_file_raises_with_its_name_when_it_is_asked_for(pets: Path):
    (pets / "train" / "cat" / "2.png").write_bytes(b"")
    images = open_folder(pets).splits["train"]
    images.image(0)
    with pytest.raises(BadData, match=r"cat.2\.png: an empty file"):
        images.image(1)


def test_bad_files_are_left_out_on_request_and_all_of_them_are_known(pets: Path):
    (pets / "train" / "cat" / "2.png").write_bytes(b"")
    (pets / "train" / "dog" / "1.png").write_bytes((pets / "train" / "dog" / "1.png").read_bytes()[:100])
    data = open_folder(pets, skip_bad=True)
    train = data.splits["train"]
    assert isinstance(train, FolderImages)
    assert content(data)["train"] == [("train/cat/1.png", "cat"), ("train/cat/3.png", "cat"),
                                      ("train/dog/2.png", "dog")]
    assert list(train.bad) == ["train/cat/2.png", "train/dog/1.png"]
    assert train.bad["train/cat/2.png"] == "an empty file (0 bytes)"
    assert len(data.notes) == 1
    assert data.notes[0].startswith("train: left out 2 of 5 images that cannot be read: train/cat/2.png (an empty file")


def test_what_is_held_out_does_not_depend_on_leaving_out_bad_files(tree: Path):
    (tree / "cat" / "3.png").write_bytes(b"")
    (tree / "dog" / "3.png").write_bytes(b"")
    every, good = open_folder(tree), open_folder(tree, skip_bad=True)
    bad = {("cat/3.png", "cat"), ("dog/3.png", "dog")}
    assert content(good) == {split: [row for row in rows if row not in bad] for split, rows in content(every).items()}
    assert good.split_files == every.split_files


def test_a_class_of_which_nothing_is_left_is_an_error(tree: Path):
    (tree / "eel" / "0.png").write_bytes(b"")
    assert "no readable training image is left of eel" in refusal(tree, skip_bad=True)


def test_a_split_of_which_nothing_is_left_is_an_error(pets: Path):
    for path in (pets / "val").rglob("*.png"):
        path.write_bytes(b"x")
    assert "none of the 2 images of val can be read" in refusal(pets, skip_bad=True)


# --- by name or by path ----------------------------------------------------------------------------------------------


def test_a_path_is_opened_with_all_its_options(tree: Path):
    (tree / "cat" / "3.png").write_bytes(b"")
    data = open_data(str(tree), val_fraction=0.5, seed=4, skip_bad=True)
    assert data.split_files == open_folder(tree, val_fraction=0.5, seed=4).split_files
    assert sum(len(images) for images in data.splits.values()) == 15


@pytest.mark.parametrize(("source", "hint"), [
    ("digit", "did you mean digits"), ("xyzzy", "accepted: a folder, digits, "), ("{root}/trian", "{root}/train?"),
])  # fmt: skip
def test_what_is_neither_name_nor_folder_is_refused_with_the_nearest(pets: Path, source: str, hint: str):
    with pytest.raises(UnknownName) as caught:
        open_data(source.format(root=pets))
    assert hint.format(root=pets) in str(caught.value)


def test_no_source_at_all_is_refused():
    with pytest.raises(AllMLPError, match="no data given"):
        open_data("")
