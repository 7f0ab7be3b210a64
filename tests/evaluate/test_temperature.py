"""Temperature scaling: the condition that defines its answer, and one that was put in."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

from allmlp.data.dataset import Data, Subset
from allmlp.data.digits import open_digits
from allmlp.errors import BadData, BadSetting
from allmlp.evaluate.calibration import calibration_error_percent, reliability_table
from allmlp.evaluate.temperature import LEAST, MOST, fit_temperature, images_to_fit, temperature_of


def drawn(count: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `temperature` times too sure, with classes drawn by the right probabilities."""
    draws = np.random.default_rng(seed)
    logits = draws.normal(size=(count, 6)) * 2
    labels = (softmax(logits, axis=1).cumsum(1) > draws.uniform(size=(count, 1))).argmax(1)
    return (temperature * logits).astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature):
    assert fit_temperature(*drawn(6_000, temperature)) == pytest.approx(temperature, rel=0.05)  # sampling: 2 %


def test_at_the_answer_the_mean_logit_is_that_of_the_true_classes():
    """The derivative by 1/T is zero: over all images, logits weighed by probability sum to those of the classes."""
    logits, labels = drawn(500, 2.0)
    t = fit_temperature(logits, labels)
    expected = (softmax(logits.astype(np.float64) / t, axis=1) * logits).sum()
    assert expected == pytest.approx(logits[np.arange(500), labels].sum(dtype=np.float64), rel=1e-5)


def test_with_sigmoids_it_is_the_best_of_a_grid():
    logits, labels = drawn(400, 2.5)
    truth = np.eye(6)[labels]
    grid = np.geomspace(0.2, 20, 400)
    losses = [-np.log(np.where(truth, expit(logits / t), expit(-logits.astype(np.float64) / t))).sum() for t in grid]
    assert fit_temperature(logits, labels, "sigmoid") == pytest.approx(grid[np.argmin(losses)], rel=0.012)


def test_at_the_ends_it_stays_finite():
    logits = np.eye(3, dtype=np.float32)
    assert LEAST <= fit_temperature(logits, np.arange(3)) < 0.05  # all right: the surer the better, until sure
    assert fit_temperature(logits, np.array([1, 2, 0])) == pytest.approx(MOST, rel=1e-3)


def test_before_and_after_are_of_images_that_it_was_not_fitted_on():
    held_out, (logits, labels) = drawn(3000, 3.0, seed=1), drawn(2000, 3.0, seed=2)
    found = temperature_of("others", held_out, (logits, labels))
    assert found.temperature == fit_temperature(*held_out)
    for by, nats, error in zip((1.0, found.temperature), found.negative_log_likelihood,
                               found.calibration_error_percent, strict=True):
        scaled = logits.astype(np.float64) / by
        assert nats == pytest.approx(-log_softmax(scaled, axis=1)[np.arange(2000), labels].mean(), rel=1e-5)
        table = reliability_table(softmax(scaled, axis=1).max(1), logits.argmax(1) == labels)
        assert error == pytest.approx(calibration_error_percent(table), abs=0.05)  # an image on the edge of a bin
    assert found.negative_log_likelihood[1] < found.negative_log_likelihood[0]
    assert found.calibration_error_percent[1] < 5 < found.calibration_error_percent[0]


def test_it_is_fitted_on_validation_images_and_never_on_those_that_are_measured():
    digits = open_digits()
    three = replace(digits, splits={**digits.splits, "val": Subset(digits.splits["train"], np.arange(40))})
    assert images_to_fit(three, "test") is three.splits["val"]
    half = images_to_fit(three, "val")
    assert isinstance(half, np.ndarray)
    counts = np.bincount(three.splits["val"].labels[half], minlength=10)
    assert np.abs(counts - np.bincount(three.splits["val"].labels, minlength=10) / 2).max() <= 0.5
    with pytest.raises(BadSetting, match="beside test digits has none"):
        images_to_fit(digits, "test")
    with pytest.raises(BadSetting, match="beside train"):
        images_to_fit(three, "train")


def test_several_labels_per_image_and_no_images_are_one_line():
    several = Subset(open_digits().splits["train"], np.arange(3))
    object.__setattr__(several, "labels", np.eye(3, 10, dtype=np.uint8))
    with pytest.raises(BadData, match="one class per image"):
        images_to_fit(Data("many", tuple("0123456789"), {"train": several, "val": several}), "val")
    with pytest.raises(BadData, match="no images"):
        fit_temperature(np.empty((0, 3)), np.empty(0, np.int64))
