"""Every kernel of the engine's table that runs here, against its mathematics in numpy, at awkward sizes."""

import itertools
from math import erf
from typing import Any

import numpy as np
import pytest

allmlp_native = pytest.importorskip("allmlp_native", reason="the engine is not built: make native")
engine = allmlp_native._engine

ROWS = [row for row in allmlp_native.kernels() if row["here"]]
kernels = pytest.mark.parametrize("kernel", ROWS, ids=lambda row: f"{row['level']}-{row['precision']}")
floats = pytest.mark.parametrize("kernel", [row for row in ROWS if row["precision"] != "int8"],
                                 ids=lambda row: f"{row['level']}-{row['precision']}")  # fmt: skip
int8 = pytest.mark.parametrize("kernel", [row for row in ROWS if row["precision"] == "int8"],
                               ids=lambda row: row["level"])

EPSILON = {"fp32": 2**-24, "bf16": 2**-24, "int8": 0}  # of one addition of the sums: bf16 is summed in float32
GELU_ERROR = {"fp32": 2e-6, "bf16": 4e-4}  # see tools/fit_gelu.py
GELU_ERROR_OF_PIECES = 5e-7  # in fp32, where 16 floats are looked up: most is the rounding of the result
BF16_STEP = 2**-7  # largest relative distance of a number to the next


def to_bf16(x: np.ndarray) -> np.ndarray:
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def sizes(kernel: dict[str, Any]) -> list[tuple[int, int, int]]:
    """(rows, inner, columns): 1, one less and one more than a tile, primes, and sums of several blocks."""
    rows, columns, group = kernel["rows"], kernel["columns"], kernel["group"]
    some = list(itertools.product((1, rows - 1, rows, rows + 1, 31), (1, group + 1, 67), (1, columns - 1, columns + 1)))
    return [*some, (2 * rows, 600, columns), (7 * rows + 3, 1031, 2), (113, 5, 97)]


def operands(kernel: dict[str, Any], size: tuple[int, int, int], weights_are_rows: bool) -> tuple[Any, Any, Any]:
    """Two operands as the kernel will store them, and a generator for more."""
    rows, inner, columns = size
    random = np.random.default_rng([*size, weights_are_rows])
    if kernel["precision"] == "int8":
        weights = random.integers(-128, 128, (rows, inner) if weights_are_rows else (inner, columns))
        values = random.integers(0, 256, (inner, columns) if weights_are_rows else (rows, inner))
        a, b = (weights, values) if weights_are_rows else (values, weights)
        return a.astype(np.float32), b.astype(np.float32), random
    a, b = random.standard_normal((rows, inner)), random.standard_normal((inner, columns))
    if kernel["precision"] == "bf16":
        return to_bf16(a), to_bf16(b), random
    return a.astype(np.float32), b.astype(np.float32), random


def run(kernel: dict[str, Any], a: np.ndarray, b: np.ndarray, **options: Any) -> np.ndarray:
    return engine._gemm(kernel["level"], kernel["precision"], a, b, **options)


def gelu(x: np.ndarray, form: int) -> np.ndarray:
    if form == 0:
        return 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def test_the_table_has_every_precision_on_the_levels_that_run_anywhere():
    assert {(row["level"], row["precision"]) for row in ROWS} >= {
        (level, precision) for level in ("portable", "scalar") for precision in ("fp32", "bf16", "int8")
    }


@kernels
@pytest.mark.parametrize("weights_are_rows", [False, True], ids=["panels", "rows"])
def test_sums_of_products_at_odd_sizes(kernel: dict[str, Any], weights_are_rows: bool):
    for size in sizes(kernel):
        a, b, random = operands(kernel, size, weights_are_rows)
        start = np.rint(random.standard_normal(size[0] if weights_are_rows else size[2]) * 1000).astype(np.float32)
        sums = run(kernel, a, b, weights_are_rows=weights_are_rows,
                   **{"row_start" if weights_are_rows else "column_start": start})  # fmt: skip
        whole = start[:, None] if weights_are_rows else start
        exact = a.astype(np.float64) @ b + whole
        if kernel["precision"] == "int8":
            assert np.array_equal(sums, exact.astype(np.float32)), size  # the sum as an integer, then one rounding
        else:
            bound = (size[1] + 2) * EPSILON[kernel["precision"]] * (np.abs(a) @ np.abs(b) + np.abs(whole))
            assert (np.abs(sums - exact) <= bound).all(), size


