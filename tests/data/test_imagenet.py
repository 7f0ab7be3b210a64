import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from allmlp.data import open_data
from allmlp.data.dataset import Data
from allmlp.errors import BadData

TENCH, GOLDFISH, CRANE = "n01440764", "n01443537", "n02012849"  # outputs 0, 1 and 134
NUMBER = {TENCH: 0, GOLDFISH: 1, CRANE: 134}
TRAIN = {TENCH: ["18", "3"], GOLDFISH: ["7"], CRANE: ["1", "2", "44"]}
VAL = [CRANE, TENCH, GOLDFISH, CRANE]  # of the images 1 to 4
KIT_NUMBER = {CRANE: 1, GOLDFISH: 2, TENCH: 3}  # the devkit counts in an order of its own

Make = Callable[..., bytes]


def name(synset: str, number: str) -> str:
    return f"{synset}_{number}.JPEG"


@pytest.fixture
def train_tar(tar_of: Make, png_of: Make) -> bytes:
    return tar_of({f"{synset}.tar": tar_of({name(synset, i): png_of(name(synset, i)) for i in own})
                   for synset, own in TRAIN.items()})


@pytest.fixture
def val_files(png_of: Make) -> dict[str, bytes]:
    return {f"ILSVRC2012_val_{i:08d}.JPEG": png_of(f"val{i}") for i in range(1, len(VAL) + 1)}


def devkit() -> dict[str, bytes]:
    """The two files of the devkit that matter; meta.mat as its table of structs, classes and what lies above them."""
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(number, synset, "some words", 0) for synset, number in sorted(KIT_NUMBER.items(), key=lambda row: row[1])]
    table = np.array([*rows, (4, "n02512053", "fish", 2)], dtype=kind).reshape(-1, 1)
    meta = io.BytesIO()
    savemat(meta, {"synsets": table})
    return {"data/meta.mat": meta.getvalue(),
            "data/ILSVRC2012_validation_ground_truth.txt": "".join(f"{KIT_NUMBER[s]}\n" for s in VAL).encode()}


def packed_kit(tar_of: Make) -> bytes:
    return gzip.compress(tar_of({f"ILSVRC2012_devkit_t12/{path}": body for path, body in devkit().items()}))


def write(root: Path, files: dict[str, bytes]) -> None:
    for path, body in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(body)


def check(data: Data, noise_of: Callable, with_val: bool = True) -> None:
    """All images with the classes they should have, and the classes in words."""
    assert len(data.classes) == 1000
    assert [data.classes[number] for number in NUMBER.values()] == ["tench", "goldfish", "crane bird"]
    train = data.splits["train"]
    found = {train.name(i).rpartition("/")[2]: i for i in range(len(train))}
    assert sorted(found) == sorted(name(synset, i) for synset, own in TRAIN.items() for i in own)
    for file, i in found.items():
        assert train.labels[i] == NUMBER[file.partition("_")[0]]
        assert np.array_equal(train.image(i), noise_of(file))
    assert set(data.splits) == ({"train", "val"} if with_val else {"train"})
    if with_val:
        val = data.splits["val"]
        for i in range(len(val)):
            number = int(val.name(i).rpartition("_")[2].removesuffix(".JPEG"))
            assert val.labels[i] == NUMBER[VAL[number - 1]]
            assert np.array_equal(val.image(i), noise_of(f"val{number}"))
        assert len(val) == len(VAL)


def test_the_distributed_tars_are_read_in_place(tmp_path: Path, tar_of: Make, train_tar: bytes, val_files: dict,
                                                noise_of: Callable):
    files = {"ILSVRC2012_img_train.tar": train_tar, "ILSVRC2012_img_val.tar": tar_of(val_files),
             "ILSVRC2012_devkit_t12.tar.gz": packed_kit(tar_of)}
    write(tmp_path, files)
    for source in (f"imagenet:{tmp_path}", str(tmp_path)):
        check(open_data(source), noise_of)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == set(files)  # nothing unpacked


