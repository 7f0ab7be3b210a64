"""Each data set as tiny files in its own format. torchvision, which reads them too, is the oracle."""

import hashlib
import json
import pickle
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from torchvision import datasets

from allmlp.cli import main
from allmlp.data import TORCHVISION, open_data
from allmlp.data.cifar import read_arrays
from allmlp.data.torchvision_sets import SETS
from allmlp.errors import BadData, CannotDownload

Make = Callable[..., Any]


class Files:
    """Writes below a folder; images are PNG files, whatever their names say, so that pixels are exact."""

    def __init__(self, root: Path, png: Make, noise: Make):
        self.root, self.png, self.noise = root, png, noise

    def put(self, path: str, content: bytes | str) -> str:
        """Returns the MD5."""
        content = content.encode() if isinstance(content, str) else content
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(content)
        return hashlib.md5(content).hexdigest()

    def images(self, *paths: str) -> None:
        for path in paths:
            self.put(path, self.png(path))

    def mat(self, path: str, **arrays: Any) -> str:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        savemat(self.root / path, arrays)
        return hashlib.md5((self.root / path).read_bytes()).hexdigest()


@pytest.fixture
def files(tmp_path: Path, png_of: Make, noise_of: Make) -> Files:
    return Files(tmp_path, png_of, noise_of)


# --- CIFAR: pickles of Python 2, opcode by opcode --------------------------------------------------------------------


def python2(value: Any) -> bytes:
    """Protocol 2 as Python 2 wrote it: texts as byte strings, an array as numpy 1 pickled it."""
    def body(value: Any) -> bytes:
        match value:
            case str() | bytes():
                raw = value.encode() if isinstance(value, str) else value
                return b"T" + struct.pack("<I", len(raw)) + raw
            case int():
                return b"J" + struct.pack("<i", value)
            case list():
                return b"](" + b"".join(map(body, value)) + b"e"
            case dict():
                return b"}(" + b"".join(body(key) + body(item) for key, item in value.items()) + b"u"
        assert isinstance(value, np.ndarray)
        dtype = (b"cnumpy\ndtype\n" + body("u1") + body(0) + body(1) + b"\x87R(" + body(3) + body("|") + b"NNN"
                 + body(-1) + body(-1) + body(0) + b"tb")
        shape = b"(" + b"".join(map(body, value.shape)) + b"t"
        return (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + body(0) + b"\x85" + body("b") + b"\x87R("
                + body(1) + shape + dtype + b"\x89" + body(value.tobytes()) + b"tb")

    return b"\x80\x02" + body(value) + b"."


def cifar(files: Files, patch: pytest.MonkeyPatch, kind: Any, folder: str, key: str, names: str, meta: str) -> None:
    def batch(name: str, count: int) -> list[str]:
        images = np.stack([files.noise(f"{name}{i}", 32, 32) for i in range(count)])
        rows = images.transpose(0, 3, 1, 2).reshape(count, -1)
        content = {"batch_label": name, key: [i % 3 for i in range(count)], "data": rows,
                   "filenames": [f"{i}.png" for i in range(count)]}
        return [name, files.put(f"{folder}/{name}", python2(content))]

    patch.setattr(kind, "train_list", [batch(name, 4) for name, _ in kind.train_list])
    patch.setattr(kind, "test_list", [batch(name, 3) for name, _ in kind.test_list])
    md5 = files.put(f"{folder}/{meta}", python2({names: ["airplane", "bird", "cat"]}))
    patch.setattr(kind, "meta", kind.meta | {"md5": md5})


def cifar10(files: Files, patch: pytest.MonkeyPatch) -> None:
    cifar(files, patch, datasets.CIFAR10, "cifar-10-batches-py", "labels", "label_names", "batches.meta")


def cifar100(files: Files, patch: pytest.MonkeyPatch) -> None:
    cifar(files, patch, datasets.CIFAR100, "cifar-100-python", "fine_labels", "fine_label_names", "meta")


# --- the others ------------------------------------------------------------------------------------------------------


def svhn(files: Files, patch: pytest.MonkeyPatch) -> None:
    known = dict(datasets.SVHN.split_list)
    for split, count in (("train", 11), ("test", 10)):
        x = np.stack([files.noise(f"{split}{i}", 32, 32) for i in range(count)], 3)
        y = np.arange(count).reshape(-1, 1) % 10 + 1  # 10 means the digit 0
        known[split] = [known[split][0], f"{split}_32x32.mat", files.mat(f"{split}_32x32.mat", X=x, y=y)]
    patch.setattr(datasets.SVHN, "split_list", known)


