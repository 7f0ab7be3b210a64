import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allmlp.cli import main
from allmlp.data.doctor import MAX_ROWS, SUGGESTIONS, Report, check, render
from allmlp.errors import BadData
from allmlp.models.variants import VARIANTS

Put = Callable[..., Path]


def one(lines: tuple[str, ...], part: str) -> str:
    """The only line of several with `part` in it."""
    found = [line for line in lines if part in line]
    assert len(found) == 1, (part, lines)
    return found[0]


def test_a_folder_in_order_has_no_problems(pets: Path):
    report = check(pets)
    assert report.ok
    assert report.problems == ()
    assert report.layout == "split folders train/, val/"
    assert report.images == {"train": 5, "val": 2}
    assert report.counts == {"train": {"cat": 3, "dog": 2}, "val": {"cat": 1, "dog": 1}}
    assert report.formats == {"PNG": 7}
    assert report.modes == {"RGB": 7}
    assert "no problems" in render(report)


def test_a_report_goes_to_json_and_back(pets: Path):
    report = check(pets)
    assert Report.from_json(report.to_json()) == report
    assert json.loads(report.to_json())["counts"]["train"]["cat"] == 3


def test_one_tree_is_checked_as_a_whole(tree: Path):
    report = check(tree)
    assert report.ok
    assert report.counts == {"all": {"cat": 10, "dog": 5, "eel": 1}}
    one(report.remarks, "no validation split: a part is held out when training starts")
    one(report.remarks, "only one image, which stays in training: eel")
    one(report.remarks, "classes are uneven (cat 10, eel 1 images): consider --set loss.class_weights=balanced")
    one(report.remarks, "16 training images, few for training from scratch (below 10,000)")


def test_uneven_classes_are_told_of_above_three_to_one_only(put: Put):
    folder = put(*(f"cat/{i}.png" for i in range(6)), *(f"dog/{i}.png" for i in range(2)))
    assert not [line for line in check(folder).remarks if "uneven" in line]
    put("cat/6.png")
    one(check(folder).remarks, "uneven")


def test_broken_empty_and_mislabelled_files_are_problems_with_their_reasons(pets: Path):
    cats = pets / "train" / "cat"
    (cats / "1.png").write_bytes(b"")
    (cats / "2.png").write_bytes((cats / "2.png").read_bytes()[:-40])
    (pets / "val" / "dog" / "9.png").write_text("no image")
    report = check(pets)
    assert not report.ok
    assert list(report.bad_files) == ["train/cat/1.png", "train/cat/2.png", "val/dog/9.png"]
    for reason, told in zip(report.bad_files.values(), ("an empty file", "truncated", "not an image"), strict=True):
        assert told in reason
    assert one(report.problems, "cannot be read").startswith("3 of 7 images cannot be read: train/cat/1.png (an empty")
    assert report.formats == {"PNG": 4}


def test_files_that_are_not_read_and_hidden_ones_are_remarks(pets: Path):
    (pets / "train" / "cat" / "a.heic").write_bytes(b"x")
    (pets / "val" / ".ipynb_checkpoints").mkdir()
    report = check(pets)
    assert report.ok
    one(report.remarks, "train/: 1 file not read as an image (.heic 1; convert .heic to JPEG)")
    one(report.remarks, "1 hidden or system path ignored: val/.ipynb_checkpoints")


def test_every_fault_of_the_folders_is_a_problem_and_the_rest_is_checked(pets: Path):
    shutil.rmtree(pets / "val" / "dog")
    (pets / "train" / "cow").mkdir()
    report = check(pets)
    one(report.problems, "no images in cow/")
    one(report.problems, "val/ lacks classes that train/ has: cow, dog")
    assert len(report.problems) == 2
    assert report.images == {"train": 5, "val": 1}


def test_the_same_image_in_two_splits_is_a_problem_whatever_its_name_and_format(pets: Path):
    Image.open(pets / "train" / "dog" / "1.png").save(pets / "val" / "dog" / "other.bmp")
    report = check(pets)
    assert report.duplicates_across_splits == (("train/dog/1.png", "val/dog/other.bmp"),)
    assert report.duplicates_of_other_label == report.duplicates_within == ()
    assert one(report.problems, "1 image in more than one split").endswith("train/dog/1.png = val/dog/other.bmp")


