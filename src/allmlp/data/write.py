"""Writing a data set down as a folder of PNG files that `open_folder` reads back to the same pixels."""

import csv
import os
from pathlib import Path

from allmlp.data.dataset import Data, ImageDataset, soft
from allmlp.data.labelcsv import NAME, SEPARATOR
from allmlp.data.tree import LITTER
from allmlp.errors import BadData, CannotWrite


def write_folder(data: Data, out: str | os.PathLike) -> None:
    """Write each split as `split/class/0001.png`, numbered from 0 in the order of the split; with several labels per
    image, or soft ones, as `split/0001.png` and a `labels.csv`.

    Raises `CannotWrite` if `out` is a file or a folder with something in it, or if the disk refuses, and `BadData` for
    class names that cannot stand as a folder or in a label list.
    """
    out = Path(out)
    in_list = next(iter(data.splits.values())).labels.ndim == 2
    for name in data.classes:
        _check_name(name, in_list)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise CannotWrite(f"{out}: there is something already; give a new or an empty folder")
        for split, images in data.splits.items():
            (_write_labelled if in_list else _write_classes)(images, out / split)
    except OSError as error:
        raise CannotWrite(f"{out}: cannot be written: {error.strerror or error}; what was written so far is "
                          "incomplete") from None


def _write_classes(images: ImageDataset, folder: Path) -> None:
    for name in images.classes:  # also those without an image here: the splits must have the same classes
        (folder / name).mkdir(parents=True)
    for index, label in enumerate(images.labels):
        _write_png(images, index, folder / images.classes[int(label)])


def _write_labelled(images: ImageDataset, folder: Path) -> None:
    folder.mkdir(parents=True)
    with open(folder / NAME, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        shares = soft(images.labels)
        rows.writerow(["file", "shares" if shares else "labels"])
        for index, label in enumerate(images.labels):
            names = [f"{name}={share}" if shares else name
                     for name, share in zip(images.classes, label.tolist(), strict=True) if share]
            rows.writerow([_write_png(images, index, folder), SEPARATOR.join(names)])


def _write_png(images: ImageDataset, index: int, folder: Path) -> str:
    from PIL import Image

    name = f"{index:0{max(4, len(str(len(images) - 1)))}d}.png"
    Image.fromarray(images.image(index)).save(folder / name)
    return name


def _check_name(name: str, in_list: bool) -> None:
    if in_list and (SEPARATOR in name or name != name.strip() or not name):
        raise BadData(f"class name {name!r} cannot stand in a list separated by {SEPARATOR!r}")
    if not in_list and (not name or set(name) & set('/\\\0') or name.startswith(".") or name.lower() in LITTER):
        raise BadData(f"class name {name!r} cannot be the name of a folder of images")
