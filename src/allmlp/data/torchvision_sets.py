"""torchvision's data sets by name, with their own splits and class names.

torchvision finds the files and their labels; the images are then opened like all others (`image.py`), not by its
loaders. They lie where torchvision puts them, in a folder of their own inside `data_dir`. Nothing is downloaded unless
that is asked for; then torchvision downloads and checks the archive's MD5.

- CIFAR's files are Python pickles, which torchvision opens after checking their MD5. Here they are checked too, against
  damage, but never unpickled freely: only lists, texts and arrays come out, whatever the file says (`cifar.py`).
- Pets: `trainval` is "train". Food-101, Cars, SVHN, GTSRB, STL-10 and CIFAR have train and test. Caltech-101, EuroSAT
  and SUN397 have no split of their own, so one is drawn as from a folder. DTD: the first of its ten partitions.
- Stanford Cars is no longer where it was; it cannot be downloaded, only used.
"""

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from allmlp.data.assemble import Choices, Keyed, assemble
from allmlp.data.cifar import open_cifar
from allmlp.data.dataset import Data
from allmlp.data.digits import ArrayImages
from allmlp.data.imagefolder import FolderImages
from allmlp.errors import AllMLPError, BadData, CannotDownload, MissingPackage

TRAIN_TEST = {"train": "train", "test": "test"}
THREE = {"train": "train", "val": "val", "test": "test"}
WHOLE = {"train": ""}


@dataclass(frozen=True)
class Set:
    """A class of torchvision. `splits`: ours to its; `folder`: what of it must lie in the data folder; `origin`: where
    it comes from; `option`: how its splits are asked for."""

    kind: str
    splits: Mapping[str, str]
    folder: str
    origin: str
    needs: str = ""  # a package


OXFORD = "www.robots.ox.ac.uk/~vgg/data"
SETS: dict[str, Set] = {
    "cifar10": Set("CIFAR10", TRAIN_TEST, "cifar-10-batches-py", "www.cs.toronto.edu/~kriz/cifar.html"),
    "cifar100": Set("CIFAR100", TRAIN_TEST, "cifar-100-python", "www.cs.toronto.edu/~kriz/cifar.html"),
    "pets": Set("OxfordIIITPet", {"train": "trainval", "test": "test"}, "oxford-iiit-pet", f"{OXFORD}/pets"),
    "flowers102": Set("Flowers102", THREE, "flowers-102", f"{OXFORD}/flowers/102"),
    "caltech101": Set("Caltech101", WHOLE, "caltech101/101_ObjectCategories", "data.caltech.edu/records/mzrjq-6wc02"),
    "dtd": Set("DTD", THREE, "dtd/dtd", f"{OXFORD}/dtd"),
    "svhn": Set("SVHN", TRAIN_TEST, "train_32x32.mat", "ufldl.stanford.edu/housenumbers"),
    "eurosat": Set("EuroSAT", WHOLE, "eurosat/2750", "github.com/phelber/eurosat"),
    "pcam": Set("PCAM", THREE, "pcam", "github.com/basveeling/pcam", "h5py"),
    "food101": Set("Food101", TRAIN_TEST, "food-101", "data.vision.ee.ethz.ch/cvl/datasets_extra/food-101"),
    "sun397": Set("SUN397", WHOLE, "SUN397", "vision.princeton.edu/projects/2010/SUN"),
    "cars": Set("StanfordCars", TRAIN_TEST, "stanford_cars", "ai.stanford.edu/~jkrause/cars (no longer served)"),
    "aircraft": Set("FGVCAircraft", THREE, "fgvc-aircraft-2013b", f"{OXFORD}/fgvc-aircraft"),
    "country211": Set("Country211", {"train": "train", "val": "valid", "test": "test"}, "country211",
                      "github.com/openai/CLIP/blob/main/data/country211.md"),
    "gtsrb": Set("GTSRB", TRAIN_TEST, "gtsrb/GTSRB", "benchmark.ini.rub.de"),
    "sst2": Set("RenderedSST2", THREE, "rendered-sst2", "github.com/openai/CLIP/blob/main/data/rendered-sst2.md"),
    "stl10": Set("STL10", TRAIN_TEST, "stl10_binary", "cs.stanford.edu/~acoates/stl10"),
}  # fmt: skip


