"""The reliability table against a plain loop and scikit-learn."""

import numpy as np
import pytest
import scipy.special
import sklearn.calibration

from allmlp.evaluate import classification_metrics
from allmlp.evaluate.calibration import calibration_error_percent, reliability_table


@pytest.fixture
def answers():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.2, 1, 2000)
    return confidence, random.uniform(size=2000) < confidence**2  # over-confident


def test_table_equals_sklearns_calibration_curve(answers):
    table = reliability_table(*answers)
    accuracy, confidence = sklearn.calibration.calibration_curve(answers[1], answers[0], n_bins=15)
    filled = [row for row in table if row.count]
    assert [row.accuracy_percent for row in filled] == pytest.approx(100 * accuracy)
    assert [row.confidence_percent for row in filled] == pytest.approx(100 * confidence)
    assert len(table) == 15
    assert sum(row.count for row in table) == 2000


def test_error_is_the_weighted_gap_of_a_plain_loop(answers):
    confidence, correct = answers
    gap = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            gap += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert calibration_error_percent(reliability_table(*answers)) == pytest.approx(100 * gap)
    assert gap > 0.1


@pytest.mark.parametrize(("confidence", "row"), [(0.0, 0), (0.2, 2), (0.2000001, 3), (1.0, 14)])
def test_bins_are_open_below_and_closed_above_and_take_0_into_the_first(confidence, row):
    table = reliability_table(np.array([confidence]), np.array([True]))
    assert [i for i, each in enumerate(table) if each.count] == [row]
    assert table[row].low_percent == pytest.approx(100 * row / 15)


def test_empty_bins_have_no_rates_and_an_empty_table_no_error():
    table = reliability_table(np.empty(0), np.empty(0, bool))
    assert all(row.count == 0 and row.accuracy_percent is None and row.confidence_percent is None for row in table)
    assert calibration_error_percent(table) is None


def test_sure_and_right_is_perfectly_calibrated():
    assert calibration_error_percent(reliability_table(np.ones(5), np.ones(5, bool))) == 0


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_metrics_take_the_probability_of_the_predicted_class_as_confidence(loss):
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=(300, 4)), random.integers(4, size=300)
    chances = scipy.special.softmax(logits, axis=1) if loss == "softmax" else scipy.special.expit(logits)
    expected = reliability_table(chances.max(1), logits.argmax(1) == labels)
    metrics = classification_metrics(logits, labels, list("abcd"), loss)
    assert [row.count for row in metrics.reliability] == [row.count for row in expected]
    assert metrics.calibration_error_percent == pytest.approx(calibration_error_percent(expected))
