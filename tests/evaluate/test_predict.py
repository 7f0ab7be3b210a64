"""Logits of a whole data set, through the real network and the real loader."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

import allmlp
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.evaluate import classification_metrics, evaluate_dataset, multilabel_metrics, predict_dataset
from allmlp.preprocess import fit

EQUAL = 1e-5  # absolute: the same network on batches of another size


@dataclass
class Shapes:
    """Random images of several sizes."""

    images: Sequence[np.ndarray]
    labels: np.ndarray
    classes: Sequence[str] = ("a", "b", "c")

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def name(self, index: int) -> str:
        return f"shapes/{index}"


def shapes(count: int) -> Shapes:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (8 + i % 3, 8 + i % 2, 3), np.uint8) for i in range(count)]
    return Shapes(images, np.arange(count) % 3)


@pytest.fixture(scope="module")
def predictor() -> PyTorchPredictor:
    return PyTorchPredictor(allmlp.create_model("mixer_p2_8", classes=("a", "b", "c"), seed=0))


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
def test_logits_come_in_the_order_of_the_data_set_whatever_the_batch_size(predictor, count):
    dataset = shapes(count)
    calls = []
    logits = predict_dataset(predictor, dataset, batch_size=4, progress=lambda *done: calls.append(done))
    one_by_one = [predictor(fit(dataset.image(i), predictor.preprocess)[None]) for i in range(count)]
    np.testing.assert_allclose(logits, np.concatenate([np.empty((0, 3)), *one_by_one]), atol=EQUAL)
    assert logits.dtype == np.float32
    assert calls == [(min(done + 4, count), count) for done in range(0, count, 4)]
    assert classification_metrics(logits, dataset.labels, dataset.classes).count == count


def test_evaluation_matches_classes_by_name(predictor):
    dataset = shapes(9)
    renumbered = Shapes(dataset.images, dataset.labels, ("c", "a", "b"))
    logits = predict_dataset(predictor, dataset)
    evaluation = evaluate_dataset(predictor, renumbered)
    np.testing.assert_array_equal(evaluation.labels, [(label + 2) % 3 for label in dataset.labels])
    np.testing.assert_allclose(evaluation.logits, logits, atol=EQUAL)
    assert evaluation.metrics == classification_metrics(evaluation.logits, evaluation.labels, ("a", "b", "c"))
    assert evaluation.score_percent == pytest.approx(100 * (logits.argmax(1) == evaluation.labels).mean())
    assert evaluation.score_name == "accuracy"
    assert evaluation.note is not None


def test_evaluation_of_several_labels_per_image_scores_mean_average_precision(predictor):
    labels = np.eye(3, dtype=np.uint8)[[0, 1, 2, 0]] | np.eye(3, dtype=np.uint8)[[1, 1, 0, 0]]
    evaluation = evaluate_dataset(predictor, Shapes(shapes(4).images, labels))
    assert evaluation.metrics == multilabel_metrics(evaluation.logits, labels, ("a", "b", "c"))
    assert evaluation.score_name == "mAP"
    assert evaluation.score_percent is not None