def pets(files: Files, patch: pytest.MonkeyPatch) -> None:
    for split, numbers in (("trainval", (1, 2)), ("test", (7,))):
        lines = [f"{name}_{n} {label} 1 1" for label, name in enumerate(("Abyssinian", "american_bulldog"), 1)
                 for n in numbers]
        files.put(f"oxford-iiit-pet/annotations/{split}.txt", "\n".join(lines) + "\n")
        files.images(*(f"oxford-iiit-pet/images/{line.split()[0]}.jpg" for line in lines))


def flowers102(files: Files, patch: pytest.MonkeyPatch) -> None:
    files.images(*(f"flowers-102/jpg/image_{i:05d}.jpg" for i in range(1, 7)))
    labels = files.mat("flowers-102/imagelabels.mat", labels=np.array([[1, 102, 2, 1, 77, 3]], np.uint8))
    setid = files.mat("flowers-102/setid.mat", trnid=[[6, 1]], valid=[[2, 3]], tstid=[[4, 5]])
    patch.setattr(datasets.Flowers102, "_file_dict", datasets.Flowers102._file_dict | {
        "label": ("imagelabels.mat", labels), "setid": ("setid.mat", setid)})


def caltech101(files: Files, patch: pytest.MonkeyPatch) -> None:
    names = ("BACKGROUND_Google", "Faces", "accordion", "wrench")
    files.images(*(f"caltech101/101_ObjectCategories/{name}/image_{i:04d}.jpg" for name in names for i in (1, 2)))


def dtd(files: Files, patch: pytest.MonkeyPatch) -> None:
    for number, split in enumerate(("train", "val", "test")):
        names = [f"{name}/{name}_{number:04d}.jpg" for name in ("striped", "banded")]
        files.put(f"dtd/dtd/labels/{split}1.txt", "\n".join(names) + "\n")
        files.images(*(f"dtd/dtd/images/{name}" for name in names))


def eurosat(files: Files, patch: pytest.MonkeyPatch) -> None:
    files.images(*(f"eurosat/2750/{name}/{name}_{i}.jpg" for name in ("Forest", "AnnualCrop") for i in (1, 2, 10)))


def pcam(files: Files, patch: pytest.MonkeyPatch) -> None:
    (files.root / "pcam").mkdir()
    for split, count in (("train", 3), ("valid", 2), ("test", 2)):
        start = files.root / "pcam" / f"camelyonpatch_level_2_split_{split}"
        with h5py.File(f"{start}_x.h5", "w") as file:
            file["x"] = np.stack([files.noise(f"{split}{i}", 96, 96) for i in range(count)])
        with h5py.File(f"{start}_y.h5", "w") as file:
            file["y"] = (np.arange(count, dtype=np.uint8) % 2).reshape(-1, 1, 1, 1)


def food101(files: Files, patch: pytest.MonkeyPatch) -> None:
    for split, number in (("train", 1), ("test", 2)):
        listed = {name: [f"{name}/{number}{i}" for i in range(2)] for name in ("waffles", "apple_pie")}
        files.put(f"food-101/meta/{split}.json", json.dumps(listed))
        files.images(*(f"food-101/images/{path}.jpg" for own in listed.values() for path in own))


def sun397(files: Files, patch: pytest.MonkeyPatch) -> None:
    files.put("SUN397/ClassName.txt", "/a/abbey\n/b/bow_window/indoor\n/b/bow_window/outdoor\n")
    files.images("SUN397/b/bow_window/outdoor/sun_z.jpg", "SUN397/a/abbey/sun_b.jpg", "SUN397/a/abbey/sun_a.jpg",
                 "SUN397/b/bow_window/indoor/sun_c.jpg", "SUN397/b/bow_window/indoor/sun_d.jpg")


def cars(files: Files, patch: pytest.MonkeyPatch) -> None:
    kind = [("bbox_x1", "O"), ("class", "O"), ("fname", "O")]
    for split, path in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = np.array([(39, 2, "00001.jpg"), (5, 1, "00002.jpg"), (7, 2, "00003.jpg")], dtype=kind).reshape(1, -1)
        files.mat(f"stanford_cars/{path}", annotations=rows)
        files.images(*(f"stanford_cars/cars_{split}/0000{i}.jpg" for i in (1, 2, 3)))
    names = np.array(["AM General Hummer SUV 2000", "smart fortwo Convertible 2012"], dtype=object).reshape(1, -1)
    files.mat("stanford_cars/devkit/cars_meta.mat", class_names=names)


