"""Several labels per image: a file `labels.csv` in a split folder, with the columns `file` and `labels`.

    file,labels
    beach/01.jpg,sea;people
    02.jpg,

Files are named relative to the folder of `labels.csv`; labels are separated by ";", none at all is allowed. Further
columns are ignored. UTF-8, with or without the mark that Excel puts at the start.
"""

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

NAME = "labels.csv"
SEPARATOR = ";"


@dataclass(frozen=True)
class LabelFile:
    """What a `labels.csv` says: the labels of each file, in its order. `problems`: one line each, naming the place."""

    labels: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...]


def read_labels(path: Path, present: Collection[str]) -> LabelFile:
    """Read the `labels.csv` at `path`; `present` are the files of its folder, relative, with "/"."""
    labels: dict[str, tuple[str, ...]] = {}
    lines: dict[str, int] = {}
    problems: list[str] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = [cell.strip().lower() for cell in next(rows, [])]
            if "file" not in header or "labels" not in header:
                return LabelFile({}, (f"{path}: line 1 is {','.join(header)!r}, expected 'file,labels' (comma between "
                                      f"columns, {SEPARATOR!r} between labels)",))
            for row in rows:
                if not row:
                    continue
                where = f"{path}: line {rows.line_num}"
                if len(row) != len(header):
                    problems.append(f"{where}: {len(row)} columns, expected {len(header)}; put cells with a comma "
                                    "in double quotes")
                    continue
                cells = dict(zip(header, row, strict=True))
                name = _posix(cells["file"])
                if name in lines:
                    problems.append(f"{where}: {name!r} stands in line {lines[name]} already")
                elif problem := _bad_name(name, present):
                    problems.append(f"{where}: {problem}")
                else:
                    lines[name] = rows.line_num
                    labels[name] = tuple(sorted({part.strip() for part in cells["labels"].split(SEPARATOR)} - {""}))
    except UnicodeDecodeError:
        problems.append(f"{path}: not UTF-8 text; save it as CSV UTF-8")
    except (csv.Error, OSError) as error:
        problems.append(f"{path}: cannot be read: {error}")
    if not problems and not any(labels.values()):
        problems.append(f"{path}: no image has a label")
    return LabelFile(labels, tuple(problems))


def _bad_name(name: str, present: Collection[str]) -> str:
    if not name:
        return "no file name"
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        return f"{name!r} leads out of the folder; name files relative to it"
    if name not in present:
        return f"no file {name!r} in this folder"
    return ""


def _posix(cell: str) -> str:
    name = cell.strip().replace("\\", "/")
    return PurePosixPath(name).as_posix() if name else ""