def test_the_same_image_under_two_labels_is_a_problem(pets: Path):
    shutil.copy(pets / "train" / "dog" / "1.png", pets / "train" / "cat" / "7.png")
    report = check(pets)
    assert report.duplicates_of_other_label == (("train/cat/7.png", "train/dog/1.png"),)
    assert report.duplicates_across_splits == report.duplicates_within == ()
    one(report.problems, "1 image with different labels in different places")


def test_copies_within_a_split_are_a_remark(pets: Path):
    for name in ("7.png", "8.png"):
        shutil.copy(pets / "train" / "cat" / "1.png", pets / "train" / "cat" / name)
    report = check(pets)
    assert report.ok
    assert report.duplicates_within == (("train/cat/1.png", "train/cat/7.png", "train/cat/8.png"),)
    assert "held out" not in one(report.remarks, "1 image there more than once")


def test_copies_in_one_tree_may_end_on_both_sides(tree: Path):
    shutil.copy(tree / "cat" / "1.png", tree / "cat" / "copy.png")
    one(check(tree).remarks, "1 image there more than once; a drawn validation part may get copies of training images")


def test_images_of_the_same_bytes_but_another_shape_are_not_the_same(tmp_path: Path):
    pixels = np.arange(72, dtype=np.uint8)
    for name, shape in (("a/1.png", (4, 6, 3)), ("a/2.png", (6, 4, 3)), ("b/1.png", (3, 8, 3))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.reshape(shape)).save(tmp_path / name)
    report = check(tmp_path)
    assert report.duplicates_within == report.duplicates_of_other_label == ()


