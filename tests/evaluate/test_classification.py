"""One label per image, against scikit-learn, scipy and torch."""

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from allmlp.errors import BadData
from allmlp.evaluate import Metrics, classification_metrics
from allmlp.evaluate.scores import wilson_interval_percent

EXACT = 1e-9  # relative: both sides compute in float64


def names(count: int) -> list[str]:
    return [f"class {k}" for k in range(count)]


def problem(count: int = 500, num_classes: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are right about half the time, and labels of uneven classes."""
    random = np.random.default_rng(seed)
    labels = random.choice(num_classes, count, p=random.dirichlet(np.full(num_classes, 3.0)))
    logits = random.normal(size=(count, num_classes)).astype(np.float32)
    logits[np.arange(count), labels] += 1.2
    return logits, labels


@pytest.fixture(params=[2, 5, 7, 40])
def case(request):
    logits, labels = problem(num_classes=request.param)
    return logits, labels, classification_metrics(logits, labels, names(request.param))


def test_top1_and_balanced_accuracy_equal_sklearns(case):
    logits, labels, metrics = case
    predicted = logits.argmax(1)
    assert metrics.count == 500
    assert metrics.top1_percent == pytest.approx(100 * sklearn.metrics.accuracy_score(labels, predicted), rel=EXACT)
    balanced = sklearn.metrics.balanced_accuracy_score(labels, predicted)
    assert metrics.balanced_accuracy_percent == pytest.approx(100 * balanced, rel=EXACT)


def test_top5_equals_sklearns_and_is_absent_where_it_says_nothing(case):
    logits, labels, metrics = case
    if logits.shape[1] <= 5:
        assert metrics.top5_percent is None
    else:
        expected = sklearn.metrics.top_k_accuracy_score(labels, logits, k=5, labels=np.arange(logits.shape[1]))
        assert metrics.top5_percent == pytest.approx(100 * expected, rel=EXACT)
        assert metrics.top5_percent > metrics.top1_percent


def test_precision_recall_f1_and_support_of_each_class_equal_sklearns(case):
    logits, labels, metrics = case
    every = np.arange(logits.shape[1])
    expected: Any = sklearn.metrics.precision_recall_fscore_support(
        labels, logits.argmax(1), labels=every, zero_division=np.nan  # pyright: ignore[reportArgumentType]
    )
    for k, row in enumerate(metrics.classes):
        assert row.name == f"class {k}"
        for got, want in zip((row.precision_percent, row.recall_percent, row.f1_percent), expected[:3], strict=True):
            assert (got is None and np.isnan(want[k])) or got == pytest.approx(100 * want[k], rel=EXACT)
        assert row.support == expected[3][k]
    macro = sklearn.metrics.f1_score(labels, logits.argmax(1), labels=np.unique(labels), average="macro")
    assert metrics.macro_f1_percent == pytest.approx(100 * macro, rel=EXACT)


def test_confusion_matrix_equals_sklearns(case):
    logits, labels, metrics = case
    expected = sklearn.metrics.confusion_matrix(labels, logits.argmax(1), labels=np.arange(logits.shape[1]))
    np.testing.assert_array_equal(metrics.confusion_matrix(), expected)
    assert all(images > 0 for _, _, images in metrics.confusion)


def test_softmax_loss_equals_sklearns_log_loss_and_torchs_cross_entropy(case):
    logits, labels, metrics = case
    chances = scipy.special.softmax(logits.astype(np.float64), axis=1)
    expected = sklearn.metrics.log_loss(labels, chances, labels=np.arange(logits.shape[1]))
    assert metrics.negative_log_likelihood == pytest.approx(expected, rel=EXACT)
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits).double(), torch.tensor(labels)).item()
    assert metrics.negative_log_likelihood == pytest.approx(expected, rel=EXACT)


def test_sigmoid_loss_is_torchs_binary_cross_entropy_summed_over_classes():
    logits, labels = problem()
    metrics = classification_metrics(logits, labels, names(7), loss="sigmoid")
    targets = torch.nn.functional.one_hot(torch.tensor(labels), 7).double()
    every = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(logits).double(), targets, reduction="none"
    )
    assert metrics.negative_log_likelihood == pytest.approx(every.sum(1).mean().item(), rel=EXACT)


def test_many_images_computed_in_blocks_give_the_same_as_one_block():
    logits, labels = problem(count=10_000)
    metrics = classification_metrics(logits, labels, names(7))
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits).double(), torch.tensor(labels)).item()
    assert metrics.negative_log_likelihood == pytest.approx(expected, rel=EXACT)
    assert metrics.top1_percent == pytest.approx(100 * (logits.argmax(1) == labels).mean(), rel=EXACT)
    assert sum(row.count for row in metrics.reliability) == 10_000


@given(st.integers(1, 2000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_interval_is_wilsons(hits_and_count):
    low, high = wilson_interval_percent(*hits_and_count) or (None, None)
    expected = scipy.stats.binomtest(*hits_and_count).proportion_ci(confidence_level=0.95, method="wilson")
    assert low == pytest.approx(100 * expected.low, abs=1e-9)
    assert high == pytest.approx(100 * expected.high, abs=1e-9)


def test_no_image_gives_none_everywhere_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = classification_metrics(np.empty((0, 7), np.float32), np.empty(0, np.int64), names(7))
    assert metrics.count == 0
    assert metrics.confusion == ()
    for field in ("top1_percent", "top1_interval_percent", "top5_percent", "balanced_accuracy_percent",
                  "macro_f1_percent", "negative_log_likelihood", "calibration_error_percent"):
        assert getattr(metrics, field) is None, field
    assert all(row.support == 0 and row.recall_percent is None for row in metrics.classes)


@pytest.mark.parametrize(("loss", "nats"), [("softmax", 0.0), ("sigmoid", np.log1p(np.exp(-2.0)))])
def test_one_class_is_always_right(loss, nats):
    metrics = classification_metrics(np.full((3, 1), 2.0, np.float32), np.zeros(3, np.int64), ["it"], loss)
    assert metrics.top1_percent == 100
    assert metrics.top1_interval_percent is not None
    assert metrics.top1_interval_percent[1] == 100
    assert metrics.negative_log_likelihood == pytest.approx(nats)


def test_class_without_images_has_no_recall_and_does_not_enter_the_means():
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]  # class 2 is predicted once, and has no image
    metrics = classification_metrics(logits, np.array([0, 0, 1, 0]), names(3))
    absent = metrics.classes[2]
    assert (absent.support, absent.recall_percent, absent.f1_percent, absent.precision_percent) == (0, None, None, 0)
    assert metrics.balanced_accuracy_percent == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert metrics.macro_f1_percent == pytest.approx(100 * (4 / 5 + 1) / 2)


def test_class_never_predicted_has_no_precision():
    metrics = classification_metrics(np.eye(2, dtype=np.float32)[[0, 0]], np.array([0, 1]), names(2))
    assert metrics.classes[1].precision_percent is None
    assert metrics.classes[1].recall_percent == 0


def test_of_equal_logits_the_lower_class_comes_first():
    metrics = classification_metrics(np.zeros((8, 8), np.float32), np.arange(8), names(8))
    assert metrics.top1_percent == pytest.approx(100 / 8)
    assert metrics.top5_percent == pytest.approx(100 * 5 / 8)
    assert [p for _, p, _ in metrics.confusion] == [0] * 8


def test_huge_logits_do_not_overflow():
    logits = np.array([[3e38, -3e38], [-1e4, 1e4]], np.float32)
    for loss in ("softmax", "sigmoid"):
        metrics = classification_metrics(logits, np.array([0, 1]), names(2), loss)
        assert metrics.negative_log_likelihood == 0
        assert metrics.calibration_error_percent == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_counted(value):
    logits, labels = problem(count=20)
    logits[[3, 5], 2] = value
    with pytest.raises(BadData, match="2 of 20 images are not finite"):
        classification_metrics(logits, labels, names(7))


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.array([0, 3]), names(3), r"labels run from 0 to 3, but there are 3 classes"),
        (np.array([-1, 0]), names(3), r"labels run from -1 to 0"),
        (np.array([0.0, 1.0]), names(3), r"labels must be integers \(N,\), not float64 \(2,\)"),
        (np.array([0, 1, 2]), names(3), r"logits are \(2, 3\), expected \(3, 3\)"),
        (np.array([0, 1]), names(4), r"logits are \(2, 3\), expected \(2, 4\)"),
        (np.array([0, 1]), [], r"0 to 1, but there are 0 classes"),
    ],
)
def test_labels_and_shapes_that_do_not_fit_are_refused(labels, classes, message):
    with pytest.raises(BadData, match=message):
        classification_metrics(np.zeros((2, 3), np.float32), labels, classes)


def test_metrics_go_to_json_and_back():
    metrics = classification_metrics(*problem(), names(7))
    assert Metrics.from_json(metrics.to_json()) == metrics
