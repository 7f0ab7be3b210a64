"""The losses against their definitions in numpy, float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allmlp.errors import BadSetting
from allmlp.recipe import Loss
from allmlp.train.ema import Ema
from allmlp.train.losses import build_loss, to_targets

CPU = torch.device("cpu")
TOLERANCE = 1e-5  # float32 against float64


def draw(seed: int, classes: int = 5, count: int = 7):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (count, classes))
    targets = rng.dirichlet(np.ones(classes), count)
    return logits, targets


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), smoothing=st.floats(0, 0.9))
def test_softmax_is_the_cross_entropy_with_smoothed_targets(seed, smoothing):
    logits, targets = draw(seed)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    smooth = targets * (1 - smoothing) + smoothing / 5
    expected = -(smooth * log_p).sum(1).mean()
    loss = build_loss(Loss(label_smoothing=smoothing), np.arange(5), 5, CPU)
    got = loss(torch.tensor(logits, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32))
    assert got.item() == pytest.approx(expected, rel=TOLERANCE)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), smoothing=st.floats(0, 0.9))
def test_sigmoid_is_summed_over_classes_and_averaged_over_images(seed, smoothing):
    logits, targets = draw(seed)
    p = 1 / (1 + np.exp(-logits))
    smooth = targets * (1 - smoothing) + smoothing / 2
    expected = -(smooth * np.log(p) + (1 - smooth) * np.log(1 - p)).sum(1).mean()
    loss = build_loss(Loss(kind="sigmoid", label_smoothing=smoothing), np.arange(5), 5, CPU)
    got = loss(torch.tensor(logits, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32))
    assert got.item() == pytest.approx(expected, rel=TOLERANCE)


def test_balanced_weights_make_every_class_count_the_same():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    loss = build_loss(Loss(class_weights="balanced"), labels, 3, CPU)
    logits = torch.zeros(10, 3)
    shares = []
    for k in range(3):
        targets = to_targets(torch.tensor(labels), 3) * torch.tensor(labels == k)[:, None]
        shares.append(loss(logits, targets).item())
    assert shares == pytest.approx([shares[0]] * 3)


def test_balanced_sigmoid_weighs_positives_by_negatives_per_positive():
    labels = np.array([[1, 0], [1, 1], [1, 0], [0, 0]], np.uint8)
    loss = build_loss(Loss(kind="sigmoid", class_weights="balanced"), labels, 2, CPU)
    got = loss(torch.zeros(4, 2), torch.tensor(labels).float()).item()
    log2 = np.log(2)
    expected = (3 * (1 / 3) * log2 + 1 * log2 + 1 * 3 * log2 + 3 * log2) / 4  # class 0: 1 per 3, class 1: 3 per 1
    assert got == pytest.approx(expected, rel=TOLERANCE)


def test_several_labels_cannot_be_learnt_with_softmax():
    with pytest.raises(BadSetting, match="loss.kind=sigmoid"):
        build_loss(Loss(), np.zeros((4, 3), np.uint8), 3, CPU)


@pytest.mark.parametrize("warmup", [True, False])
def test_the_moving_average_follows_its_formula(warmup):
    from allmlp.models.variants import create_model

    model = create_model("mixer_p2_8", num_classes=10, seed=0)
    ema = Ema(model, 0.9, warmup)
    expected = {name: parameter.detach().double().clone() for name, parameter in model.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    for step in range(200):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.01)
        ema.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step)) if warmup else 0.9  # without: timm's ModelEma
        for name, parameter in model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach().double()
    for name, parameter in ema.model.named_parameters():
        torch.testing.assert_close(parameter.double(), expected[name], rtol=0, atol=1e-5)
