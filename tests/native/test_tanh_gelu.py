"""The engine's GELU in its tanh form, value and gradient, against float64, on every level that runs here."""

from typing import Any

import numpy as np
import pytest

allmlp_native = pytest.importorskip("allmlp_native", reason="the engine is not built: make native")

ROWS = [row for row in allmlp_native.tanh_gelus() if row["here"]]
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['level']}-{row['precision']}")

FLOAT_ERROR = 3e-6  # of |x| + 1 and of |gradient|: float32's rounding of exp(-z) for |z| up to some ten
BF16_ERROR = 2**-8  # half the largest relative distance of a number to the next; products of 1 + 2**-7 come on top
SIZES = [1, 3, 15, 16, 17, 97, (1 << 14) - 1, (1 << 14) + 1, 3 * (1 << 14) + 5]


def numbers(row: dict[str, Any], count: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(count).astype(np.float32) * 4
    x[: 1 + count // 7 : 7] *= 5  # some where nothing or everything passes
    return stored(row, x)


def stored(row: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """As the kernel takes numbers, for bf16 rounded to nearest, ties to even."""
    if row["precision"] == "fp32":
        return x.astype(np.float32)
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def floats(x: np.ndarray) -> np.ndarray:
    wide = x if x.dtype == np.float32 else (x.astype(np.uint32) << 16).view(np.float32)
    return wide.astype(np.float64)


def value(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gradient(x: np.ndarray) -> np.ndarray:
    tanh = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)


def run(row: dict[str, Any], x: np.ndarray, of_y: np.ndarray | None = None, threads: int = 1) -> np.ndarray:
    to = np.full_like(x, 7)
    allmlp_native.tanh_gelu(x, to, of_y, threads=threads, level=row["level"])
    return to


def within(row: dict[str, Any], found: np.ndarray, exact: np.ndarray, scale: np.ndarray) -> bool:
    bound = FLOAT_ERROR * scale
    if row["precision"] == "bf16":
        bound = bound + BF16_ERROR * np.abs(exact) + 1e-5 * scale
    return bool((np.abs(floats(found) - exact) <= bound).all())


def test_there_is_one_for_each_precision_that_runs_anywhere():
    assert {(row["level"], row["precision"]) for row in ROWS} >= {("portable", "fp32"), ("portable", "bf16")}


@rows
@pytest.mark.parametrize("count", SIZES)
def test_value_and_gradient_at_odd_sizes(row: dict[str, Any], count: int):
    x, of_y = numbers(row, count), numbers(row, count, seed=1)
    assert within(row, run(row, x), value(floats(x)), np.abs(floats(x)) + 1)
    wanted = floats(of_y) * gradient(floats(x))
    assert within(row, run(row, x, of_y), wanted, 4 * np.abs(floats(of_y)) + 1e-12)


@rows
def test_the_same_bytes_wherever_a_number_stands_and_however_many_threads(row: dict[str, Any]):
    x, of_y = numbers(row, 100_003), numbers(row, 100_003, seed=1)
    for gradients in (None, of_y):
        whole = run(row, x, gradients)
        for threads in (2, 3):
            assert np.array_equal(run(row, x, gradients, threads), whole)
        shifted = run(row, x[5:].copy(), None if gradients is None else gradients[5:].copy())
        assert np.array_equal(shifted, whole[5:])


@rows
def test_far_from_zero_and_where_there_is_no_number(row: dict[str, Any]):
    x = stored(row, np.array([np.inf, -np.inf, 3e38, -3e38, 12.0, -12.0, 0.0, 1e-40], np.float32))
    y, slope = floats(run(row, x)), floats(run(row, x, stored(row, np.ones(len(x), np.float32))))
    assert y[0] == np.inf
    assert y[4] == 12
    assert y[2] == floats(x)[2]
    assert y[6] == 0
    assert np.abs(y[[1, 3, 5, 7]]).max() < 1e-30
    assert slope[[0, 2, 4]].tolist() == [1, 1, 1]
    assert np.abs(slope[[1, 3, 5]]).max() < 1e-30
    assert slope[[6, 7]].tolist() == [0.5, 0.5]
    nan = np.full(3, np.nan, np.float32)
    bits = nan if row["precision"] == "fp32" else (nan.view(np.uint32) >> 16).astype(np.uint16)
    assert np.isnan(floats(run(row, bits))).all()
    assert np.isnan(floats(run(row, bits, numbers(row, 3)))).all()
    assert np.isnan(floats(run(row, numbers(row, 3), bits))).all()


def test_arrays_that_do_not_fit_are_refused():
    x = np.zeros(8, np.float32)
    for to, of_y in ((np.zeros(7, np.float32), None), (np.zeros(8, np.uint16), None), (x, np.zeros(9, np.float32))):
        with pytest.raises(ValueError, match="one type and size"):
            allmlp_native.tanh_gelu(x, to, of_y)
    with pytest.raises(ValueError, match="float32"):
        allmlp_native.tanh_gelu(np.zeros(8), np.zeros(8))
    with pytest.raises(TypeError):
        allmlp_native.tanh_gelu(x, np.zeros(16, np.float32)[::2])
    with pytest.raises(ValueError, match="level 'sse9'"):
        allmlp_native.tanh_gelu(x, x.copy(), level="sse9")
