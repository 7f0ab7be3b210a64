"""Several labels per image, against scikit-learn and torch."""

from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from allmlp.errors import BadData
from allmlp.evaluate import MultiLabelMetrics, multilabel_metrics
from allmlp.evaluate.multilabel import average_precision_percent

CLASSES = ["cat", "dog", "bird", "never"]


@pytest.fixture(scope="module")
def case():
    random = np.random.default_rng(0)
    labels = (random.uniform(size=(400, 4)) < [0.5, 0.2, 0.05, 0]).astype(np.uint8)
    logits = (random.normal(size=(400, 4)) + 2 * labels - 1).astype(np.float32)
    return logits, labels, multilabel_metrics(logits, labels, CLASSES)


def test_average_precision_of_each_class_and_its_mean_equal_sklearns(case):
    logits, labels, metrics = case
    expected = [100 * sklearn.metrics.average_precision_score(labels[:, k], logits[:, k]) for k in range(3)]
    assert [row.average_precision_percent for row in metrics.classes[:3]] == pytest.approx(expected)
    assert metrics.mean_average_precision_percent == pytest.approx(np.mean(expected))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30))
def test_average_precision_with_equal_scores_equals_sklearns(pairs):
    scores, held = np.array([s for s, _ in pairs], np.float32), np.array([h for _, h in pairs])
    if not held.any():
        assert average_precision_percent(scores, held) is None
    else:
        expected = 100 * sklearn.metrics.average_precision_score(held, scores)
        assert average_precision_percent(scores, held) == pytest.approx(expected)


def test_f1_scores_exact_match_and_counts_equal_sklearns(case):
    logits, labels, metrics = case
    said = logits > 0
    micro = sklearn.metrics.f1_score(labels, said, average="micro")
    macro = sklearn.metrics.f1_score(labels[:, :3], said[:, :3], average="macro")
    assert metrics.micro_f1_percent == pytest.approx(100 * micro)
    assert metrics.macro_f1_percent == pytest.approx(100 * macro)
    assert metrics.exact_match_percent == pytest.approx(100 * sklearn.metrics.accuracy_score(labels, said))
    expected: Any = sklearn.metrics.precision_recall_fscore_support(labels[:, :3], said[:, :3])
    for k, row in enumerate(metrics.classes[:3]):
        got = (row.precision_percent, row.recall_percent, row.f1_percent, row.support)
        assert got == pytest.approx([100 * expected[0][k], 100 * expected[1][k], 100 * expected[2][k], expected[3][k]])


def test_loss_is_torchs_binary_cross_entropy_summed_over_classes(case):
    logits, labels, metrics = case
    every = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(logits).double(), torch.tensor(labels).double(), reduction="none"
    )
    assert metrics.negative_log_likelihood == pytest.approx(every.sum(1).mean().item())


def test_class_that_no_image_has_is_left_out_of_the_means(case):
    never = case[2].classes[3]
    assert never.support == 0
    assert (never.average_precision_percent, never.recall_percent, never.f1_percent) == (None, None, None)


def test_no_image_gives_none():
    metrics = multilabel_metrics(np.empty((0, 2), np.float32), np.empty((0, 2), np.uint8), ["a", "b"])
    assert (metrics.count, metrics.mean_average_precision_percent, metrics.exact_match_percent) == (0, None, None)
    assert (metrics.micro_f1_percent, metrics.macro_f1_percent, metrics.negative_log_likelihood) == (None, None, None)


def test_images_without_any_label_are_right_when_nothing_is_said():
    metrics = multilabel_metrics(-np.ones((3, 2), np.float32), np.zeros((3, 2), np.uint8), ["a", "b"])
    assert metrics.exact_match_percent == 100
    assert metrics.micro_f1_percent is None


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.full((2, 2), np.nan), np.zeros((2, 2), np.uint8), "2 of 2 images are not finite"),
        (np.zeros((2, 2)), np.full((2, 2), 7, np.uint8), "must be 0 or 1, found 7 to 7"),
        (np.zeros((2, 2)), np.zeros((2, 3), np.uint8), r"labels are \(2, 3\), but there are 2 classes"),
        (np.zeros((2, 2)), np.zeros(2, np.int64), r"\(N, K\), not int64 \(2,\)"),
    ],
)
def test_what_does_not_fit_is_refused(logits, labels, message):
    with pytest.raises(BadData, match=message):
        multilabel_metrics(logits, labels, ["a", "b"])


def test_metrics_go_to_json_and_back(case):
    assert MultiLabelMetrics.from_json(case[2].to_json()) == case[2]
