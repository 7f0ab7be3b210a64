"""The user's mistakes, each one line: what was wrong, which value, what is accepted, what to do.

The command line prints that line on stderr and exits with code 2; a program catches `AllMLPError`.
"""

import difflib
from collections.abc import Iterable


class AllMLPError(Exception):
    """A mistake in what the user gave; the message is one line and complete."""


class UnknownName(AllMLPError):
    """A name that is in no list (model, recipe, data set, setting, layer)."""


class BadSetting(AllMLPError):
    """A value that a setting does not accept."""


class NotForThisNetwork(BadSetting):
    """A backend, or its int8, is not made for networks of this kind."""


class BadData(AllMLPError):
    """A folder, an image or a label that cannot be used."""


class BadImage(BadData):
    """One image that cannot be read; others may be."""


class BadCheckpoint(AllMLPError):
    """A weights file that is truncated, hostile, of another format or of another network."""


class CannotDownload(AllMLPError):
    """A file that could not be fetched; says where it is and where to put it by hand."""


class CannotWrite(AllMLPError):
    """A file that could not be written; what stood there before is untouched."""


class TrainingStopped(AllMLPError):
    """Training that cannot go on, for example after a non-finite loss; says what was kept."""


class MissingPackage(AllMLPError):
    """An optional package that is not installed; names the `pip install` line."""


def named(error: AllMLPError, name: object, *hidden: object) -> AllMLPError:
    """The same error, which says `name` for the `hidden` places, of which the user knows nothing."""
    said = str(error)
    for place in hidden:
        said = said.replace(str(place), str(name))
    return type(error)(said)


def printable(text: object, length: int = 300) -> str:
    """What a file says, for an error or a terminal: it shall not break the line, speak to the terminal or never end."""
    line = "".join(sign if sign.isprintable() else "?" for sign in str(text))
    return line if len(line) <= length else f"{line[:length]}…"


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "", shown: int = 12) -> UnknownName:
    """The error for a `name` that is none of `known`, with the nearest names (at most 5), else with all of up to
    `shown`, else with the first few."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    if near:
        choice = f"did you mean {' or '.join(near)}?"
    elif len(names) <= shown:
        choice = f"accepted: {', '.join(names) or 'none'}"
    else:
        choice = f"accepted: {', '.join(names[:8])}, … ({len(names)} in all)"
    return UnknownName(f"unknown {kind} {name!r}; {choice}{'; ' + hint if hint else ''}")
