"""Soft labels on their whole way: from the data set to the loss and to the measured accuracy."""

from pathlib import Path

import numpy as np
import torch

from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.data.dataset import Data, several, soft
from allmlp.data.digits import ArrayImages
from allmlp.data.loader import Loader
from allmlp.evaluate.dataset import evaluate_dataset
from allmlp.models.variants import create_model
from allmlp.preprocess import Preprocess
from allmlp.recipe import Augment, Loss
from allmlp.recipes import RECIPES
from allmlp.train import train
from allmlp.train.losses import build_loss, to_targets

SHARES = np.array([[0.7, 0.3, 0], [0, 0, 1], [0.25, 0.5, 0.25], [0, 1, 0]], np.float32)
CLASSES = ("a", "b", "c")
SAME = 1e-6  # sums of three float32 numbers


def images(count: int = 4) -> ArrayImages:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return ArrayImages(pixels, np.tile(SHARES, (count // 4, 1)), CLASSES, [str(i) for i in range(count)])


def test_soft_labels_are_neither_single_nor_several():
    assert soft(SHARES)
    assert not several(SHARES)
    assert several((SHARES > 0).astype(np.uint8))
    assert not soft(np.arange(4))
    assert not Data("x", CLASSES, {"train": images()}).multi_label


def test_batches_carry_the_shares_to_the_loss_which_is_their_cross_entropy():
    loader = Loader(images(), Preprocess(image_size=(8, 8)), Augment(), batch_size=4, seed=0)
    batch = next(iter(loader.epoch(0)))
    targets = to_targets(batch.labels, 3)
    assert np.array_equal(targets.numpy(), SHARES[batch.indices.numpy()])
    logits = np.random.default_rng(1).normal(size=(4, 3))
    softmax = build_loss(Loss(), SHARES, 3, torch.device("cpu"))
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -(targets.numpy() * np.log(chances)).sum(1).mean()
    assert abs(softmax(torch.from_numpy(logits), targets).item() - expected) < SAME
    sigmoid = build_loss(Loss(kind="sigmoid"), SHARES, 3, torch.device("cpu"))
    on, off = np.log(1 / (1 + np.exp(-logits))), np.log(1 / (1 + np.exp(logits)))
    expected = -(targets.numpy() * on + (1 - targets.numpy()) * off).sum(1).mean()
    assert abs(sigmoid(torch.from_numpy(logits), targets).item() - expected) < SAME


def test_the_class_with_the_largest_share_counts_as_right_and_this_is_said():
    predictor = PyTorchPredictor(create_model("mixer_p2_8", image_size=8, classes=CLASSES))
    found = evaluate_dataset(predictor, images())
    assert found.labels.tolist() == [0, 2, 1, 1]
    right = (found.logits.argmax(1) == found.labels).mean()
    assert abs(found.score_percent - 100 * right) < SAME
    assert "soft labels" in found.note


def test_a_network_is_trained_on_soft_labels(tmp_path: Path):
    recipe = RECIPES["digits"]
    recipe = recipe.with_(data="soft", batch_size=8, schedule=recipe.schedule.with_(epochs=1, warmup_epochs=0.0))
    result = train(recipe, Data("soft", CLASSES, {"train": images(16), "val": images()}), tmp_path / "run")
    assert result.summary["splits"]["val"]["score_name"] == "accuracy"
