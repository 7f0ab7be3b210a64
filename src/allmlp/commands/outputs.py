"""The single files that a command writes where it is told to: what it may replace there, asked before any work.

Only what such a command wrote earlier is replaced. A table is known by its first line, a figure by being a pair.
"""

import os
from pathlib import Path

from allmlp.errors import BadSetting, CannotWrite
from allmlp.files import begins_with, check_parent, check_target

STDOUT = "-"
PNG, SVG = b"\x89PNG\r\n\x1a\n", b'<?xml version="1.0" encoding="utf-8" standalone="no"?>'  # matplotlib's
ENDINGS = (".png", ".svg", ".pdf", ".jpg", ".jpeg")


def check_csv(path: str | None, header: str, as_json: bool) -> None:
    """For `--csv`. `header`: how the first line of the command's tables begins. Raises `BadSetting`, `CannotWrite`."""
    if path is None:
        return
    if path == STDOUT:
        if as_json:
            raise BadSetting("--csv - and --json both print on stdout; give one of them, or --csv a file")
        return
    _check_name("--csv", path)
    check_place(Path(path))
    if os.path.exists(path) and os.path.getsize(path) and not begins_with(path, header.encode()):
        raise CannotWrite(f"--csv {path}: exists, and is no table of this command, so not replaced; choose another "
                          "name")


def check_figure(path: str | None) -> None:
    """For `--figure PATH`, of which PATH.png and PATH.svg are made. Raises `BadSetting`, `CannotWrite`."""
    if path is None:
        return
    if path.lower().endswith(ENDINGS):
        raise BadSetting(f"--figure {path}: give it without the ending; PNG and SVG are both written")
    _check_name("--figure", path)
    png, svg = Path(f"{path}.png"), Path(f"{path}.svg")
    for each in (png, svg):
        check_place(each)
    there = [each for each in (png, svg) if os.path.exists(each)]
    ours = len(there) == 2 and begins_with(png, PNG) and begins_with(svg, SVG)
    if there and not ours:
        raise CannotWrite(f"--figure {path}: {there[0]} exists, and is no figure of this command (which are a PNG and "
                          "an SVG), so not replaced; choose another name")


def _check_name(flag: str, path: str) -> None:
    """A name for a file, not a folder's or a device's."""
    if os.path.basename(path) in ("", os.curdir, os.pardir) or os.path.isdir(path):
        such_as = os.path.join(path, "table.csv" if flag == "--csv" else "figure")
        raise BadSetting(f"{flag} {path}: names a folder; give a file's name, such as {such_as}")
    if os.path.exists(path):
        check_target(path)


def check_place(path: Path) -> None:
    """For a file, in a folder that is there or that can be made. Raises `CannotWrite`."""
    check_target(path)
    check_parent(path, path)
