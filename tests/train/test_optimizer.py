"""What is decayed, and the learning rate at each step, against the formulas written out."""

import math

import pytest
import torch

from allmlp.errors import BadSetting
from allmlp.models.variants import VARIANTS, create_model
from allmlp.recipe import Optimizer, Schedule
from allmlp.train.optimizer import build_optimizer, learning_rate_factor, parameter_groups, set_rates, total_steps


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


def test_timms_rule_of_dimensions_decays_resmlps_aff_too():
    """timm's own grouping, as DeiT's trainer calls it, agrees parameter by parameter."""
    from timm.optim import param_groups_weight_decay

    model = create_model("resmlp_p2_8", num_classes=10)
    undecayed, decayed = param_groups_weight_decay(model, 0.2)
    ours = parameter_groups(model, 0.2, "dimensions")
    assert {id(p) for p in ours[0]["params"]} == {id(p) for p in decayed["params"]}
    assert {id(p) for p in ours[1]["params"]} == {id(p) for p in undecayed["params"]}
    assert id(model.norm.alpha) in {id(p) for p in ours[0]["params"]}


# --- whole updates against the sources' equations in float64 ----------------------------------------------------------

UPDATE_TOLERANCE = 2e-6  # float32 steps, some tenths long in all, against float64


class TwoLayers(torch.nn.Module):
    """A kernel and a bias, which is not decayed."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(5, 3)


def updates(settings: Optimizer, schedule: Schedule, steps: int = 12) -> tuple[list[dict], list[dict], list[float]]:
    """Our weights after each step, the gradients (drawn, float64) they were given, and the factors of the rate."""
    torch.manual_seed(0)
    model = TwoLayers()
    optimizer = build_optimizer(model, settings)
    generator = torch.Generator().manual_seed(1)
    weights = [{name: p.detach().double().clone() for name, p in model.named_parameters()}]
    gradients, factors = [], []
    for step in range(steps):
        drawn = {name: torch.randn(p.shape, generator=generator) * 3 for name, p in model.named_parameters()}
        for name, p in model.named_parameters():
            p.grad = drawn[name].clone()
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        factors.append(set_rates(optimizer, settings, schedule, step, 4) / settings.learning_rate)
        optimizer.step()
        weights.append({name: p.detach().double().clone() for name, p in model.named_parameters()})
        gradients.append({name: g.double() for name, g in drawn.items()})
    return weights, gradients, factors


def clipped(gradients: dict, norm: float) -> dict:
    """optax.clip_by_global_norm."""
    total = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
    return {name: g * min(1.0, norm / total) for name, g in gradients.items()}


@pytest.mark.parametrize("semantics,decay", [("schedule", 0.05), ("lr", 0.5)])
def test_adam_is_optaxs_chain_of_clipping_moments_rate_decay_and_schedule(semantics, decay):
    """big_vision's optax chain: clip -> scale_by_adam -> times lr -> + wd · kernel -> times schedule -> negate. With
    "lr" the decay is multiplied by the rate as well. epsilon stands outside the root, after the bias corrections."""
    settings = Optimizer(learning_rate=0.02, weight_decay=decay, decay_semantics=semantics, epsilon=1e-3, clip_norm=1.0)
    schedule = Schedule(epochs=3, warmup_steps=4, decay="linear", final_factor=1e-5, rule="google")
    weights, gradients, factors = updates(settings, schedule)
    first = {name: torch.zeros_like(w) for name, w in weights[0].items()}
    second = {name: torch.zeros_like(w) for name, w in weights[0].items()}
    expected = dict(weights[0])
    for step, given in enumerate(gradients):
        factor = min(1.0, step / 4) * (1e-5 + (1 - 1e-5) * (1 - max(0.0, (step - 4) / 8)))
        assert factors[step] == pytest.approx(factor, abs=1e-12)
        for name, g in clipped(given, 1.0).items():
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            adam = (first[name] / (1 - 0.9 ** (step + 1))) / ((second[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-3)
            kernel = decay * expected[name] if name.endswith("weight") else 0.0
            rate = settings.learning_rate
            expected[name] = expected[name] - factor * (rate * adam + (rate * kernel if semantics == "lr" else kernel))
            torch.testing.assert_close(weights[step + 1][name], expected[name], rtol=0, atol=UPDATE_TOLERANCE)


def test_sgd_for_fine_tuning_adds_up_momentum_and_decays_nothing():
    """optax.trace(0.9): m <- g + 0.9 m; the weights lose rate · m, clipped at global norm 1, warmed up, then cosine."""
    settings = Optimizer(name="sgd", learning_rate=0.03, weight_decay=0.0, momentum=0.9, clip_norm=1.0)
    weights, gradients, factors = updates(settings, Schedule(steps=12, warmup_steps=3, rule="google"))
    expected, trace = dict(weights[0]), {name: torch.zeros_like(w) for name, w in weights[0].items()}
    for step, given in enumerate(gradients):
        factor = min(1.0, step / 3) * 0.5 * (1 + math.cos(math.pi * max(0.0, (step - 3) / 9)))
        assert factors[step] == pytest.approx(factor, abs=1e-12)
        for name, g in clipped(given, 1.0).items():
            trace[name] = g + 0.9 * trace[name]
            expected[name] = expected[name] - 0.03 * factor * trace[name]
            torch.testing.assert_close(weights[step + 1][name], expected[name], rtol=0, atol=UPDATE_TOLERANCE)


def test_lamb_takes_steps_as_long_as_the_kernel_and_leaves_undecayed_ones_to_adam():
    """LAMB (arXiv 1904.00962, Alg. 2) as timm writes it: decay inside the step, whose norm becomes rate · |kernel|;
    what is not decayed takes Adam's own step."""
    settings = Optimizer(name="lamb", learning_rate=5e-3, weight_decay=0.2, epsilon=1e-6, clip_norm=1.0)
    weights, gradients, factors = updates(settings, Schedule(epochs=3, warmup_epochs=1, warmup_factor=2e-4,
                                                             final_factor=2e-3, rule="timm"))
    first = {name: torch.zeros_like(w) for name, w in weights[0].items()}
    second = {name: torch.zeros_like(w) for name, w in weights[0].items()}
    expected = dict(weights[0])
    for step, given in enumerate(gradients):
        for name, g in clipped(given, 1.0).items():
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            update = first[name] / (1 - 0.9 ** (step + 1)) / ((second[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-6)
            if name.endswith("weight"):
                update = update + 0.2 * expected[name]
                update = update * expected[name].norm() / update.norm()
            expected[name] = expected[name] - 5e-3 * factors[step] * update
            torch.testing.assert_close(weights[step + 1][name], expected[name], rtol=0, atol=UPDATE_TOLERANCE)


# --- the sources' schedules -------------------------------------------------------------------------------------------


def test_deits_schedule_is_timms_cosine_at_each_step():
    """timm's CosineLRScheduler with DeiT's arguments, asked at fractions of epochs: warm-up from 1e-6, then the cosine
    over all 400 epochs, as if there had been no warm-up, towards 1e-5."""
    from timm.scheduler import CosineLRScheduler

    peak = 5e-3
    scheduler = CosineLRScheduler(torch.optim.SGD([torch.zeros(1)], lr=peak), t_initial=400, lr_min=1e-5, warmup_t=5,
                                  warmup_lr_init=1e-6)
    schedule = Schedule(epochs=400, warmup_epochs=5, warmup_factor=1e-6 / peak, final_factor=1e-5 / peak, rule="timm")
    for step in range(0, 4000, 7):
        expected = scheduler._get_lr(step / 10)[0]
        assert peak * learning_rate_factor(schedule, step, 10) == pytest.approx(expected, rel=1e-9)


def test_the_decay_of_kernels_may_follow_a_cosine_of_its_own():
    """dino's cosine_scheduler: final + (base - final) (1 + cos(π i / N)) / 2, for the first group only."""
    settings, schedule = Optimizer(weight_decay=0.04, weight_decay_end=0.4), Schedule(epochs=5, warmup_epochs=1)
    optimizer = build_optimizer(TwoLayers(), settings)
    for step in range(20):
        set_rates(optimizer, settings, schedule, step, 4)
        expected = 0.4 + (0.04 - 0.4) * (1 + math.cos(math.pi * step / 20)) / 2
        assert [group["weight_decay"] for group in optimizer.param_groups] == [pytest.approx(expected), 0.0]


def test_steps_stand_in_place_of_epochs():
    schedule = Schedule(steps=500, warmup_steps=100, rule="google")
    assert total_steps(schedule, 7) == total_steps(schedule, 7000) == 500
    assert learning_rate_factor(schedule, 50, 7) == 0.5
    assert schedule.for_epochs(3).steps is None
    assert total_steps(Schedule(epochs=300, warmup_steps=10_000), 313) == 93_900


def test_a_warm_up_in_steps_that_leaves_nothing_is_refused():
    with pytest.raises(BadSetting, match=r"warm-up of 10,000 steps leaves nothing of the 6,000 steps"):
        total_steps(Schedule(epochs=300, warmup_steps=10_000), 20)


def test_an_option_that_the_optimizer_could_not_keep_is_refused():
    with pytest.raises(BadSetting, match="decay_semantics 'schedule' is for adamw"):
        Optimizer(name="lamb", decay_semantics="schedule")


@pytest.mark.parametrize("supports", [(100, 200, 300, 400, 500), (500, 3000, 6000, 9000, 10_000)])
def test_a_rate_that_falls_in_steps_is_bits(supports):
    """The rule of BiT: warm up to the first support, then a tenth after each of the others."""
    warmup, *milestones, steps = supports
    schedule = Schedule(steps=steps, warmup_steps=warmup, decay="steps", milestones=tuple(milestones), rule="google")
    for step in [*range(0, steps, 37), *supports[:-1], *(support + 1 for support in supports[:-1])]:
        expected = step / warmup if step < warmup else 1.0
        for support in supports[1:]:
            expected /= 10 if warmup <= step and support < step else 1
        assert learning_rate_factor(schedule, step, steps_per_epoch=7) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("fields", [{"decay": "steps"}, {"milestones": (3,)}])
def test_steps_and_their_places_go_together(fields):
    with pytest.raises(BadSetting, match="decay 'steps' and milestones"):
        Schedule(**fields)
