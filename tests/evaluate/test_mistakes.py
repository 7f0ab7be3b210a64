"""The most confident mistakes."""

import numpy as np
import pytest
import scipy.special

from allmlp.errors import BadData
from allmlp.evaluate import worst_mistakes


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_mistakes_are_those_of_a_sorted_plain_loop(loss):
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(200, 5)).astype(np.float32), random.integers(5, size=200)
    wide = logits.astype(np.float64)
    chances = scipy.special.softmax(wide, axis=1) if loss == "softmax" else scipy.special.expit(wide)
    wrong = sorted((-chances[i].max(), i) for i in range(200) if chances[i].argmax() != labels[i])
    found = worst_mistakes(logits, labels, count=30, loss=loss)
    assert [mistake.index for mistake in found] == [i for _, i in wrong[:30]]
    for mistake, (negative, i) in zip(found, wrong, strict=False):
        assert mistake.probability == pytest.approx(-negative)
        assert mistake.predicted == chances[i].argmax()
        assert mistake.true == (labels[i],)


def test_fewer_mistakes_than_asked_for_and_none_at_all():
    logits = np.eye(3, dtype=np.float32)
    assert len(worst_mistakes(logits, np.array([0, 1, 1]))) == 1
    assert worst_mistakes(logits, np.arange(3)) == ()
    assert worst_mistakes(np.empty((0, 3), np.float32), np.empty(0, np.int64)) == ()


def test_equally_sure_mistakes_come_in_the_order_of_the_data_set():
    found = worst_mistakes(np.tile(np.array([[9.0, 0.0]], np.float32), (5, 1)), np.ones(5, np.int64), count=3)
    assert [mistake.index for mistake in found] == [0, 1, 2]


def test_multi_label_mistake_is_the_surest_class_that_does_not_hold():
    logits = np.array([[3, 2, 1], [-1, 5, 4], [-1, -2, 3]], np.float32)
    labels = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 1]], np.uint8)
    found = worst_mistakes(logits, labels)
    assert [(m.index, m.true, m.predicted) for m in found] == [(1, (2,), 1), (0, (0,), 1)]
    assert found[0].probability == pytest.approx(scipy.special.expit(5))


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(BadData, match="1 of 1 images"):
        worst_mistakes(np.array([[np.nan, 0]]), np.array([0]))
