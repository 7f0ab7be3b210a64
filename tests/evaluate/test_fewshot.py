"""Linear few-shot beside scikit-learn's ridge regression, and its λ beside the best of a plain loop."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from allmlp.errors import BadData, BadSetting
from allmlp.evaluate.fewshot import (
    BIAS,
    GRID,
    L2,
    best_by_rank,
    choose_l2,
    draw_shots,
    few_shot,
    few_shot_accuracies,
)

CLOSE = 1e-6  # of logits about 1; the constant of 100 puts eigenvalues up to 1e6 beside λ


def problem(num_support: int, num_features: int, num_classes: int = 7, seed: int = 0):
    """Support features and labels, and 400 others: classes are clouds that overlap."""
    draws = np.random.default_rng(seed)
    centres = draws.normal(size=(num_classes, num_features))
    labels = np.concatenate([np.arange(num_support) % num_classes, draws.integers(num_classes, size=400)])
    features = 3 + 2 * centres[labels] + 5 * draws.normal(size=(len(labels), num_features))
    features = features.astype(np.float32)
    return features[:num_support], labels[:num_support], features[num_support:], labels[num_support:]


@pytest.mark.parametrize("l2", [L2, GRID[0], GRID[-1]], ids=lambda l2: f"L2 {l2:g}")
@pytest.mark.parametrize(("support", "width"), [(90, 20), (21, 20), (20, 20), (7, 64)],
                         ids=["N > D", "N = D with the constant", "N < D by the constant", "one shot, N < D"])
def test_logits_and_predictions_are_those_of_scikit_learns_ridge(support, width, l2):
    x, labels, others, _ = problem(support, width)
    found = few_shot(x, labels, others, 7, l2=l2)

    wide, far = x.astype(np.float64), others.astype(np.float64)
    scale = wide.std(0) + 1e-5
    with_constant = [np.hstack([(each - wide.mean(0)) / scale, np.full((len(each), 1), BIAS)]) for each in (wide, far)]
    targets = np.where(labels[:, None] == np.arange(7), 1.0, -1.0)
    # Its "svd" solver, as "cholesky" forms XᵀX and loses half the digits for λ = 2^-10.
    ridge = Ridge(alpha=l2, fit_intercept=False, solver="svd").fit(with_constant[0], targets)
    expected = ridge.predict(with_constant[1])
    assert np.abs(found - expected).max() < CLOSE
    assert np.array_equal(found.argmax(1), expected.argmax(1))


def test_a_feature_that_never_varies_in_the_support_decides_nothing():
    x, labels, others, _ = problem(42, 10)
    x[:, 3] = 1.0
    assert np.isfinite(few_shot(x, labels, others, 7)).all()
    kept = np.arange(10) != 3
    without = few_shot(x[:, kept], labels, others[:, kept], 7)
    assert np.abs(few_shot(x, labels, others, 7) - without).max() < CLOSE


def test_a_class_without_support_images_is_the_constant_minus_one():
    x, labels, others, _ = problem(42, 10)
    logits = few_shot(x, labels, others, 9)
    assert np.abs(logits[:, 7:] + 1).max() < 0.01  # λ holds the bias back a little
    assert np.abs(logits[:, :7] - few_shot(x, labels, others, 7)).max() < CLOSE


def test_a_draw_has_so_many_of_each_class_and_more_shots_add_to_it():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), [30, 30, 30, 2, 30]))
    few, many = draw_shots(labels, 4, seed=1), draw_shots(labels, 10, seed=1)
    assert np.bincount(labels[few]).tolist() == [4, 4, 4, 2, 4]
    assert len(set(many.tolist())) == len(many) == 42
    assert set(few.tolist()) < set(many.tolist())
    assert set(draw_shots(labels, 4, seed=2).tolist()) != set(few.tolist())
    assert draw_shots(labels[:0], 4, seed=0).shape == (0,)


def test_accuracies_are_those_of_each_seeds_own_draw():
    x, labels, others, truth = problem(140, 12)
    found = few_shot_accuracies(x, labels, others, truth, 7, shots=5, seeds=3)
    expected = []
    for seed in range(3):
        chosen = draw_shots(labels, 5, seed)
        expected.append(100 * np.mean(few_shot(x[chosen], labels[chosen], others, 7).argmax(1) == truth))
    assert found.accuracies_percent == pytest.approx(expected)
    assert found.mean_percent == pytest.approx(np.mean(expected))
    assert found.deviation_percent == pytest.approx(np.std(expected, ddof=1))
    assert few_shot_accuracies(x, labels, others, truth, 7, shots=5, seeds=1).deviation_percent is None


def test_l2_is_the_best_on_training_images_beside_the_support():
    x, labels, *_ = problem(700, 40)
    x += 30 * x[:, :1]  # a noise that all features share: to see past it wants little λ, to bear the rest wants more
    hits = np.zeros(len(GRID))
    for seed in range(3):
        support = draw_shots(labels, 5, seed)
        held_out = np.setdiff1d(draw_shots(labels, 25, seed), support)
        for number, l2 in enumerate(GRID):
            hits[number] += np.sum(few_shot(x[support], labels[support], x[held_out], 7, l2=l2).argmax(1)
                                   == labels[held_out])
    assert hits.max() > max(hits[0], hits[-1])  # otherwise there is nothing to choose
    assert choose_l2(x, labels, 7, shots=5) == GRID[int(hits.argmax())]


def test_the_rule_of_2021_takes_the_best_mean_rank():
    accuracies = {"a": (10.0, 30.0, 20.0), "b": (70.0, 80.0, 90.0), "c": (1.0, 2.0, 2.0)}
    assert best_by_rank(accuracies, (1.0, 2.0, 4.0)) == 2.0  # ranks 1 3 2, 1 2 3, 1 2.5 2.5
    assert best_by_rank({"a": (5.0, 5.0, 5.0)}, (1.0, 2.0, 4.0)) == 1.0


def test_what_cannot_be_solved_is_one_line():
    x, labels, others, truth = problem(14, 3)
    with pytest.raises(BadSetting, match="L2 0: expected a positive number"):
        few_shot(x, labels, others, 7, l2=0)
    with pytest.raises(BadData, match="no class has more than 2 training images"):
        choose_l2(x, labels, 7, shots=2)
    with pytest.raises(BadData, match="1 of 14 images are not finite"):
        few_shot(np.where(np.arange(14)[:, None] == 4, np.nan, x), labels, others, 7)
    with pytest.raises(BadData, match="expected"):
        few_shot(x, labels[1:], others, 7)
    with pytest.raises(BadSetting, match="0 shots"):
        few_shot_accuracies(x, labels, others, truth, 7, shots=0)
    with pytest.raises(BadSetting, match="2 accuracies for the 3"):
        best_by_rank({"a": (1.0, 2.0)}, (1.0, 2.0, 4.0))
