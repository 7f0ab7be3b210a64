"""Receptive fields, skip ratios and reach of token mixing, on our networks and timm's, each against the plain way."""

import numpy as np
import pytest
import timm
import torch

from allmlp.errors import BadSetting, UnknownName
from allmlp.inspection.branches import skip_ratios
from allmlp.inspection.mixing_distance import distances, mixing_distances, mixing_strength, uniform_distance
from allmlp.inspection.outputs import as_tokens, layer_names, layer_outputs
from allmlp.inspection.receptive_field import mean_distance, receptive_field
from allmlp.models.variants import create_model

CLOSE = 1e-5


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def small(name: str):
    return create_model(name, num_classes=10, seed=0)


def resnet():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=5).eval()


def vit():
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=5, img_size=32).eval()


def test_the_layers_of_a_network_are_found_in_order():
    mixer = small("mixer_p2_8")
    blocks = [f"blocks.{i}" for i in range(mixer.config.depth)]
    assert layer_names(mixer) == ["stem.proj", *blocks, "norm"]
    inside = layer_names(mixer, "all")
    assert [name for name in inside if name.startswith("blocks.0")] == [
        f"blocks.0{part}" for part in (".norm1", ".mlp_tokens.fc1", ".mlp_tokens.act", ".mlp_tokens.fc2", ".norm2",
                                       ".mlp_channels.fc1", ".mlp_channels.act", ".mlp_channels.fc2", "")]
    assert layer_names(resnet())[-1] == "layer4.0"
    assert {"patch_embed.proj", "blocks.0", "norm"} <= set(layer_names(vit()))


def test_hooks_give_what_the_network_itself_says(images):
    mixer = small("mixer_p2_8")
    names = ["stem", "blocks.1", "blocks.2.mlp_tokens.act", "norm"]
    expected = mixer.forward_intermediates(images, names)[1]
    found = layer_outputs(mixer, images, names)
    assert all(torch.equal(found[name], expected[name]) for name in names)
    with pytest.raises(UnknownName, match="block"):
        layer_outputs(mixer, images, ["block.1"])


@pytest.mark.parametrize("name", ["mixer_p2_8", "gmlp_p2_8"])
def test_a_receptive_field_is_the_jacobians(name, images):
    network = small(name)
    layer = "blocks.1"
    found = receptive_field(network, images, layer)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: network.forward_intermediates(x, [layer])[1][layer][:, 2 * 4 + 2].sum(1), images)
    expected = torch.stack([jacobian[i, i] for i in range(3)]).abs().sum(1).mean(0)  # an image moves its own token only
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_a_network_that_mixes_no_tokens_sees_its_own_patch_only(images):
    network = small("mixer_p2_8")
    for block in network.blocks:
        torch.nn.init.zeros_(block.mlp_tokens.fc2.weight)
    found = receptive_field(network, images, "blocks.3")
    assert (found[4:6, 4:6] > 0).all()
    found[4:6, 4:6] = 0
    assert not found.any()


def test_convolutions_see_as_far_as_they_reach():
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found = receptive_field(resnet(), x, "layer1.0")
    rows, columns = np.nonzero(found > 0)
    assert 4 < np.ptp(rows) + 1 < 64
    assert mean_distance(found, (rows.mean(), columns.mean())) < 16


def test_a_distance_is_the_mean_over_the_field():
    field = np.zeros((3, 5))
    field[1, 2], field[1, 4], field[0, 2] = 2, 1, 1
    assert mean_distance(field, (1, 2)) == pytest.approx((2 + 1) / 4)


@pytest.mark.parametrize("name", ["mixer_p2_8", "resmlp_p2_8", "gmlp_p2_8"])
def test_skip_ratios_are_lengths_before_over_lengths_added(name, images):
    network = small(name)
    found = skip_ratios(network, images)
    with torch.no_grad():
        x, expected = network.stem(images), []
        for block in network.blocks:
            after = block(x)
            if len(found) == len(network.blocks):  # one branch
                expected.append((x, after - x))
            else:
                branch = (block.mlp_tokens if name.startswith("mixer") else block.linear_tokens)(
                    block.norm1(x).transpose(1, 2)).transpose(1, 2)
                middle = x + (branch if name.startswith("mixer") else block.ls1 * branch)
                expected += [(x, middle - x), (middle, after - middle)]
            x = after
    assert [branch.name for branch in found][:2] == (["blocks.0 (1)", "blocks.1 (1)"] if name.startswith("gmlp")
                                                     else ["blocks.0 (1)", "blocks.0 (2)"])
    for branch, (z, f) in zip(found, expected, strict=True):
        assert np.allclose(branch.ratio, (z.norm(dim=2) / f.norm(dim=2)).mean(0), rtol=1e-3)


def test_skip_ratios_of_timms_networks():
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    found = skip_ratios(vit(), x)
    assert len(found) == 2 * len(vit().blocks)
    network = resnet()
    found = skip_ratios(network, x)
    block = network.layer2[0]
    outputs = layer_outputs(network, x, ["layer1.0", "layer2.0"])
    with torch.no_grad():
        z = block.downsample(outputs["layer1.0"])
        f = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(outputs["layer1.0"])))))
        if hasattr(block, "bn3"):
            f = block.bn3(block.conv3(block.act2(f)))
    expected = (as_tokens(z).norm(dim=2) / as_tokens(f).norm(dim=2)).mean(0)
    assert np.allclose(found[1].ratio, expected, rtol=1e-4)
    assert torch.allclose(torch.relu(z + f), outputs["layer2.0"], atol=CLOSE)


def test_blocks_of_another_make_are_refused():
    with pytest.raises(BadSetting, match="branches are not known"):
        skip_ratios(timm.create_model("test_efficientnet"), torch.zeros(1, 3, 32, 32))


def test_the_reach_of_token_mixing_by_loops():
    network = small("mixer_p2_8")
    apart = distances((4, 4), (2, 2))
    assert apart[0, 5] == pytest.approx(np.hypot(2, 2))
    block = network.blocks[1]
    first, second = block.mlp_tokens.fc1.weight.detach().abs(), block.mlp_tokens.fc2.weight.detach().abs()
    strength = mixing_strength(block)
    assert strength[3, 7] == pytest.approx(float(sum(second[3, h] * first[h, 7] for h in range(len(first)))), rel=1e-5)
    mean = np.mean([sum(strength[p, q] * apart[p, q] for q in range(16)) / sum(strength[p]) for p in range(16)])
    assert mixing_distances(network)[1] == pytest.approx(mean, rel=1e-5)


def test_tokens_that_read_themselves_have_no_distance_and_equal_weights_the_uniform_one():
    network = small("resmlp_p2_8")
    with torch.no_grad():
        torch.nn.init.eye_(network.blocks[0].linear_tokens.weight)
        network.blocks[1].linear_tokens.weight.fill_(-0.3)
    found = mixing_distances(network)
    assert found[0] == 0
    assert found[1] == pytest.approx(uniform_distance((4, 4), (2, 2)), rel=1e-6)


def test_what_has_no_positions_or_grid_is_said(images):
    network = small("mixer_p2_8")
    with pytest.raises(BadSetting, match="no positions"):
        as_tokens(torch.zeros(2, 5))
    with pytest.raises(BadSetting, match="3 x 5"):
        receptive_field(network, images, "norm", grid=(3, 5))