@int8
def test_the_largest_int8_sums_do_not_overflow_or_saturate(kernel: dict[str, Any]):
    values, weights = np.full((3, 32768), 255, np.float32), np.full((32768, 5), -128, np.float32)
    assert (run(kernel, values, weights) == -255 * 128 * 32768).all()
    assert (run(kernel, weights.T.copy(), values.T.copy(), weights_are_rows=True) == -255 * 128 * 32768).all()


@pytest.mark.parametrize("kernel,form,output", [
    pytest.param(row, form, output, id=f"{row['level']}-{row['precision']}-{form}-{output}")
    for row in ROWS
    for form, output in [("table", "add"), *([("columns", "store"), ("columns", "add"), ("rows", "add")]
                                             if row["precision"] == "int8" else [])]
])  # fmt: skip
def test_what_is_done_to_sums_before_they_are_stored(kernel: dict[str, Any], form: str, output: str):
    size = (kernel["rows"] + 2, 19, kernel["columns"] + 3)
    a, b, random = operands(kernel, size, form != "columns")
    rows, columns = (random.uniform(0.5, 2, n).astype(np.float32) for n in (size[0], size[2]))
    row_shift, column_shift = (random.standard_normal(n).astype(np.float32) for n in (size[0], size[2]))
    shift, x = (random.standard_normal((size[0], size[2])).astype(np.float32) for _ in range(2))
    got = run(kernel, a, b, weights_are_rows=form != "columns", form=form, output=output, row_scale=rows,
              row_shift=row_shift, column_scale=columns, column_shift=column_shift, shift=shift, x=x)  # fmt: skip
    sums = (a.astype(np.float64) @ b).astype(np.float32)
    expected = {
        "columns": sums * columns + column_shift,
        "rows": sums * rows[:, None] + row_shift[:, None],
        "table": sums * rows[:, None] * columns + shift,
    }[form] + (x if output == "add" else 0)
    if kernel["precision"] == "int8":
        assert np.array_equal(got, expected)
    else:
        assert np.allclose(got, expected, rtol=0, atol=1e-4)  # sums of 19 numbers around 1, scaled by up to 4


