"""Several labels per image: a file `labels.csv` in a split folder, with the columns `file` and `labels`.

    file,labels
    beach/01.jpg,sea;people
    02.jpg,

Files are named relative to the folder of `labels.csv`; labels are separated by ";", none at all is allowed. Soft labels
stand in a column `shares` instead of `labels`, `cat=0.7;dog=0.3`, and sum to 1. Further columns are ignored. UTF-8,
with or without the mark that Excel puts at the start.
"""

import csv
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

NAME = "labels.csv"
SEPARATOR = ";"
SUM_WITHIN = 1e-3  # of 1, for shares that were written with few digits


@dataclass(frozen=True)
class LabelFile:
    """What a `labels.csv` says: the labels of each file, in its order. `problems`: one line each, naming the place.
    `shares`: of soft labels, how much of each label; None where labels hold or don't."""

    labels: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...]
    shares: Mapping[str, tuple[float, ...]] | None = None


def read_labels(path: Path, present: Collection[str]) -> LabelFile:
    """Read the `labels.csv` at `path`; `present` are the files of its folder, relative, with "/"."""
    labels: dict[str, tuple[str, ...]] = {}
    shares: dict[str, tuple[float, ...]] | None = None
    lines: dict[str, int] = {}
    problems: list[str] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = [cell.strip().lower() for cell in next(rows, [])]
            if "file" not in header or ("labels" in header) == ("shares" in header):
                return LabelFile({}, (f"{path}: line 1 is {','.join(header)!r}, expected 'file,labels' (comma between "
                                      f"columns, {SEPARATOR!r} between labels), or 'file,shares' for soft labels",))
            shares = {} if "shares" in header else None
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
                elif shares is not None:
                    found = _shares(cells["shares"])
                    if isinstance(found, str):
                        problems.append(f"{where}: {found}")
                        continue
                    lines[name] = rows.line_num
                    labels[name], shares[name] = tuple(sorted(found)), tuple(found[label] for label in sorted(found))
                else:
                    lines[name] = rows.line_num
                    labels[name] = tuple(sorted({part.strip() for part in cells["labels"].split(SEPARATOR)} - {""}))
    except UnicodeDecodeError:
        problems.append(f"{path}: not UTF-8 text; save it as CSV UTF-8")
    except (csv.Error, OSError) as error:
        problems.append(f"{path}: cannot be read: {error}")
    if not problems and not any(labels.values()):
        problems.append(f"{path}: no image has a label")
    return LabelFile(labels, tuple(problems), shares)


def _shares(cell: str) -> dict[str, float] | str:
    """`cat=0.7;dog=0.3` as shares by name, or what is wrong with it."""
    found = {}
    for part in cell.split(SEPARATOR):
        name, equals, text = (piece.strip() for piece in part.rpartition("="))
        try:
            share = float(text)
        except ValueError:
            share = math.nan
        if not (name and equals and 0 <= share <= 1) or name in found:
            return f"shares are {cell.strip()[:80]!r}, expected each class once with a number, as in cat=0.7;dog=0.3"
        found[name] = share
    if abs(math.fsum(found.values()) - 1) > SUM_WITHIN:
        return f"shares sum to {math.fsum(found.values()):.4g}, expected 1"
    return found


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
