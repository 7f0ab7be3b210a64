"""The parts a page is made of: markup, numbers, axes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmlp.report.axes import fitted_axis
from allmlp.report.markup import Html, breakable, join, tag
from allmlp.report.numbers import SPACE, count, duration, known, large, percent, small, ticks

FINITE = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


def test_text_and_attributes_are_escaped_and_markup_is_not_escaped_twice():
    inner = tag("b", "<script>&")
    assert inner == "<b>&lt;script&gt;&amp;</b>"
    assert tag("p", inner, title='"<') == '<p title="&quot;&lt;"><b>&lt;script&gt;&amp;</b></p>'


def test_children_nest_none_is_nothing_and_attribute_names_are_translated():
    assert tag("g", ["a", [None, 1], Html("<br/>")], class_="x", stroke_width=1.005, id=None) == (
        '<g class="x" stroke-width="1">a1<br/></g>'
    )
    assert join() == ""
    assert tag("circle", tag("title", "t"), r=2) == '<circle r="2"><title>t</title></circle>'


def test_breakable_text_is_escaped():
    assert breakable("a_<b>") == "a_<wbr/>&lt;b&gt;"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12.5, "12.5"), (999, "999"), (1000, "1.00 k"), (161066, "161 k"), (59.9e6, "59.9 M"),
     (999_960, "1.00 M"), (9.996e6, "10.0 M"), (12.6e9, "12.6 G"), (1.5e15, "1500 T")],
)
def test_large_numbers_have_three_digits_and_a_prefix(value, text):
    assert large(value) == text.replace(" ", SPACE)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.3125, "0.3125"), (2.30259, "2.303"), (0.001, "0.001"), (0.00025, "2.5e-4"), (5e-5, "5e-5"), (0, "0"),
     (-0.00031, "-3.1e-4"), (123456, "1.235e5")],
)
def test_small_numbers_have_four_digits(value, text):
    assert small(value) == text


def test_numbers_of_an_axis_share_one_notation():
    assert ticks([0, 0.0005, 0.001]) == ["0", "5e-4", "1e-3"]
    assert ticks([0, 0.5, 1]) == ["0", "0.5", "1"]
    assert ticks([]) == []


@pytest.mark.parametrize(("seconds", "text"), [(0.5, "0.5 s"), (59, "59 s"), (155, "2 min 35 s"), (7260, "2 h 1 min")])
def test_durations(seconds, text):
    assert duration(seconds).replace(SPACE, " ") == text


def test_percent_and_count():
    assert (percent(98.611, 2), percent(None), count(1234567)) == (f"98.61{SPACE}%", "–", "1,234,567")


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "3", True])
def test_what_is_no_finite_number_is_unknown(value):
    assert known(value) is None


@given(st.lists(FINITE, min_size=1, max_size=8))
def test_axis_holds_all_values_and_has_a_few_ticks_within(values):
    axis = fitted_axis(values, 200, 10)
    for value in values:
        assert 10 - 1e-6 <= axis.at(value) <= 200 + 1e-6
    assert 2 <= len(axis.ticks) <= 8
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    steps = {round(b - a, 9) for a, b in zip(axis.ticks, axis.ticks[1:], strict=False)}
    assert len(steps) == 1 or max(steps) - min(steps) < 1e-6 * max(abs(axis.low), abs(axis.high))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_axis_of_percentages_never_passes_100(values):
    axis = fitted_axis(values, 200, 10, top=100)
    assert axis.high <= 100
    assert all(10 - 1e-6 <= axis.at(value) <= 200 + 1e-6 for value in values)


@given(st.sets(st.integers(1, 5000), min_size=1, max_size=20))
def test_axis_of_epochs_ends_on_the_epochs_and_has_whole_ticks(epochs):
    axis = fitted_axis(epochs, 40, 400, whole=True)
    assert all(tick == int(tick) for tick in axis.ticks)
    assert all(40 - 1e-6 <= axis.at(epoch) <= 400 + 1e-6 for epoch in epochs)
    if len(epochs) > 1:
        assert (axis.low, axis.high) == (min(epochs), max(epochs))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([2.3, 0.12], (0, 0.5, 1, 1.5, 2, 2.5)), ([97, 98.6], (97, 97.5, 98, 98.5, 99)),
     ([0.0], (0, 0.2, 0.4, 0.6, 0.8, 1)), ([-1, 1], (-1, -0.5, 0, 0.5, 1)), ([4.0, 4.0], (2, 3, 4, 5, 6))],
)
def test_ticks_are_round_and_start_at_0_unless_all_values_are_in_the_upper_half(values, expected):
    assert fitted_axis(values, 0, 1).ticks == expected
