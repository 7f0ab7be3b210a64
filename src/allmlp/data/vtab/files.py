"""What the benchmark's readers ask of a folder: that something is there, folders of classes, and texts of bounded
size."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from allmlp.data.imagefolder import FolderImages
from allmlp.data.tree import is_image
from allmlp.errors import BadData, CannotDownload, printable

MAX_TEXT_BYTES = 1 << 26  # 67 MB; the largest list, that of Retinopathy's test images, has 1.5 MB


def found(root: Path, names: Sequence[str], origin: str) -> Path:
    """The first of `names` that lies in `root`. Raises `CannotDownload`, saying where it comes from."""
    for name in names:
        if (root / name).exists():
            return root / name
    which = f"{names[0]} is not" if len(names) == 1 else f"none of {', '.join(names)} is"
    raise CannotDownload(f"{which} in {root}; get it from {origin} and put it there (--data-dir or ALLMLP_DATA names "
                         "another folder)")


def class_folders(root: Path, folder: Path) -> FolderImages:
    """The images of a folder for each class, names relative to `root`, sorted. Raises `BadData` for none."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    images = [sorted(path.name for path in (folder / name).iterdir() if is_image(path.name) and path.name[0] != ".")
              for name in names]
    files = tuple(f"{folder.relative_to(root).as_posix()}/{name}/{file}"
                  for name, own in zip(names, images, strict=True) for file in own)
    if not files:
        raise BadData(f"{folder}: no folders with images in it, one for each class")
    labels = np.repeat(np.arange(len(names), dtype=np.int64), [len(own) for own in images])
    return FolderImages(root, files, labels, tuple(names))


def read_text(path: Path) -> str:
    """Raises `BadData` for what cannot be read, is too large, or is no UTF-8."""
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise BadData(f"{path}: {path.stat().st_size} bytes, more than the limit of {MAX_TEXT_BYTES}")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadData(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise BadData(f"{path}: no UTF-8 text") from None


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The cells of `columns`, line by line under the header. Raises `BadData`, naming the line."""
    lines = read_text(path).splitlines()
    header = lines[0].split(",") if lines else []
    if missing := [column for column in columns if column not in header]:
        raise BadData(f"{path}: line 1 is {printable(lines[0] if lines else '', 60)!r}, without {', '.join(missing)}")
    wanted = [header.index(column) for column in columns]
    rows = []
    try:
        for number, row in enumerate(csv.reader(lines[1:], strict=True), 2):
            if len(row) != len(header):
                raise BadData(f"{path}: line {number} has {len(row)} columns, expected {len(header)}")
            rows.append(tuple(row[column] for column in wanted))
    except csv.Error as error:
        raise BadData(f"{path}: line {len(rows) + 2} cannot be read ({error})") from None
    return rows


def is_number(text: str, below: int) -> bool:
    """Whether it is a whole number in [0, below), written in digits and with no more of them than needed."""
    return text.isascii() and text.isdigit() and len(text) <= len(str(below)) and int(text) < below


def numbers(values: Iterable[str], path: Path, below: int) -> np.ndarray:
    """Texts as int64 in [0, below). Raises `BadData`."""
    listed = list(values)
    if strange := [value for value in listed if not is_number(value, below)]:
        raise BadData(f"{path}: {printable(strange[0], 40)!r}, expected a whole number from 0 to {below - 1}")
    return np.array([int(value) for value in listed], np.int64)