def test_folders_with_kaggles_list_are_read(tmp_path: Path, png_of: Make, val_files: dict, noise_of: Callable):
    images = "Data/CLS-LOC"
    write(tmp_path, {f"{images}/train/{synset}/{name(synset, i)}": png_of(name(synset, i))
                     for synset, own in TRAIN.items() for i in own})
    write(tmp_path, {f"{images}/val/{file}": body for file, body in val_files.items()})
    lines = [f"ILSVRC2012_val_{i:08d},{synset} 1 2 3 4" for i, synset in enumerate(VAL, 1)]
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(lines)]) + "\n")
    check(open_data(f"imagenet:{tmp_path}"), noise_of)


def test_a_folder_of_tars_and_an_unpacked_devkit_are_read(
    tmp_path: Path, tar_of: Make, png_of: Make, val_files: dict, noise_of: Callable
):
    write(tmp_path / "train", {f"{synset}.tar": tar_of({name(synset, i): png_of(name(synset, i)) for i in own})
                               for synset, own in TRAIN.items()})
    write(tmp_path / "val", val_files)
    write(tmp_path / "ILSVRC2012_devkit_t12", devkit())
    check(open_data(f"imagenet:{tmp_path}"), noise_of)


def test_validation_images_in_folders_need_no_list(tmp_path: Path, train_tar: bytes, val_files: dict,
                                                   noise_of: Callable):
    write(tmp_path, {"ILSVRC2012_img_train.tar": train_tar})
    write(tmp_path / "val", {f"{synset}/{file}": body for synset, (file, body) in
                             zip(VAL, val_files.items(), strict=True)})
    data = open_data(f"imagenet:{tmp_path}")
    check(data, noise_of)
    assert "997 classes of 1,000 without training images" in data.notes


def test_without_validation_images_a_part_is_held_out(tmp_path: Path, train_tar: bytes, noise_of: Callable):
    write(tmp_path, {"ILSVRC2012_img_train.tar": train_tar})
    check(open_data(str(tmp_path), val_fraction=0), noise_of, with_val=False)
    data = open_data(str(tmp_path), val_fraction=0.4)
    assert {split: len(images) for split, images in data.splits.items()} == {"train": 4, "val": 2}


@pytest.mark.parametrize("layout", ["tar of tars", "folder of tars", "folders"])
def test_the_larger_imagenets_have_the_synsets_they_have_in_words(
    tmp_path: Path, tar_of: Make, png_of: Make, layout: str
):
    other = "n00004475"  # organism, which the 1,000 lack
    inner = {synset: {name(synset, "1"): png_of(synset)} for synset in (TENCH, CRANE, other, "n99999999")}
    if layout == "tar of tars":
        write(tmp_path, {"winter21_whole.tar": tar_of({f"winter21_whole/{s}.tar": tar_of(own)
                                                       for s, own in inner.items()})})
        source = tmp_path / "winter21_whole.tar"
    else:
        source = tmp_path / "whole"
        write(source, {f"{s}.tar": tar_of(own) for s, own in inner.items()} if layout == "folder of tars" else
              {f"{s}/{file}": body for s, own in inner.items() for file, body in own.items()})
    data = open_data(f"imagenet21k:{source}", val_fraction=0)
    assert data.classes == ("organism", "tench", "crane (n02012849)", "n99999999")
    train = data.splits["train"]
    assert {train.name(i).rpartition("/")[2]: data.classes[k] for i, k in enumerate(train.labels)} == {
        name(synset, "1"): word for synset, word in zip(sorted(inner), data.classes, strict=True)}