def rounded_once(sums: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The indices of sums: `native/src/indices.h`, written out."""
    whole_numbers = 1.5 * 2**23
    scale, shift = np.maximum(scale, np.float32(2**-24)).astype(np.float64), shift.astype(np.float64)
    whole = (2 * np.rint((shift - whole_numbers * scale) / 2) + whole_numbers).astype(np.float32).astype(np.float64)
    start = np.rint((shift + whole_numbers - whole) / scale)
    return np.rint((sums + start).astype(np.float32).astype(np.float64) * scale + (whole - whole_numbers))


@floats
@pytest.mark.parametrize("form", [0, 1], ids=["erf", "tanh"])
@pytest.mark.parametrize("output", ["gelu", "rows", "panels"])
def test_gelu_is_exact_enough_everywhere(kernel: dict[str, Any], output: str, form: int):
    x = np.concatenate([np.linspace(-9, 9, 3001), [0, -0.0, 1e-20, -30, 30, 1000, -1000]]).astype(np.float32)
    x = to_bf16(x) if kernel["precision"] == "bf16" else x
    got = run(kernel, x[:, None].copy(), np.ones((1, 3), np.float32), output=output, gelu=form)
    exact = gelu(x.astype(np.float64), form)[:, None]
    # Beyond the cut the error is that of the last step, 1/2 - 1/2 or 1/2 + 1/2, times x.
    by_pieces = kernel["precision"] == "fp32" and kernel["level"] == "avx512"
    error = GELU_ERROR_OF_PIECES if by_pieces else GELU_ERROR[kernel["precision"]]
    tolerance = error * np.maximum(1, np.abs(x[:, None]) / 4)
    if kernel["precision"] == "bf16" and output != "gelu":
        tolerance = tolerance + np.abs(exact) * BF16_STEP / 2
    assert (np.abs(got - exact) <= tolerance).all()


@int8
@pytest.mark.parametrize("form", [0, 1], ids=["erf", "tanh"])
def test_gelu_of_whole_sums_is_as_exact_as_in_bf16(kernel: dict[str, Any], form: int):
    x = np.concatenate([np.linspace(-9, 9, 3001), [0, -0.0, 1e-20, -30, 30, 1000, -1000]]).astype(np.float32)
    got = run(kernel, np.full((1, 1), 3, np.float32), np.ones((1, len(x)), np.float32), form="columns", output="gelu",
              gelu=form, column_scale=np.full(len(x), 0.5, np.float32), column_shift=x - np.float32(1.5))  # fmt: skip
    tolerance = GELU_ERROR["bf16"] * np.maximum(1, np.abs(x) / 4)
    assert (np.abs(got[0] - gelu(x.astype(np.float64), form)) <= tolerance).all()


@floats
@pytest.mark.parametrize("output", ["rows", "panels"])
def test_hidden_units_become_the_operand_of_the_next_product(kernel: dict[str, Any], output: str):
    for size in [(1, 3, 1), (kernel["rows"] + 1, 5, kernel["columns"] + 1), (29, 7, 67)]:
        a, b, _ = operands(kernel, size, output == "panels")
        got = run(kernel, a, b, output=output)
        exact = gelu(a.astype(np.float64) @ b, 0)
        assert np.allclose(got, exact, rtol=BF16_STEP / 2 if kernel["precision"] == "bf16" else 0, atol=1e-3)


@int8
@pytest.mark.parametrize("last,goes_on", [(None, False), (200, True), (3, True), (254, True)])
@pytest.mark.parametrize("output,form", [("rows", "index"), ("panels", "rows_columns")])
def test_int8_hidden_units_go_through_the_table_to_the_bit(kernel: dict[str, Any], output: str, form: str,
                                                           last: int | None, goes_on: bool):
    table = np.random.default_rng(0).integers(0, 256, 512).astype(np.float32)
    table[255] = table[255] if last is None else last
    table[256:] = np.minimum(table[255] + np.arange(1, 257), 255) if goes_on else table[255]
    for size in [(1, 3, 1), (kernel["rows"] + 1, 5, kernel["columns"] + 1), (29, 7, 67), (64, 13, 31)]:
        a, b, random = operands(kernel, size, output == "panels")
        rows, columns = (random.uniform(0.002, 0.02, n).astype(np.float32) for n in (size[0], size[2]))
        row_shift, column_shift = (random.uniform(0, 400, n).astype(np.float32) for n in (size[0], size[2]))
        got = run(kernel, a, b, weights_are_rows=output == "panels", form=form, output=output, row_scale=rows,
                  row_shift=row_shift, column_scale=columns * (10 if output == "panels" else 1),
                  column_shift=column_shift, table=table)  # fmt: skip
        sums = a.astype(np.float64) @ b
        index = (rounded_once(sums, columns, column_shift) if output == "rows" else
                 sums.astype(np.float32) * rows[:, None] * (columns * 10).astype(np.float32) + row_shift[:, None])
        assert np.array_equal(got, table[np.rint(np.clip(index, 0, 511)).astype(int)]), size


TABLE = np.minimum(np.r_[np.arange(255), np.arange(154, 411)], 255).astype(np.float32)  # goes on from 154, at 255


@int8
@pytest.mark.parametrize("shift,expected", [
    ([0, 0, 0, 190, 191, 192, 236, -63, -64], [0, 2, 2, 254, 254, 155, 199, 0, 0]),
    ([0, 0, 0, 190, 191, 4e4, 1e5, -4e4, -4e6], [0, 2, 2, 254, 254, 255, 255, 0, 0]),  # 16 bits do not hold these
])
def test_int8_ties_go_to_even_and_what_is_beyond_the_table_is_cut(kernel: dict[str, Any], shift: list[float],
                                                                  expected: list[int]):
    halves = np.array([[1, 3, 5, 127, 127, 127, 127, 1, 127]], np.float32)
    got = run(kernel, np.ones((1, 1), np.float32), halves, form="index", output="rows", table=TABLE,
              column_scale=np.full(9, 0.5, np.float32), column_shift=np.array(shift, np.float32))
    assert got[0].tolist() == expected


@int8
def test_int8_indices_are_rounded_once_whatever_their_sums_reach(kernel: dict[str, Any]):
    table = np.minimum(np.arange(512), 255).astype(np.float32)
    random = np.random.default_rng(0)
    for inner, least, most in [(4, 1e-3, 0.05), (300, 1e-5, 1e-3), (2000, 1e-6, 1e-4), (3, 1e-9, 2e-8), (9, 0.1, 3)]:
        values, weights = random.integers(0, 256, (15, inner)), random.integers(-128, 128, (inner, 41))
        scale, shift = np.geomspace(least, most, 41).astype(np.float32), random.uniform(0, 255, 41).astype(np.float32)
        start = np.rint(random.standard_normal(41) * 1000)
        got = run(kernel, values.astype(np.float32), weights.astype(np.float32), form="index", output="rows",
                  column_start=start.astype(np.float32), column_scale=scale, column_shift=shift, table=table)
        sums = values.astype(np.float64) @ weights + start
        index = rounded_once(sums, scale, shift)
        assert np.array_equal(got, np.clip(index, 0, 255)), inner
        # One step of the sums is what whole numbers lose of a shift, and tiny scales are raised to 2^-24.
        assert (np.abs(index - (sums * scale + shift)) <= 0.5 + scale / 2 + np.abs(sums) * 2**-24 + 1e-5).all()


@int8
def test_what_a_gate_gives_is_cut_however_large_it_is(kernel: dict[str, Any]):
    wanted = np.array([0.5, 254.5, 2e9, 1e30, -1e30, np.inf, -np.inf, np.nan], np.float32)
    ones = np.ones((len(wanted), 1), np.float32)
    got = run(kernel, ones * 0, ones[:1] * 0, weights_are_rows=True, form="rows_columns", output="rows", gate=ones,
              out_shift=0.0, row_scale=ones[:, 0], row_shift=wanted, column_scale=ones[:1, 0])  # fmt: skip
    assert got[:, 0].tolist() == [0, 254, 255, 255, 0, 255, 0, 0]


@kernels
def test_gated_values_become_an_operand(kernel: dict[str, Any]):
    size = (kernel["rows"] + 1, 11, kernel["columns"] + 5)
    a, b, random = operands(kernel, size, True)
    gate = random.uniform(-1, 1, (size[0], size[2])).astype(np.float32)
    rows = random.uniform(5e-4, 2e-3, size[0]).astype(np.float32)
    columns = random.uniform(0.5, 2, size[2]).astype(np.float32)
    row_shift = random.standard_normal(size[0]).astype(np.float32)
    form = "rows_columns" if kernel["precision"] == "int8" else "plain"
    got = run(kernel, a, b, weights_are_rows=True, form=form, output="rows", gate=gate, out_shift=128.0, row_scale=rows,
              row_shift=row_shift, column_scale=columns)  # fmt: skip
    sums = a.astype(np.float64) @ b
    if kernel["precision"] == "int8":
        exact = np.clip(np.rint((sums * rows[:, None] * columns + row_shift[:, None]) * gate + 128), 0, 255)
        assert np.abs(got - exact).max() <= 1  # a tie may fall to the other side
        assert (got == exact).mean() > 0.99
    else:
        assert np.allclose(got, sums * gate, rtol=BF16_STEP / 2 if kernel["precision"] == "bf16" else 1e-6, atol=1e-4)


@kernels
@pytest.mark.parametrize("as_panels", [False, True], ids=["rows", "panels"])
@pytest.mark.parametrize("epsilon", [1e-6, None], ids=["layernorm", "identity"])
def test_norms_write_operands(kernel: dict[str, Any], epsilon: float | None, as_panels: bool):
    columns = kernel["columns"]
    for tokens, channels in [(1, 1), (5, columns - 1), (3, columns), (17, columns + 1), (4, 67), (2, 3 * columns + 5)]:
        random = np.random.default_rng([tokens, channels])
        x = (random.standard_normal((tokens, channels)) * 3 + 2).astype(np.float32)
        scale, shift = random.uniform(5, 30, channels).astype(np.float32), np.full(channels, 128, np.float32)
        got = engine._norm(kernel["level"], kernel["precision"], x, epsilon, scale, shift, as_panels)
        y = x.astype(np.float64)
        if epsilon is not None:
            y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + epsilon)
        exact = y * scale + shift
        if kernel["precision"] == "int8":
            assert (np.abs(got - np.clip(exact, 0, 255)) <= 0.5 + 1e-3).all()
        else:
            tolerance = BF16_STEP / 2 if kernel["precision"] == "bf16" else 3e-6
            assert np.allclose(got, exact, rtol=tolerance, atol=2e-4)


@kernels
def test_layernorm_of_tokens_with_a_large_mean_keeps_its_precision(kernel: dict[str, Any]):
    channels = 3 * kernel["columns"] + 1
    x = (np.random.default_rng(0).standard_normal((4, channels)) + 1000).astype(np.float32)
    ones = np.ones(channels, np.float32)
    got = engine._norm(kernel["level"], kernel["precision"], x, 1e-6, 20 * ones, 128 * ones, False)
    y = x.astype(np.float64)
    exact = 20 * (y - y.mean(1, keepdims=True)) / y.std(1, keepdims=True) + 128
    assert np.allclose(got, exact, atol={"fp32": 0.02, "bf16": 0.52, "int8": 0.52}[kernel["precision"]])


@kernels
def test_pooling_is_the_mean_of_normalised_tokens(kernel: dict[str, Any]):
    random = np.random.default_rng(0)
    x = random.standard_normal((49, kernel["columns"] + 3)).astype(np.float32)
    mean, rstd = random.standard_normal(49).astype(np.float32), random.uniform(0.5, 2, 49).astype(np.float32)
    got = engine._pool(kernel["level"], kernel["precision"], x, mean, rstd)
    assert np.allclose(got, ((x - mean[:, None]) * rstd[:, None]).mean(0, dtype=np.float64), atol=1e-5)


@kernels
def test_every_byte_of_an_image_is_exact_in_every_precision(kernel: dict[str, Any]):
    every = np.arange(256, dtype=np.uint8)
    got = engine._bytes(kernel["level"], kernel["precision"], every)
    assert np.array_equal(got, every if kernel["precision"] == "int8" else every.astype(np.float32) - 128)


def test_a_precision_that_is_none_is_refused_by_name():
    with pytest.raises(ValueError, match="no precision 'fp16'; accepted: fp32, bf16, int8"):
        engine._bytes("scalar", "fp16", np.arange(256, dtype=np.uint8))


@kernels
def test_the_peak_is_a_possible_speed(kernel: dict[str, Any]):
    peak = allmlp_native.peak(kernel["precision"], 1, kernel["level"], seconds=0.001, repeats=2)
    assert 1e8 < peak < 1e13
