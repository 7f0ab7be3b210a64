"""From what a file says of each image to the labels of a data set. What the values are says what they mean:

    3  or  "cat"                        one class, by number or name
    [0, 3]  or  ["cat", "wet"]  or  []  several labels
    [0.25, 0.75]  or  {"cat": 0.25, "dog": 0.75}   soft: the share of each class, as floats that sum to 1
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np

from allmlp.data.labelcsv import SUM_WITHIN
from allmlp.data.texts import printable
from allmlp.errors import BadData

Kind = Literal["class", "several", "soft"]

MAX_CLASSES = 1_000_000
MAX_NAME = 1000  # characters
MAX_CELLS = 1 << 32  # of labels (N, K); as float32 that is 17 GB
MISSING = "no label"


def encode_labels(
    values: Sequence[Any], classes: Sequence[str] | None, where: str, name: Callable[[int], str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names, and labels as in `ImageDataset`, of `values`, one per image, all of the same kind.

    `classes` are the names if they are known; else names that occur, sorted, or "0", "1", … up to the largest number.
    `name(i)` is what image i is called in an error. Raises `BadData` for anything else than the above.
    """
    kinds = [_kind(value) for value in values]
    for index, kind in enumerate(kinds):
        if kind == MISSING:
            raise BadData(f"{name(index)}: its label is {printable(repr(values[index])[:80])}; expected a class "
                          "(number or name), a list of them, or shares of classes that sum to 1")
    found = set(kinds)
    if found == {"several", "soft"} and all(value == [] or kind == "soft"
                                            for value, kind in zip(values, kinds, strict=True)):
        raise BadData(f"{where}: soft labels, of which {name(kinds.index('several'))} has none")
    if len(found) > 1:
        one, other = sorted(found)[:2]
        raise BadData(f"{where}: labels of two kinds, {one} ({name(kinds.index(one))}) and {other} "
                      f"({name(kinds.index(other))}); give all images labels of one kind")
    if classes is None:
        classes = _names(values, found, where)
    if not classes:
        raise BadData(f"{where}: no image has a label")
    if strange := [name for name in classes if not name.strip() or not name.isprintable() or len(name) > MAX_NAME]:
        raise BadData(f"{where}: {printable(strange[0])[:80]!r} cannot be the name of a class")
    if len(set(classes)) < len(classes):
        raise BadData(f"{where}: two classes have the same name; rename one")
    if found <= {"class"}:
        number = _numbers(classes)
        return tuple(classes), np.array([_number(value, number, name, i) for i, value in enumerate(values)], np.int64)
    if len(values) * len(classes) > MAX_CELLS:
        raise BadData(f"{where}: {len(values):,} images times {len(classes):,} classes are too many for a table")
    return tuple(classes), (_several if found == {"several"} else _soft)(values, classes, name)


def _kind(value: Any) -> Kind | Literal["no label"]:
    if _is_class(value):
        return "class"
    if isinstance(value, dict):
        return "soft" if value and all(isinstance(key, str) and _is_share(v) for key, v in value.items()) else MISSING
    if isinstance(value, list):
        if all(_is_class(part) for part in value):
            return "several"
        if all(_is_share(part) for part in value):
            return "soft"
    return MISSING


def _is_class(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1 + SUM_WITHIN


def _names(values: Sequence[Any], kinds: set[Any], where: str) -> Sequence[str]:
    """The classes, of which nothing is known but the labels."""
    if kinds == {"soft"}:
        named = {name for value in values if isinstance(value, dict) for name in value}
        return sorted(named) or _counted(max(len(value) for value in values))
    parts: Iterable[Any] = values if kinds <= {"class"} else (part for value in values for part in value)
    distinct = set(parts)
    names = sorted(part for part in distinct if isinstance(part, str))
    numbers = [part for part in distinct if isinstance(part, int)]
    if names and numbers:
        raise BadData(f"{where}: some labels are numbers ({numbers[0]}), some are names ({printable(names[0])!r}); "
                      "give a list of the classes, or labels of one kind")
    return names or _counted(max(numbers, default=-1) + 1)


def _counted(count: int) -> list[str]:
    return [str(number) for number in range(min(count, MAX_CLASSES))]


def _numbers(classes: Sequence[str]) -> dict[str | int, int]:
    known: dict[str | int, int] = {name: number for number, name in enumerate(classes)}
    return known | {number: number for number in range(len(classes))}


def _number(value: Any, numbers: dict[str | int, int], name: Callable[[int], str], index: int) -> int:
    number = numbers.get(value)
    if number is None:
        raise BadData(f"{name(index)}: the label {printable(repr(value)[:80])} is none of the {len(numbers) // 2} "
                      "classes")
    return number


def _several(values: Sequence[list[Any]], classes: Sequence[str], name: Callable[[int], str]) -> np.ndarray:
    numbers = _numbers(classes)
    labels = np.zeros((len(values), len(classes)), np.uint8)
    for index, value in enumerate(values):
        labels[index, [_number(part, numbers, name, index) for part in value]] = 1
    return labels


def _soft(values: Sequence[Any], classes: Sequence[str], name: Callable[[int], str]) -> np.ndarray:
    numbers = _numbers(classes)
    labels = np.zeros((len(values), len(classes)), np.float32)
    for index, value in enumerate(values):
        if isinstance(value, list) and len(value) != len(classes):
            raise BadData(f"{name(index)}: {len(value)} shares for {len(classes)} classes")
        total = math.fsum(value.values() if isinstance(value, dict) else value)
        if abs(total - 1) > SUM_WITHIN:
            raise BadData(f"{name(index)}: shares of classes that sum to {total:.4g}, expected 1")
        if isinstance(value, dict):
            labels[index, [_number(key, numbers, name, index) for key in value]] = list(value.values())
        else:
            labels[index] = value
    return labels
