"""Stochastic depth: three published ways to spread the rate over the network, and what dropping a branch means."""

from itertools import chain

import pytest
import torch

from allmlp.models.layers import DropPath, StochasticDepth
from allmlp.models.model import build
from allmlp.testing import randomise


def test_the_papers_rule_rises_from_the_first_mlp_to_the_last():
    """MLP-Mixer appendix B: linearly from 0 for the first MLP to the rate for the last; here 6 MLPs in 3 blocks."""
    rates = StochasticDepth(rate=0.1, rule="mlp").rates([2, 2, 2])
    assert rates == [pytest.approx([0.0, 0.02]), pytest.approx([0.04, 0.06]), pytest.approx([0.08, 0.1])]


def test_big_visions_rule_rises_from_the_first_block_to_the_last():
    rates = StochasticDepth(rate=0.1, rule="block").rates([2, 2, 2])
    assert rates == [pytest.approx([0.0, 0.0]), pytest.approx([0.05, 0.05]), pytest.approx([0.1, 0.1])]


def test_timms_and_deits_rule_is_one_rate():
    assert StochasticDepth(rate=0.1, rule="constant").rates([2, 2, 2]) == [[0.1, 0.1]] * 3


@pytest.mark.parametrize("rule", ["mlp", "block", "constant"])
def test_blocks_may_differ_in_branches_and_the_last_gets_the_rate(rule):
    rates = StochasticDepth(rate=0.4, rule=rule).rates([2, 1, 2, 1])
    assert [len(block) for block in rates] == [2, 1, 2, 1]
    assert rates[-1][-1] == pytest.approx(0.4)
    if rule == "mlp":
        assert [*chain(*rates)] == pytest.approx([0.4 * i / 5 for i in range(6)])


@pytest.mark.parametrize(("rule", "rates"), [("mlp", [0.0, 0.3]), ("block", [0.0, 0.0]), ("constant", [0.3, 0.3])])
def test_a_single_block_is_no_division_by_zero(rule, rates):
    assert StochasticDepth(rate=0.3, rule=rule).rates([2]) == [rates]


def test_the_network_hands_each_branch_its_rate(config):
    depth = StochasticDepth(rate=0.3, rule="mlp", rescale=False)
    model = build(config.with_(stochastic_depth=depth))
    paths = [module for module in model.modules() if isinstance(module, DropPath)]
    assert [path.rate for path in paths] == [*chain(*depth.rates([layer.branches for layer in config.layers]))]
    assert not any(path.rescale for path in paths)


# --- one branch ------------------------------------------------------------------------------------------------------

MANY = 20_000  # images: the share that is dropped is within 4 sigma = 4·√(0.3·0.7/20000) = 0.013 of the rate
CLOSE = 0.013


@pytest.mark.parametrize("rescale", [True, False])
def test_a_training_branch_is_dropped_for_whole_images_at_the_rate(rescale):
    out = DropPath(0.3, rescale).train()(torch.ones(MANY, 2, 3)).flatten(1)
    assert (out == out[:, :1]).all()
    kept = torch.tensor(1 / 0.7 if rescale else 1.0)
    assert set(out.unique().tolist()) == {0.0, kept.item()}
    assert (out[:, 0] == 0).float().mean().item() == pytest.approx(0.3, abs=CLOSE)


@pytest.mark.parametrize(("rescale", "mean"), [(True, 1.0), (False, 0.7)])
def test_rescaling_keeps_the_mean_and_its_absence_does_not(rescale, mean):
    """timm and DeiT divide by 1 - rate; big_vision does not, in training or at test time."""
    out = DropPath(0.3, rescale).train()(torch.ones(MANY, 1, 1))
    assert out.mean().item() == pytest.approx(mean, abs=CLOSE / 0.7)


@pytest.mark.parametrize("rescale", [True, False])
def test_in_evaluation_nothing_is_dropped_or_scaled(rescale):
    x = torch.randn(5, 2, 3)
    assert DropPath(0.9, rescale).eval()(x) is x
    assert DropPath(0.0, rescale).train()(x) is x


@pytest.mark.parametrize("config", ["mixer", "resmlp"], indirect=True)
def test_the_two_branches_of_a_block_draw_on_their_own(config):
    """Which images lose the first branch says nothing about which lose the second: all four cases, a quarter each."""
    model = build(config.with_(stochastic_depth=StochasticDepth(rate=0.5)))
    block = model.blocks[0].train()
    masks = [path(torch.ones(MANY, 1, 1)).flatten() > 0 for path in (block.drop_path1, block.drop_path2)]
    for first in (True, False):
        for second in (True, False):
            share = ((masks[0] == first) & (masks[1] == second)).float().mean().item()
            assert share == pytest.approx(0.25, abs=CLOSE)


def test_an_image_that_loses_every_branch_keeps_its_tokens(config, images):
    """Residuals stay: what is dropped is the branch."""
    model = build(config)
    randomise(model)
    for module in model.modules():
        if isinstance(module, DropPath):
            module.rate, module.rescale = 1.0, False
    tokens = model.train().stem(images)
    assert model.forward_features(images).equal(model.norm(tokens))
    assert not model.eval().forward_features(images).equal(model.norm(tokens))


def test_a_networks_evaluation_does_not_depend_on_the_rate(config, images):
    model = build(config.with_(stochastic_depth=StochasticDepth(rate=0.5)))
    plain = build(config)
    randomise(model)
    randomise(plain)
    assert model.eval()(images).equal(plain.eval()(images))
    assert not model.train()(images).equal(plain(images))