def aircraft(files: Files, patch: pytest.MonkeyPatch) -> None:
    files.put("fgvc-aircraft-2013b/data/variants.txt", "707-320\nTu-154\n")
    for number, split in enumerate(("train", "val", "test")):
        files.put(f"fgvc-aircraft-2013b/data/images_variant_{split}.txt", f"00{number} Tu-154\n10{number} 707-320\n")
        files.images(*(f"fgvc-aircraft-2013b/data/images/{n}0{number}.jpg" for n in (0, 1)))


def country211(files: Files, patch: pytest.MonkeyPatch) -> None:
    files.images(*(f"country211/{split}/{name}/{i}.jpg" for split in ("train", "valid", "test") for name in ("ZW", "AD")
                   for i in (1, 2)))


def gtsrb(files: Files, patch: pytest.MonkeyPatch) -> None:
    files.images(*(f"gtsrb/GTSRB/Training/{k:05d}/{i}.ppm" for k in (0, 1) for i in (1, 2)),
                 *(f"gtsrb/GTSRB/Final_Test/Images/{i}.ppm" for i in (1, 2)))
    files.put("gtsrb/GT-final_test.csv", "Filename;Width;ClassId\n1.ppm;6;1\n2.ppm;6;0\n")


def sst2(files: Files, patch: pytest.MonkeyPatch) -> None:
    files.images(*(f"rendered-sst2/{split}/{name}/{i}.png" for split in ("train", "valid", "test")
                   for name in ("positive", "negative") for i in (1, 2)))


def stl10(files: Files, patch: pytest.MonkeyPatch) -> None:
    def part(name: str, content: bytes) -> list[str]:
        return [name, files.put(f"stl10_binary/{name}", content)]

    def pixels(split: str, count: int) -> bytes:  # column by column, colour by colour
        return b"".join(files.noise(f"{split}{i}", 96, 96).transpose(2, 1, 0).tobytes() for i in range(count))

    patch.setattr(datasets.STL10, "train_list", [
        part("train_X.bin", pixels("train", 3)), part("train_y.bin", b"\3\1\2"), part("unlabeled_X.bin", b"")])
    patch.setattr(datasets.STL10, "test_list", [part("test_X.bin", pixels("test", 2)), part("test_y.bin", b"\2\1")])
    part("class_names.txt", b"airplane\nbird\ncar\n")


CLASSES = {
    "cifar10": ("airplane", "bird", "cat"), "cifar100": ("airplane", "bird", "cat"), "svhn": tuple("0123456789"),
    "pets": ("Abyssinian", "American Bulldog"), "flowers102": tuple(datasets.Flowers102.classes),
    "caltech101": ("Faces", "accordion", "wrench"), "dtd": ("banded", "striped"), "eurosat": ("AnnualCrop", "Forest"),
    "pcam": ("no tumour tissue", "tumour tissue"), "food101": ("apple_pie", "waffles"),
    "sun397": ("abbey", "bow_window/indoor", "bow_window/outdoor"),
    "cars": ("AM General Hummer SUV 2000", "smart fortwo Convertible 2012"), "aircraft": ("707-320", "Tu-154"),
    "country211": ("AD", "ZW"), "gtsrb": ("0", "1"), "sst2": ("negative", "positive"),
    "stl10": ("airplane", "bird", "car"),
}  # fmt: skip


def theirs(name: str, split: str, root: Path) -> Any:
    """torchvision's own reading."""
    about = SETS[name]
    kind = getattr(datasets, about.kind)
    if name.startswith("cifar"):
        with warnings.catch_warnings():  # numpy dislikes the spelling of old dtypes
            warnings.simplefilter("ignore")
            return kind(root, train=split == "train")
    return kind(root, split=about.splits[split]) if about.splits[split] else kind(root)


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_set_has_the_images_labels_and_classes_that_torchvision_finds(
    files: Files, monkeypatch: pytest.MonkeyPatch, name: str
):
    globals()[name](files, monkeypatch)
    data = open_data(name, data_dir=files.root, val_fraction=0)
    assert data.classes == CLASSES[name]
    assert tuple(data.splits) == tuple(SETS[name].splits)
    for split, images in data.splits.items():
        oracle = theirs(name, split, files.root)
        order = range(len(oracle))
        if name == "sun397":  # which torchvision leaves to the file system
            order = sorted(order, key=lambda i: str(oracle._image_files[i]))
        assert len(images) == len(oracle) > 1
        assert (images.labels.dtype, images.labels.shape) == (np.int64, (len(images),))
        for index, number in enumerate(order):
            picture, label = oracle[number]
            assert images.labels[index] == label
            assert np.array_equal(images.image(index), np.asarray(picture.convert("RGB")))
        assert len({images.name(i) for i in range(len(images))}) == len(images)


