"""k-NN and linear probes on frozen features, against votes counted one by one and against a gradient that is zero."""

from dataclasses import dataclass

import numpy as np
import pytest

from allmlp.errors import BadData, BadSetting
from allmlp.evaluate import evaluate_dataset
from allmlp.evaluate.knn import knn_predictor
from allmlp.evaluate.linear import linear_probe
from allmlp.preprocess import Preprocess

CLOSE = 1e-4  # log shares and probabilities in float32
SIZE = Preprocess(image_size=(2, 3))
CLASSES = ("a", "b", "c", "d")


class Pixels:
    """Features without a network: the 18 numbers of an image, moved and divided, so that cosines differ."""

    preprocess, classes, output = SIZE, None, "softmax"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), 18).astype(np.float32) / 100 - 1


@dataclass
class Few:
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def name(self, index: int) -> str:
        return f"few/{index}"


def few(count: int, seed: int, num_classes: int = 3) -> Few:
    """Images brighter the higher their class, with noise; the last class has none."""
    draws = np.random.default_rng(seed)
    labels = np.arange(count) % num_classes
    images = 70 * labels[:, None, None, None] * np.arange(3) / 2 + draws.integers(0, 90, (count, 2, 3, 3))
    return Few(images.astype(np.uint8), labels)


def votes_one_by_one(train: np.ndarray, labels: np.ndarray, x: np.ndarray, k: int, temperature: float) -> np.ndarray:
    """Shares of the votes, `(len(x), 4)`."""
    shares = np.zeros((len(x), 4))
    for row, query in enumerate(x.astype(np.float64)):
        similar = [(float(query @ other / np.linalg.norm(query) / np.linalg.norm(other)), int(label))
                   for other, label in zip(train.astype(np.float64), labels, strict=True)]
        for similarity, label in sorted(similar, reverse=True)[:k]:
            shares[row, label] += np.exp(similarity / temperature)
    return shares / shares.sum(1, keepdims=True)


@pytest.mark.parametrize("neighbours,temperature", [(1, 0.07), (5, 0.07), (20, 0.5)])
def test_neighbours_vote_with_the_exponential_of_their_similarity(neighbours, temperature):
    train, test = few(40, seed=0), few(15, seed=1)
    logits = knn_predictor(Pixels(), train, neighbours, temperature)(test.images)
    expected = votes_one_by_one(Pixels()(train.images), train.labels, Pixels()(test.images), neighbours, temperature)
    assert logits.dtype == np.float32
    assert np.abs(np.exp(logits) - expected).max() < CLOSE


def test_a_probe_is_where_the_gradient_of_the_penalised_loss_is_zero():
    """The oracle is not another solver but the condition that defines the answer: sum of (p - y)·x = -w/C."""
    train, c = few(60, seed=2), 0.3
    predictor = linear_probe(Pixels(), train, c)
    x = Pixels()(train.images).astype(np.float64)
    standard = (x - x.mean(0)) / x.std(0)
    logits = predictor.classify(Pixels()(train.images))[:, :3]
    # Weights from logits, by solving a linear system that has more rows than unknowns.
    weight = np.linalg.lstsq(np.hstack([standard, np.ones((60, 1))]), logits, rcond=None)[0][:-1]
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    slope = standard.T @ (probabilities - np.eye(3)[train.labels]) + weight / c
    assert np.abs(slope).max() < 0.02  # of terms that sum up to 30; L-BFGS ends at a gradient of 1e-4 a sample


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("fit", [knn_predictor, linear_probe], ids=["k-NN", "linear"])
def test_a_classifier_on_features_is_a_predictor_like_any_other(fit, num_classes):
    train, test = few(40, 0, num_classes), few(18, 1, num_classes)
    found = evaluate_dataset(fit(Pixels(), train), test)
    assert found.metrics.top1_percent == 100.0
    assert found.logits.shape == (18, 4)
    assert not (found.logits.argmax(1) == 3).any()  # the class without training images
    assert fit(Pixels(), train)(test.images[:0]).shape == (0, 4)


def test_what_cannot_be_fitted_is_said_in_one_line():
    several = Few(few(4, 0).images, np.eye(4, dtype=np.uint8))
    with pytest.raises(BadSetting, match="21 neighbours: there are 20 training images"):
        knn_predictor(Pixels(), few(20, 0), 21)
    with pytest.raises(BadData, match="one class per image"):
        knn_predictor(Pixels(), several, 1)
    with pytest.raises(BadData, match="at least two"):
        linear_probe(Pixels(), few(5, 0, num_classes=1))
    with pytest.raises(BadSetting, match="C 0"):
        linear_probe(Pixels(), few(5, 0), c=0)