def test_sizes_are_ranges_with_medians_of_images_as_they_are_used(put: Put):
    put("a/1.png", size=(10, 20))
    put("a/2.png", size=(30, 20))
    put("b/1.png", size=(40, 50))
    folder = put("b/2.png", size=(100, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: 4 wide and 12 high
    Image.new("RGB", (12, 4)).save(folder / "a" / "turned.jpg", exif=exif)
    report = check(folder)
    assert report.width is not None
    assert report.height is not None
    assert report.aspect is not None
    assert (report.width.minimum, report.width.median, report.width.maximum) == (4, 30, 100)
    assert (report.height.minimum, report.height.median, report.height.maximum) == (12, 20, 50)
    assert (report.aspect.minimum, report.aspect.maximum) == (4 / 12, 2.5)
    assert report.turned == 1
    one(report.remarks, "1 image turned by the EXIF orientation: a/turned.jpg")
    one(report.remarks, "1 image more than 2.5 times as long as wide; a central crop sees a small part: a/turned.jpg")


def test_unusual_kinds_are_counted_and_named(pets: Path):
    cats = pets / "train" / "cat"
    Image.new("CMYK", (8, 8), (9, 0, 0, 0)).save(cats / "cmyk.jpg")
    Image.fromarray(np.full((8, 8), 700, dtype=np.int32)).save(cats / "deep.tif")
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    red.save(cats / "moving.gif", save_all=True, append_images=[blue])
    report = check(pets)
    assert report.modes == {"RGB": 7, "CMYK": 1, "I": 1, "P": 1}
    assert (report.deep, report.animated, report.turned) == (1, 1, 0)
    one(report.remarks, "1 image animated or of several pages; the first is used: train/cat/moving.gif")
    one(report.remarks, "1 image CMYK, converted to RGB without colour profile: train/cat/cmyk.jpg")
    one(report.remarks, "1 image of more than 8 bits per channel, scaled to 8: train/cat/deep.tif")


def test_images_with_several_labels_count_for_each_and_compare_all(put: Put):
    folder = put("train/a.png", "train/b.png", "val/c.png")
    shutil.copy(folder / "train" / "a.png", folder / "train" / "same.png")
    (folder / "train" / "labels.csv").write_text("file,labels\na.png,sea;sun\nb.png,sea\nsame.png,sea\ngone.png,x\n")
    (folder / "val" / "labels.csv").write_text("file,labels\nc.png,sun\n")
    report = check(folder)
    assert report.layout == "split folders train/, val/, several labels per image"
    assert report.images == {"train": 3, "val": 1}
    assert report.counts == {"train": {"sea": 3, "sun": 1}, "val": {"sea": 0, "sun": 1}}
    assert report.duplicates_of_other_label == (("train/a.png", "train/same.png"),)
    one(report.problems, "labels.csv: line 5: no file 'gone.png'")


@pytest.mark.parametrize(("limit", "model", "image_size"), SUGGESTIONS)
def test_a_suggested_model_is_one_of_ours_for_that_image_size(limit: float, model: str, image_size: int):
    assert VARIANTS[model].image_size == (image_size, image_size)
    assert image_size <= limit


@pytest.mark.parametrize(("side", "model"), [
    (8, "mixer_p2_8"), (12, "mixer_p2_8"), (13, "mixer_t4_32"), (48, "mixer_t4_32"), (64, "mixer_t8_64"),
    (96, "mixer_t8_96"), (160, "mixer_t8_96"), (161, "mixer_t16_224"),
])  # fmt: skip
def test_the_suggestion_follows_the_median_of_the_shorter_sides(put: Put, side: int, model: str):
    put("a/1.png", size=(side, side + 9))
    put("a/2.png", size=(3, 3))
    report = check(put("b/1.png", size=(side + 40, side)))
    assert report.suggested_model == model


def test_nothing_to_check_is_an_error_and_not_a_report(tmp_path: Path, put: Put):
    (tmp_path / "empty").mkdir()
    for folder, reason in ((tmp_path / "missing", "no such folder"), (tmp_path / "empty", "no images in it"),
                           (put("flat/1.png", "flat/2.png") / "flat", "images lie directly in it")):
        with pytest.raises(BadData, match=reason):
            check(folder)


def test_a_folder_of_broken_files_only_is_a_report(put: Put):
    folder = put("a/1.png", "b/1.png")
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    report = check(folder)
    assert (report.width, report.suggested_model, len(report.bad_files)) == (None, None, 2)
    assert "formats         none" in render(report)


def test_progress_counts_every_image(pets: Path):
    calls: list[tuple[int, int]] = []
    check(pets, lambda done, total: calls.append((done, total)))
    assert calls == [(done, 7) for done in range(1, 8)]


def test_the_text_has_a_row_for_each_class_and_keeps_problems_from_remarks(pets: Path):
    (pets / "train" / "cat" / "1.png").write_bytes(b"")
    lines = render(check(pets)).split("\n")
    assert lines[0] == f"{pets}: split folders train/, val/; 2 classes, 7 images"
    table = [line.split() for line in lines[2:6]]
    assert table == [["class", "train", "val"], ["cat", "3", "1"], ["dog", "2", "1"], ["images", "5", "2"]]
    problems, files, remarks = (lines.index(title) for title in ("problems (1)", "unreadable files (1)", "remarks (1)"))
    assert problems < files < remarks
    assert lines[files + 1] == "  - train/cat/1.png: an empty file (0 bytes)"


def test_a_long_table_is_cut_in_the_text_and_whole_in_the_report(put: Put):
    report = check(put(*(f"{index:03d}/1.png" for index in range(MAX_ROWS + 5))))
    assert len(report.counts["all"]) == MAX_ROWS + 5
    text = render(report)
    assert "… and 5 classes more" in text
    assert f"\n{MAX_ROWS - 1:03d} " in text
    assert f"\n{MAX_ROWS:03d} " not in text


def test_the_command_ends_with_1_where_there_are_problems(pets: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "check", str(pets)]) == 0
    assert "no problems" in capsys.readouterr().out
    (pets / "val" / "cat" / "9.png").write_bytes(b"")
    assert main(["data", "check", str(pets), "--json"]) == 1
    assert list(json.loads(capsys.readouterr().out)["bad_files"]) == ["val/cat/9.png"]
