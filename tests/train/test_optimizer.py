"""What is decayed, and the learning rate at each step, against the formulas written out."""

import math

import pytest
import torch

from allmlp.models.variants import VARIANTS, create_model
from allmlp.recipe import Optimizer, Schedule
from allmlp.train.optimizer import build_optimizer, learning_rate_factor, parameter_groups, total_steps


@pytest.mark.parametrize("name", ["mixer_p2_8", "resmlp_p2_8", "gmlp_p2_8"])
def test_kernels_are_decayed_and_nothing_else(name):
    model = create_model(name, num_classes=10)
    decayed, rest = parameter_groups(model, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed_names = {names[id(p)] for p in decayed["params"]}
    rest_names = {names[id(p)] for p in rest["params"]}
    assert decayed_names | rest_names == set(names.values())
    assert not decayed_names & rest_names
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    kernels = {name for name in names.values() if name.endswith(
        ("proj.weight", "fc1.weight", "fc2.weight", "linear_tokens.weight", "head.weight"))}
    assert decayed_names == kernels
    assert all(name.endswith(("bias", "norm.weight", "norm1.weight", "norm2.weight", "alpha", "beta", "ls1", "ls2"))
               for name in rest_names)


def test_frozen_parameters_are_left_out():
    model = create_model("mixer_p2_8", num_classes=10).requires_grad_(False)
    model.head.requires_grad_(True)
    assert [len(group["params"]) for group in parameter_groups(model, 0.1)] == [1, 1]


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup_epochs,final", [(0, 0.0), (2, 0.0), (2.5, 0.1)])
def test_the_learning_rate_follows_the_formula(decay, warmup_epochs, final):
    per_epoch, epochs = 10, 8
    schedule = Schedule(epochs=epochs, warmup_epochs=warmup_epochs, decay=decay, final_factor=final)
    warmup, total = int(warmup_epochs * per_epoch), epochs * per_epoch
    for step in range(total):
        if step < warmup:
            expected = (step + 1) / warmup
        else:
            t = (step - warmup) / (total - warmup - 1)
            shape = {"cosine": 0.5 * (1 + math.cos(math.pi * t)), "linear": 1 - t, "constant": 1.0}[decay]
            expected = shape if decay == "constant" else final + (1 - final) * shape
        assert learning_rate_factor(schedule, step, per_epoch) == pytest.approx(expected, abs=1e-12)


def test_a_run_has_at_least_one_step_and_may_end_inside_an_epoch():
    assert total_steps(Schedule(epochs=0.01, warmup_epochs=0), 12) == 1
    assert total_steps(Schedule(epochs=1.5, warmup_epochs=0), 12) == 18


def test_adamw_decays_by_learning_rate_times_weight_decay():
    """One step with zero gradients multiplies kernels by 1 - lr·wd and leaves the rest."""
    model = create_model("mixer_p2_8", num_classes=10, seed=0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, Optimizer(learning_rate=0.1, weight_decay=0.3))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 1 - 0.1 * 0.3 if parameter.ndim >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "lamb"])
def test_every_optimizer_lowers_a_loss(name):
    model = create_model("mixer_p2_8", num_classes=10, seed=0)
    images, target = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 10
    optimizer = build_optimizer(model, Optimizer(name=name, learning_rate={"sgd": 0.05, "lamb": 1e-2}.get(name, 3e-3)))
    losses = []
    for _ in range(10):
        loss = torch.nn.functional.cross_entropy(model(images), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


def test_every_family_is_tried():
    assert {name.split("_")[0] for name in VARIANTS} == {"mixer", "gmixer", "resmlp", "gmlp"}