@pytest.mark.parametrize("name", ["eurosat", "caltech101", "sun397"])
def test_of_a_set_without_splits_a_part_is_held_out(files: Files, monkeypatch: pytest.MonkeyPatch, name: str):
    globals()[name](files, monkeypatch)
    data = open_data(name, data_dir=files.root, val_fraction=0.4)
    assert set(data.splits) == {"train", "val"}
    assert data.split_files is not None
    assert not any(str(files.root) in key for own in data.split_files.values() for key in own)


@pytest.mark.parametrize("name", TORCHVISION)
def test_what_is_not_there_is_not_fetched_unasked(tmp_path: Path, name: str):
    with pytest.raises(CannotDownload, match=f"{name} is not in .*--download fetches it from") as caught:
        open_data(name, data_dir=tmp_path / "none")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "none").exists()


def test_the_folder_is_that_of_the_option_of_the_environment_or_data(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    eurosat(files, monkeypatch)
    assert main(["data", "check", "eurosat", "--data-dir", str(files.root), "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)["counts"]
    assert counted == {"all": {"AnnualCrop": 3, "Forest": 3}}
    monkeypatch.setenv("ALLMLP_DATA", str(files.root))
    assert len(open_data("eurosat", val_fraction=0).splits["train"]) == 6
    monkeypatch.delenv("ALLMLP_DATA")
    monkeypatch.chdir(files.root)
    with pytest.raises(CannotDownload, match="eurosat is not in data "):
        open_data("eurosat")


def test_a_download_that_fails_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["data", "check", "eurosat", "--data-dir", str(tmp_path), "--download"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "eurosat: cannot be downloaded" in said.err
    assert "get it from github.com/phelber/eurosat" in said.err


@pytest.mark.parametrize("name, file", [
    ("cifar10", "cifar-10-batches-py/data_batch_3"), ("svhn", "train_32x32.mat"),
    ("flowers102", "flowers-102/setid.mat"), ("stl10", "stl10_binary/train_X.bin"),
    ("food101", "food-101/meta/train.json"), ("pets", "oxford-iiit-pet/annotations/test.txt"),
    ("pcam", "pcam/camelyonpatch_level_2_split_train_x.h5"),
    ("cars", "stanford_cars/devkit/cars_meta.mat"),
])  # fmt: skip
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_files_are_refused_in_one_line(
    files: Files, monkeypatch: pytest.MonkeyPatch, name: str, file: str, damage: str
):
    globals()[name](files, monkeypatch)
    path = files.root / file
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises((BadData, CannotDownload)) as caught:
        open_data(name, data_dir=files.root)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value) or str(path) in str(caught.value)


def test_a_name_in_a_list_of_files_cannot_lead_out_of_the_folder(files: Files, monkeypatch: pytest.MonkeyPatch):
    dtd(files, monkeypatch)
    files.put("dtd/dtd/labels/train1.txt", "../striped_0000.jpg\nbanded/banded_0000.jpg\n")
    with pytest.raises(BadData, match="leads elsewhere|different classes"):
        open_data("dtd", data_dir=files.root)


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (eval, ("__import__('pathlib').Path('/tmp/allmlp-ran').touch()",))


def test_a_pickle_that_names_a_function_is_refused_and_nothing_is_run():
    for protocol in range(6):
        with pytest.raises(BadData, match=r"x: its pickle asks for (__builtin__|builtins).eval"):
            read_arrays(pickle.dumps({"data": Evil()}, protocol), "x")
    assert not Path("/tmp/allmlp-ran").exists()


@pytest.mark.parametrize("content", [b"", b"x", pickle.dumps([1]), pickle.dumps({"data": 1})[:-2]])
def test_what_is_no_pickle_of_a_dict_is_refused(content: bytes):
    with pytest.raises(BadData, match=r"^x: "):
        read_arrays(content, "x")
