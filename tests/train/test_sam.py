"""Sharpness-aware minimisation against the paper's equation, worked out by other means."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from allmlp.data.seeds import derived_seed
from allmlp.models.variants import create_model
from allmlp.recipe import Optimizer, Recipe
from allmlp.testing import randomise
from allmlp.train.optimizer import build_optimizer
from allmlp.train.sam import perturbed
from allmlp.train.step import take_step
from allmlp.train.supervised import Supervised

CLOSE = 1e-12  # float64, a dozen operations
CLOSE_FLOAT32 = 1e-5
RHO = 0.3


def numpy_gradient(inputs, targets, weight, bias):
    """Of mean (x·w + b - y)², by hand."""
    residual = inputs @ weight + bias - targets
    return 2 * inputs.T @ residual / len(inputs), 2 * residual.mean(0)


def test_the_second_gradient_is_that_at_the_worst_point_of_a_linear_problem():
    draws = np.random.default_rng(0)
    inputs, targets = draws.normal(size=(7, 3)), draws.normal(size=(7, 1))
    weight, bias = draws.normal(size=(3, 1)), draws.normal(size=1)
    model = nn.Linear(3, 1, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(weight.T))
        model.bias.copy_(torch.from_numpy(bias))

    def backward():
        model.zero_grad()
        (model(torch.from_numpy(inputs)) - torch.from_numpy(targets)).square().mean().backward()

    backward()
    with perturbed(model, RHO):
        backward()

    by_weight, by_bias = numpy_gradient(inputs, targets, weight, bias)
    step = RHO / np.sqrt((by_weight**2).sum() + (by_bias**2).sum())
    by_weight, by_bias = numpy_gradient(inputs, targets, weight + step * by_weight, bias + step * by_bias)
    assert np.abs(model.weight.grad.numpy().T - by_weight).max() < CLOSE
    assert np.abs(model.bias.grad.numpy() - by_bias).max() < CLOSE


def test_a_mixer_learns_as_in_two_passes_written_out():
    """The oracle: a second network that stands at w + e, and gives its gradient to the first."""
    model = create_model("mixer_p2_8", num_classes=10, seed=0).double()
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.arange(6)
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(2))  # a zero head hides all but itself
    twin = copy.deepcopy(model)

    F.cross_entropy(model(images), labels).backward()
    with perturbed(model, RHO):
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()

    weights = list(twin.parameters())
    slopes = torch.autograd.grad(F.cross_entropy(twin(images), labels), weights)
    length = torch.cat([slope.flatten() for slope in slopes]).pow(2).sum().sqrt()
    there = {name: weight + RHO * slope / length
             for (name, weight), slope in zip(twin.named_parameters(), slopes, strict=True)}
    loss = F.cross_entropy(torch.func.functional_call(twin, there, images), labels)
    for (name, parameter), expected in zip(model.named_parameters(), torch.autograd.grad(loss, list(there.values())),
                                           strict=True):
        assert (parameter.grad - expected).abs().max() < CLOSE, name


def test_a_step_draws_the_same_depth_in_both_passes():
    """Against a loop written out, in which half of the branches are dropped, alike in both passes."""
    recipe = Recipe(name="sam", model="mixer_p2_8", stochastic_depth=0.5, optimizer=Optimizer(
        name="sgd", learning_rate=0.1, momentum=0, weight_decay=0, clip_norm=None, sam_rho=RHO))
    model = create_model(recipe.model, num_classes=10, stochastic_depth=0.5, seed=0).train()
    randomise(model)
    twin = copy.deepcopy(model)
    pixels, targets = torch.rand(6, 3, 8, 8) * 255, F.one_hot(torch.arange(6), 10).float()
    take_step(model, Supervised(model.preprocess, F.cross_entropy), build_optimizer(model, recipe.optimizer), pixels,
              targets, recipe, step=3)

    weights = dict(twin.named_parameters())

    def slopes(there):
        torch.manual_seed(derived_seed(recipe.seed, "depth", 3, 0))
        logits = torch.func.functional_call(twin, there, (pixels / 255 - 0.5) / 0.5)
        return torch.autograd.grad(F.cross_entropy(logits, targets), list(there.values()))

    first = slopes(weights)
    length = torch.cat([slope.flatten() for slope in first]).norm()
    there = {name: (weight + RHO * slope / length).detach().requires_grad_()
             for (name, weight), slope in zip(weights.items(), first, strict=True)}
    for (name, weight), slope, found in zip(weights.items(), slopes(there), model.parameters(), strict=True):
        assert (found - (weight - 0.1 * slope)).abs().max() < CLOSE_FLOAT32, name


@pytest.mark.parametrize("fails", [False, True])
def test_weights_come_back_bit_for_bit(fails):
    model = create_model("mixer_p2_8", num_classes=10, seed=0)
    model.stem.requires_grad_(False)
    nn.init.normal_(model.head.weight)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model(torch.randn(4, 3, 8, 8)).square().sum().backward()
    try:
        with perturbed(model, RHO):
            moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
            assert moved == {name for name in before if not name.startswith("stem")}
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_without_a_slope_nothing_moves():
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    (model(torch.zeros(1, 2)).sum() * 0).backward()
    with perturbed(model, RHO):
        assert torch.equal(model.weight, before)
