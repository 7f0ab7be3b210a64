"""Losses of label maps against their formulas written out."""

import numpy as np
import pytest
import torch

from allmlp.train.pixel_losses import cross_entropy, dice

RANDOM = np.random.default_rng(0)
LOGITS = torch.tensor(RANDOM.normal(size=(3, 4, 5, 6)))
MAPS = RANDOM.integers(0, 3, (3, 5, 6)).astype(np.uint8)
MAPS[RANDOM.random(MAPS.shape) < 0.2] = 255
MAPS[2] = 255  # an image without any pixel to learn from
SAID = torch.softmax(LOGITS, 1).numpy()


def test_cross_entropy_is_the_mean_over_all_pixels_of_those_that_count():
    total = sum(-np.log(SAID[n, MAPS[n, y, x], y, x]) for n, y, x in np.argwhere(MAPS != 255))
    assert float(cross_entropy(LOGITS, torch.tensor(MAPS))) == pytest.approx(total / MAPS.size)


def test_dice_is_the_mean_over_images_of_the_classes_that_they_have():
    each = []
    for said, labels in zip(SAID, MAPS, strict=True):
        counted = labels != 255
        overlaps = [2 * said[k][labels == k].sum() / (said[k][counted].sum() + (labels == k).sum())
                    for k in range(4) if (labels == k).any()]
        each.append(1 - np.mean(overlaps) if overlaps else 0)
    assert float(dice(LOGITS, torch.tensor(MAPS))) == pytest.approx(np.mean(each))


@pytest.mark.parametrize("loss", [cross_entropy, dice])
def test_parts_of_a_batch_add_up_to_the_batch(loss):
    maps = torch.tensor(MAPS)
    parts = sum(loss(LOGITS[n : n + 1], maps[n : n + 1]) for n in range(3)) / 3
    assert float(loss(LOGITS, maps)) == pytest.approx(float(parts))


@pytest.mark.parametrize("loss", [cross_entropy, dice])
def test_ignored_pixels_have_no_gradient(loss):
    logits = LOGITS.clone().requires_grad_()
    loss(logits, torch.tensor(MAPS)).backward()
    assert logits.grad is not None
    ignored = torch.tensor(MAPS == 255).unsqueeze(1).expand_as(LOGITS)
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).any()