def open_torchvision(name: str, choices: Choices) -> Data:
    """The data set `name` of `SETS`. Raises `CannotDownload` where it is not there or cannot be fetched, `BadData`
    where its files are damaged, and `MissingPackage`."""
    about, root = SETS[name], choices.data_dir
    if about.needs:
        _need(name, about.needs)
    if choices.download:
        _download(name, about, root)
    if not (root / about.folder).exists():
        raise CannotDownload(f"{name} is not in {root} (no {about.folder}); --download fetches it from {about.origin}, "
                             "--data-dir or ALLMLP_DATA names another folder")
    try:
        if about.kind.startswith("CIFAR"):
            splits: Mapping[str, Keyed] = open_cifar(_class(about), root)
        elif about.kind == "PCAM":
            from allmlp.data.pcam import open_pcam

            splits = open_pcam(_class(about), root)
        else:
            splits = {ours: _opened(about, root, theirs) for ours, theirs in about.splits.items()}
    except AllMLPError:
        raise
    except Exception as error:  # torchvision, scipy or h5py given damaged files may raise anything at all
        said = " ".join(str(error).split()).partition(" You can use")[0][:150] or type(error).__name__
        raise BadData(f"{name} in {root} is incomplete or damaged ({said}); remove {root / about.folder} and get it "
                      f"again: --download, or {about.origin}") from None
    classes = {tuple(images.classes) for images in splits.values()}
    if len(classes) > 1:
        raise BadData(f"{name} in {root} is incomplete: its splits have different classes")
    return assemble(name, splits, (), choices)


def _class(about: Set) -> Any:
    from torchvision import datasets

    return getattr(datasets, about.kind)


def _arguments(kind: str, split: str) -> dict[str, Any]:
    """How torchvision's classes are asked for a split."""
    if kind.startswith("CIFAR"):
        return {"train": split == "train"}
    return {"split": split} if split else {}


def _download(name: str, about: Set, root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        for split in about.splits.values():
            with contextlib.redirect_stdout(sys.stderr):  # stdout carries results
                _class(about)(root, **_arguments(about.kind, split), download=True)
    except Exception as error:  # of the network, the disk, the archive; a site that answers with a page
        said = " ".join(str(error).split())[:150] or type(error).__name__
        raise CannotDownload(f"{name}: cannot be downloaded ({said}); get it from {about.origin} and put it into "
                             f"{root}") from None


def _opened(about: Set, root: Path, split: str) -> Keyed:
    """One split, as files with labels or as an array."""
    found = _class(about)(root, **_arguments(about.kind, split))
    if about.kind in ("SVHN", "STL10"):
        classes = tuple(getattr(found, "classes", None) or map(str, range(10)))
        return _array(found.data.transpose(0, 2, 3, 1), found.labels, classes, f"{about.kind.lower()}/{split}")
    files, labels = FILES.get(about.kind, _files_and_labels)(found)
    order = sorted(range(len(files)), key=files.__getitem__) if about.kind == "SUN397" else range(len(files))
    relative = tuple(_inside(root, files[i]) for i in order)
    classes = getattr(found, "categories", None) or getattr(found, "classes", None) or _counted(labels)
    return FolderImages(root, relative, np.array([labels[i] for i in order], np.int64), tuple(classes))


def _files_and_labels(found: Any) -> tuple[list[Any], list[int]]:
    """Where torchvision keeps them: the names differ, and none is public."""
    samples = getattr(found, "_samples", None) or getattr(found, "samples", None)
    if samples is not None:
        return [file for file, _ in samples], [label for _, label in samples]
    files = found._images if hasattr(found, "_images") else found._image_files
    return list(files), list(found._labels)


def _caltech(found: Any) -> tuple[list[Any], list[int]]:
    folder = Path(found.root) / "101_ObjectCategories"
    return [folder / found.categories[label] / f"image_{number:04d}.jpg"
            for number, label in zip(found.index, found.y, strict=True)], list(found.y)


FILES: dict[str, Callable[[Any], tuple[list[Any], list[int]]]] = {"Caltech101": _caltech}


def _counted(labels: list[int]) -> list[str]:
    return [str(number) for number in range(max(labels, default=-1) + 1)]


def _inside(root: Path, file: Any) -> str:
    """A file relative to the data folder. Raises `BadData` for a name in a list of files that leads out of it."""
    relative = PurePosixPath(Path(file).relative_to(root).as_posix())
    if ".." in relative.parts:
        raise BadData(f"{file}: a name in a list of files that leads elsewhere")
    return str(relative)


def _array(images: np.ndarray, labels: Any, classes: tuple[str, ...], name: str) -> ArrayImages:
    labels = np.asarray(labels, np.int64)
    if images.dtype != np.uint8 or len(images) != len(labels) or not np.isin(labels, range(len(classes))).all():
        raise BadData(f"{name}: {len(images)} images of {images.dtype} with {len(labels)} labels")
    return ArrayImages(images, labels, classes, [f"{name}/{i}" for i in range(len(images))])


def _need(name: str, package: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise MissingPackage(f"{name} needs {package}; pip install {package}")
