"""Folded networks: the same logits, fewer operations, and networks like any other."""

import copy
import math
import typing
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from allmlp import checkpoint
from allmlp.errors import CannotWrite
from allmlp.models.blocks import BlockConfig
from allmlp.models.fold import FOLDS, fold, operations_saved
from allmlp.models.layers import AffineConfig, IdentityConfig, LayerNormConfig
from allmlp.models.model import build
from allmlp.models.variants import VARIANTS, create_model
from allmlp.testing import randomise
from allmlp.weights.timm import write_timm

OF_SPREAD = {torch.float64: 1e-12, torch.float32: 1e-5}  # largest difference, relative to the logits' deviation


@pytest.mark.parametrize("dtype", OF_SPREAD, ids=str)
def test_the_logits_are_the_same(model, images, dtype):
    model, images = model.to(dtype), images.to(dtype)
    with torch.no_grad():
        logits = model(images)
        assert (fold(model)(images) - logits).abs().max() <= OF_SPREAD[dtype] * logits.std()


@pytest.mark.parametrize("norm", [LayerNormConfig(), AffineConfig(), IdentityConfig()], ids=lambda norm: norm.kind)
def test_any_norm_of_a_block_can_be_folded(config, norm):
    """Every family with every norm: ResMLP with LayerNorm is in its paper (Table 3), for one."""
    model = build(config.with_(norm=norm, blocks=tuple(block.with_(norm=norm) for block in config.blocks)))
    randomise(model)
    model, images = model.double().eval(), torch.randn(2, 3, *config.image_size, dtype=torch.float64)
    with torch.no_grad():
        logits = model(images)
        assert (fold(model)(images) - logits).abs().max() <= OF_SPREAD[torch.float64] * logits.std()


@pytest.mark.parametrize("name", ["mixer_p2_8", "resmlp_p2_8", "gmlp_p2_8"])
def test_networks_of_real_depth_keep_their_logits_in_float32(name):
    """With LayerScale and gates as they start, where products of small numbers could be lost."""
    model = create_model(name, seed=0)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    images = torch.randn(8, 3, 8, 8)
    with torch.no_grad():
        logits = model(images)
        assert (fold(model)(images) - logits).abs().max() <= OF_SPREAD[torch.float32] * logits.std()


def test_without_a_head_the_features_are_the_same(config):
    """The last norm has nowhere to go and stays."""
    model = build(config.with_(num_classes=0)).double().eval()
    randomise(model)
    images = torch.randn(2, 3, *config.image_size, dtype=torch.float64)
    folded = fold(model)
    assert folded.config.norm == config.norm
    with torch.no_grad():
        assert (folded.forward_features(images) - model.forward_features(images)).abs().max() < 1e-12


# --- fewer operations ------------------------------------------------------------------------------------------------


class Operations(TorchDispatchMode):
    """Counts the elementwise multiplications and additions that run, and the numbers that biases are added to."""

    def __init__(self):
        super().__init__()
        self.total = 0
        self.kinds = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        kind = func.overloadpacket.__name__
        self.kinds[kind] += 1
        if kind in ("mul", "add", "sub"):
            self.total += out.numel()
        elif kind == "addcmul":
            self.total += 2 * out.numel()
        elif kind == "native_layer_norm":
            self.total += (args[2] is not None) * out[0].numel() + (args[3] is not None) * out[0].numel()
        elif kind in ("addmm", "convolution"):
            self.total += out.numel()  # the bias
        return out


@pytest.mark.parametrize("num_classes", [7, 0])
def test_the_operations_saved_are_those_that_no_longer_run(config, num_classes):
    config = config.with_(num_classes=num_classes)
    model = build(config).eval()
    counts = []
    for network in (model, fold(model)):
        with torch.no_grad(), Operations() as operations:
            network(torch.zeros(1, 3, *config.image_size))
        assert operations.kinds["addmm"] or operations.kinds["add"]
        counts.append(operations.total)
    assert counts[0] - counts[1] == operations_saved(config) > 0
    assert operations_saved(fold(model).config) == 0


# Counted on paper from the equations, per token and channel: ResMLP has two Affs (2 + 2) and γ2 (1) in each block,
# Mixer and gMLP one LayerNorm that folds (2), all of them the last norm (2).
PER_NUMBER = {"mixer_s16_224": (2, 8), "gmlp_s16_224": (2, 30), "resmlp_12_224": (5, 12), "resmlp_big_24_224": (5, 24)}


@pytest.mark.parametrize("name", PER_NUMBER)
def test_the_operations_saved_by_the_published_networks(name):
    per_block, depth = PER_NUMBER[name]
    config = VARIANTS[name]
    assert operations_saved(config) == (per_block * depth + 2) * math.prod(config.grid) * config.width


# --- a network like any other ----------------------------------------------------------------------------------------


def test_a_folded_network_is_saved_and_loaded(model, images, tmp_path):
    folded = fold(model)
    checkpoint.save(folded, tmp_path / "folded.safetensors")
    loaded = checkpoint.load(tmp_path / "folded.safetensors")
    assert loaded.config == folded.config
    with torch.no_grad():
        assert loaded(images).equal(folded(images))


def test_the_old_network_is_left_as_it_was(config, model):
    for network in (model, model.double()):
        before = copy.deepcopy(network.state_dict())
        folded = fold(network)
        for parameter in folded.parameters():
            parameter.detach().zero_()
        assert network.config == config
        assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())


def test_what_a_model_carries_goes_along(model):
    model.classes, model.output = tuple("abcdefg"), "sigmoid"
    folded = fold(model.bfloat16())
    assert (folded.classes, folded.output, folded.preprocess) == (model.classes, model.output, model.preprocess)
    assert {parameter.dtype for parameter in folded.parameters()} == {torch.bfloat16}


def test_folding_twice_changes_no_bit(model):
    once = fold(model)
    twice = fold(once)
    assert twice.config == once.config
    assert all(tensor.equal(once.state_dict()[name]) for name, tensor in twice.state_dict().items())


def test_no_scale_and_shift_is_left_but_where_it_must_be(config, model):
    """Mixer's norm before token mixing, the norm in gMLP's gate, and γ1 of ResMLP with its table."""
    left = {name.split(".", 2)[2] for name, _ in fold(model).named_parameters() if name.startswith("blocks")}
    left = {name for name in left if "norm" in name or name.startswith(("ls", "shift"))}
    expected = {"mixer": {"norm1.weight", "norm1.bias"}, "resmlp": {"ls1", "shift1"},
                "gmlp": {"mlp_channels.gate.norm.weight", "mlp_channels.gate.norm.bias"}}
    assert left == set().union(*(expected[block.kind] for block in config.blocks))


def test_every_kind_of_block_that_can_be_folded_has_its_fold():
    kinds = [kind for kind in typing.get_args(typing.get_args(BlockConfig)[0]) if "folded" in kind.model_fields]
    assert {kind.model_fields["kind"].default for kind in kinds} == FOLDS.keys()


def test_a_folded_network_still_learns_in_every_parameter(model, images):
    folded = fold(model).train()
    folded(images).square().sum().backward()
    assert [name for name, parameter in folded.named_parameters() if not parameter.grad.any()] == []


@pytest.mark.parametrize("config", ["mixer", "resmlp", "gmlp"], indirect=True)
def test_a_folded_network_is_not_written_in_timms_names(model, tmp_path):
    """timm has no such networks: the file would load as another one."""
    with pytest.raises(CannotWrite):
        write_timm(fold(model), tmp_path / "folded.safetensors")