@pytest.mark.parametrize("files, said", [
    ({}, "neither ILSVRC2012_img_train.tar nor train/"),
    ({"train/cat/1.JPEG": b"x"}, "called like n01440764"),
    ({"train/n00004475/1.JPEG": b"x"}, "n00004475 is none of the 1,000 classes"),
    ({"train/n01440764/1.JPEG": b"x", "val/1.JPEG": b"x"}, "nothing says the classes of the validation images"),
    ({"train/n01440764/1.JPEG": b"x", "val/1.JPEG": b"x", "LOC_val_solution.csv": b"a,b\nc,d\n"}, "line 2 is 'c,d'"),
    ({"train/n01440764/1.JPEG": b"x", "val/1.JPEG": b"x",
      "LOC_val_solution.csv": b"a,b\nILSVRC2012_val_00000001,n01440764\n"}, "1.JPEG: expected ILSVRC2012_val_0000"),
    ({"train/n01440764/1.JPEG": b"x", "val/1.JPEG": b"x", "ILSVRC2012_devkit_t12.tar.gz": b"x"}, "cannot be read"),
    ({"train/n01440764/1.JPEG": b"x", "val/1.JPEG": b"x", "ILSVRC2012_devkit_t12/data/x": b""}, "cannot be read"),
    ({"ILSVRC2012_img_train.tar": b"no tar"}, "not a tar file"),
    ({"ILSVRC2012_img_train.tar": gzip.compress(b"tar")}, "gunzip"),
])  # fmt: skip
def test_what_is_not_there_or_not_imagenet_is_said_in_one_line(tmp_path: Path, files: dict[str, bytes], said: str):
    write(tmp_path, files)
    with pytest.raises(BadData, match=said) as caught:
        open_data(f"imagenet:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_what_is_no_image_or_no_class_in_a_tar_is_passed_over_and_said(tmp_path: Path, tar_of: Make, png_of: Make):
    link = io.BytesIO()
    with tarfile.open(fileobj=link, mode="w") as tar:
        info = tarfile.TarInfo(name(CRANE, "1"))
        info.type, info.linkname = tarfile.SYMTYPE, "../../secret"
        tar.addfile(info)
    write(tmp_path, {"ILSVRC2012_img_train.tar": tar_of({
        f"{TENCH}.tar": tar_of({name(TENCH, "1"): png_of("1"), "../../evil.sh": b"rm"}),
        f"{CRANE}.tar": link.getvalue(), "notes.txt": b"x"})})
    data = open_data(str(tmp_path), val_fraction=0)
    assert data.splits["train"].labels.tolist() == [0]
    for part in ("../../evil.sh (no image)", f"{name(CRANE, '1')} (a link)", "notes.txt (no tar of a synset)"):
        assert part in data.notes[0]


def test_a_damaged_class_is_an_error_and_with_skip_bad_the_others_are_left(
    tmp_path: Path, tar_of: Make, png_of: Make
):
    inner = tar_of({name(GOLDFISH, i): png_of(i) for i in "12"})[:1600]
    write(tmp_path, {"ILSVRC2012_img_train.tar": tar_of({
        f"{GOLDFISH}.tar": inner, f"{CRANE}.tar": tar_of({name(CRANE, "1"): png_of("1")})})})
    with pytest.raises(BadData, match=f"{GOLDFISH}.tar: damaged or truncated.*--skip-bad"):
        open_data(str(tmp_path))
    labels = open_data(str(tmp_path), val_fraction=0, skip_bad=True).splits["train"].labels
    assert 134 in labels
    assert 1 in labels


def test_a_cut_training_tar_is_an_error_and_with_skip_bad_what_is_left_of_it(
    tmp_path: Path, train_tar: bytes
):
    write(tmp_path, {"ILSVRC2012_img_train.tar": train_tar[: len(train_tar) - 12_000]})
    with pytest.raises(BadData, match="damaged or truncated after 2 members.*--skip-bad"):
        open_data(str(tmp_path))
    data = open_data(str(tmp_path), val_fraction=0, skip_bad=True)
    assert set(data.splits["train"].labels.tolist()) == {0, 1}
