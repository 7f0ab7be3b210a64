"""The sheets of small digits that the permutation experiment is run on."""

import hashlib

import numpy as np
import pytest

from allmlp.data.digits import open_digits
from allmlp.reproduce.sheets import NOISE, open_sheets


@pytest.fixture(scope="module")
def sheets():
    return open_sheets()


def test_the_sheets_are_always_the_same(sheets):
    digest = hashlib.sha256(b"".join(part.images.tobytes() for part in sheets.splits.values())).hexdigest()
    assert digest == "08efac3814735d67a40dcf11e5d54378b2caac656af8db2d2cc6663243d1e781"
    assert {name: len(part) for name, part in sheets.splits.items()} == {"train": 5748, "test": 1440}


def test_a_sheet_holds_digits_of_its_class_and_of_its_split(sheets):
    """Those that no other overlaps show all that is brighter than noise can be."""
    digits = open_digits().splits["test"]
    for number in range(0, 1440, 90):
        sheet, label = sheets.splits["test"].image(number)[:, :, 0], sheets.splits["test"].labels[number]
        alike = [digits.image(index)[:, :, 0] for index in np.flatnonzero(digits.labels == label)]
        found = sum(any(fits(sheet[top : top + 8, left : left + 8], digit) for digit in alike)
                    for top in range(25) for left in range(25))
        assert found >= 2
        assert label == digits.labels[number // 4]
        assert (sheet > NOISE).sum() >= 20


def fits(place: np.ndarray, digit: np.ndarray) -> bool:
    """Whether all of the digit shows: where it is brighter than noise, it is there to the grey level."""
    ink = digit > NOISE
    return bool((place[ink] == digit[ink]).all())
