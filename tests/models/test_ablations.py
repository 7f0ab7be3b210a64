"""The papers' ablations against their equations, written out over raw weights in float64, and what refuses them."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor, einsum
from torch.nn import functional as F

from allmlp import checkpoint
from allmlp.errors import BadSetting, CannotWrite
from allmlp.inspection.flops import count_macs, measure_macs, on_meta
from allmlp.models.blocks.mixer_variants import LinearPerChannel, MixerVariantConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.blocks.resmlp_ablation import ResMLPAblationConfig
from allmlp.models.config import ModelConfig
from allmlp.models.fold import fold
from allmlp.models.layers import AffineConfig, DropPath
from allmlp.models.model import build
from allmlp.models.pyramid import PyramidConfig
from allmlp.models.resize import resize
from allmlp.quantize.parts import check_supported
from allmlp.testing import check_block, randomise
from allmlp.train.optimizer import parameter_groups
from allmlp.weights.google import write_google
from allmlp.weights.timm import write_timm

ROWS, COLUMNS, WIDTH = 3, 4, 6
TOKENS = ROWS * COLUMNS
EQUAL = 1e-12  # of values near one: float64's 1e-16 times the length of the sums (up to 72), through a few layers

Weights = dict[str, Tensor]


def aff(x: Tensor, w: Weights, name: str) -> Tensor:
    return x * w[f"{name}.alpha"].flatten() + w[f"{name}.beta"].flatten()


def layer_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    return F.layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-6)


def tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def random_block(config) -> tuple[torch.nn.Module, Weights, Tensor]:
    """A block of random weights, those weights, and tokens for it."""
    block = config.build(WIDTH, (ROWS, COLUMNS), [DropPath(0, rescale=True) for _ in range(config.branches)]).double()
    randomise(block)
    return block.eval(), block.state_dict(), torch.randn(2, TOKENS, WIDTH, dtype=torch.float64)


# --- ResMLP's ablations ----------------------------------------------------------------------------------------------


def convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """3 x 3, token by token: what lies outside the grid is left out. `weight` (C, C or 1, 3, 3)."""
    y = bias.expand_as(x).clone()
    for row, column, down, right in product(range(ROWS), range(COLUMNS), range(3), range(3)):
        from_row, from_column = row + down - 1, column + right - 1
        if 0 <= from_row < ROWS and 0 <= from_column < COLUMNS:
            kernel, neighbour = weight[:, :, down, right], x[:, from_row * COLUMNS + from_column]
            own = kernel.shape[1] == 1
            y[:, row * COLUMNS + column] += neighbour * kernel[:, 0] if own else neighbour @ kernel.T
    return y


def interaction(kind: str, x: Tensor, w: Weights, act) -> Tensor:
    w = {name.removeprefix("interaction.map."): value for name, value in w.items()}
    if kind == "identity":
        return x
    if kind == "linear":
        return einsum("ts,bsc->btc", w["weight"], x) + w["bias"][:, None]
    if kind == "mlp":
        hidden = act(einsum("fs,bsc->bfc", w["fc1.weight"], x) + w["fc1.bias"][:, None])
        return einsum("tf,bfc->btc", w["fc2.weight"], hidden) + w["fc2.bias"][:, None]
    if kind == "separable":
        alone = convolved(x, w["0.weight"], w["0.bias"])
        return einsum("dc,bsc->bsd", w["1.weight"][:, :, 0, 0], alone) + w["1.bias"]
    return convolved(x, w["weight"], w["bias"])


ACTIVATIONS = {
    "erf": F.gelu,
    "tanh": tanh_gelu,
    "relu": lambda x: x * (x > 0),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "hardswish": lambda x: x * (x + 3).clamp(0, 6) / 6,
}
KINDS = ["linear", "removed", "identity", "mlp", "conv", "depthwise", "separable"]


@pytest.mark.parametrize("layer_scale", [0.1, None])
@pytest.mark.parametrize(("kind", "activation"), [*((kind, "erf") for kind in KINDS),
                                                  *(("mlp", activation) for activation in ACTIVATIONS)])
def test_resmlp_with_an_exchanged_part_is_its_equations(kind, activation, layer_scale):
    block, w, x = random_block(ResMLPAblationConfig(
        channel_hidden=10, layer_scale=layer_scale, interaction=kind, activation=activation,
        token_hidden=7 if kind == "mlp" else None))
    act = ACTIVATIONS[activation]
    one = torch.ones(WIDTH, dtype=torch.float64)
    assert ("ls2" in w) == (layer_scale is not None)
    z = x if kind == "removed" else x + w.get("ls1", one) * interaction(kind, aff(x, w, "norm1"), w, act)
    hidden = act(aff(z, w, "norm2") @ w["mlp_channels.fc1.weight"].T + w["mlp_channels.fc1.bias"])
    y = z + w.get("ls2", one) * (hidden @ w["mlp_channels.fc2.weight"].T + w["mlp_channels.fc2.bias"])
    with torch.no_grad():
        assert (block(x) - y).abs().max() < EQUAL


@pytest.mark.parametrize(("interaction", "token_hidden"), [("mlp", None), ("conv", 8)])
def test_hidden_units_are_given_for_the_mlp_and_nothing_else(interaction, token_hidden):
    with pytest.raises(BadSetting, match=f"token_hidden {token_hidden} with the interaction '{interaction}'"):
        ResMLPAblationConfig(channel_hidden=8, layer_scale=0.1, interaction=interaction, token_hidden=token_hidden)


# --- Mixer's appendix A.1 --------------------------------------------------------------------------------------------


def token_mlp(column: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    return w2 @ tanh_gelu(w1 @ column + b1) + b2


def mixed_tokens(x: Tensor, w: Weights, mixing: str, groups: int) -> Tensor:
    """Column by column, for one image `(S, C)`."""
    def mlp(prefix: str, at=()) -> list[Tensor]:
        return [w[f"mlp_tokens.{prefix}{name}"][at] for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")]

    y, columns = torch.empty_like(x), WIDTH // groups
    if mixing == "untied":
        for c in range(WIDTH):
            y[:, c] = token_mlp(x[:, c], *mlp("", c))
        return y
    for j in range(columns):
        channels = [j * groups + g for g in range(groups)]
        if mixing == "views":
            channels = [g * columns + j for g in range(groups)]
        column = torch.empty(TOKENS * groups, dtype=x.dtype)
        for s, (g, c) in product(range(TOKENS), enumerate(channels)):
            column[s * groups + g] = (x[s] @ w["mlp_tokens.views.weight"][c] + w["mlp_tokens.views.bias"][c]
                                      if mixing == "views" else x[s, c])
        out = token_mlp(column, *mlp("mlp."))
        for s, (g, c) in product(range(TOKENS), enumerate(channels)):
            y[s, c] = out[s * groups + g]
    return y


@pytest.mark.parametrize(("mixing", "groups"), [("untied", 1), *product(["grouped", "views"], [1, 2, 3, 6])])
def test_mixer_with_other_token_mixing_is_its_equations(mixing, groups):
    config = MixerVariantConfig(token_hidden=5, channel_hidden=8, mixing=mixing, groups=groups)
    block, w, x = random_block(config)
    u = x + torch.stack([mixed_tokens(image, w, mixing, groups) for image in layer_norm(x, w, "norm1")])
    hidden = tanh_gelu(layer_norm(u, w, "norm2") @ w["mlp_channels.fc1.weight"].T + w["mlp_channels.fc1.bias"])
    y = u + hidden @ w["mlp_channels.fc2.weight"].T + w["mlp_channels.fc2.bias"]
    with torch.no_grad():
        assert (block(x) - y).abs().max() < EQUAL
    if groups > 1:
        check_block(config, width=WIDTH, grid=(ROWS, COLUMNS))


def test_a_pyramid_is_its_equations_and_the_blocks_behind_it_see_fewer_tokens():
    config = PyramidConfig(token_hidden=5, channel_hidden=8, factor=(3, 2))
    block, w, x = random_block(config)
    y = layer_norm(x, w, "norm1")
    mlp = [w[f"mlp_tokens.{name}"] for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")]
    u = torch.stack([torch.stack([token_mlp(image[:, c], *mlp) for c in range(WIDTH)], dim=1) for image in y])
    hidden = tanh_gelu(layer_norm(u, w, "norm2") @ w["mlp_channels.fc1.weight"].T + w["mlp_channels.fc1.bias"])
    with torch.no_grad():
        assert (block(x) - u - hidden @ w["mlp_channels.fc2.weight"].T - w["mlp_channels.fc2.bias"]).abs().max() < EQUAL
    whole = network(blocks=(UNTIED, config, UNTIED), depth=3, global_pool="avg").config
    assert [place.grid for place in whole.places] == [(3, 4), (3, 4), (1, 2)]
    assert count_macs(whole) == measure_macs(on_meta(whole))
    assert ModelConfig.from_json(whole.to_json()) == whole
    assert all(parameter.isfinite().all() for parameter in build(whole).parameters())


def test_each_channel_of_an_untied_mixer_starts_as_a_linear_layer_of_flax_and_is_decayed():
    layer = LinearPerChannel(50, 400, 30)
    layer.init_own(torch.Generator().manual_seed(0))
    assert layer.weight.std().item() == pytest.approx(400**-0.5, rel=0.02)
    assert not layer.bias.any()
    decayed, rest = parameter_groups(layer, 0.1)
    assert [id(p) for p in decayed["params"]] == [id(layer.weight)]
    assert [id(p) for p in rest["params"]] == [id(layer.bias)]


@pytest.mark.parametrize(("build_it", "line"), [
    (lambda: MixerVariantConfig(token_hidden=4, channel_hidden=8, mixing="untied", groups=2),
     "mixer variant: 2 groups have no effect where each channel has its own token MLP"),
    (lambda: random_block(MixerVariantConfig(token_hidden=4, channel_hidden=8, mixing="grouped", groups=4)),
     "mixer variant: 4 groups for a width of 6; groups must divide it"),
    (lambda: network(blocks=(PyramidConfig(token_hidden=4, channel_hidden=8, factor=(2, 2)),)),
     "model: a pyramid with the factor 2 x 2 does not divide a grid of 3 x 4"),
])
def test_what_the_sizes_do_not_bear_is_one_line(build_it, line):
    with pytest.raises(BadSetting, match=line):
        build_it()


# --- class-MLP -------------------------------------------------------------------------------------------------------

SIZES = {"image_size": (6, 8), "patch_size": (2, 2), "width": WIDTH, "depth": 2, "num_classes": 5}
RESMLP = ResMLPConfig(channel_hidden=8, layer_scale=0.1)
CLASS_MLP = ModelConfig(**SIZES, blocks=(RESMLP,), norm=AffineConfig(), init="deit", global_pool="class_mlp")


def network(**changes):
    model = build(CLASS_MLP.with_(**changes)).eval().double()
    randomise(model)
    return model


@torch.no_grad()
def test_class_mlp_is_its_equations():
    model = network()
    w = {name.removeprefix("pool."): value for name, value in model.state_dict().items()}
    x = torch.randn(2, TOKENS, WIDTH, dtype=torch.float64)
    c = w["class_token"][0, 0].expand(2, -1)
    for prefix in ("layers.0.", "layers.1."):
        v = {name.removeprefix(prefix): value for name, value in w.items()}
        read = sum(weight * aff(token[:, None], v, "norm1")[:, 0]
                   for weight, token in zip(v["linear_tokens.weight"][0], [c, *x.unbind(1)], strict=True))
        c = c + v["ls1"] * (read + v["linear_tokens.bias"])
        hidden = F.gelu(aff(c[:, None], v, "norm2")[:, 0] @ v["mlp_channels.fc1.weight"].T
                          + v["mlp_channels.fc1.bias"])
        c = c + v["ls2"] * (hidden @ v["mlp_channels.fc2.weight"].T + v["mlp_channels.fc2.bias"])
    pooled = aff(c[:, None], w, "norm")[:, 0]
    assert (model.forward_head(x, pre_logits=True) - pooled).abs().max() < EQUAL
    logits = F.linear(pooled, w["head.weight"], w["head.bias"])
    assert (model.forward_head(x) - logits).abs().max() < EQUAL


@pytest.mark.parametrize(("depth", "average", "published"), [  # Table D.3, millions with average and with class-MLP
    (12, 15_350_872, "17.7"), (24, 30_020_680, "32.4"), (36, 44_690_488, "47.1"),
])
def test_class_mlp_adds_the_papers_parameters(depth, average, published):
    width, tokens = 384, 196
    ffn, reading = 2 * width * 4 * width + 4 * width + width, tokens + 1 + 1
    layer = ffn + reading + 2 * 2 * width + 2 * width  # two Aff, two LayerScale
    total = average + 2 * layer + width + 2 * width  # the class token and a norm
    assert f"{total / 1e6:.1f}" == published
    block = ResMLPConfig(channel_hidden=4 * width, layer_scale=0.1)
    config = ModelConfig(image_size=(224, 224), patch_size=(16, 16), width=width, depth=depth, blocks=(block,),
                         norm=AffineConfig(), global_pool="class_mlp")
    assert sum(parameter.numel() for parameter in on_meta(config).parameters()) == total
    assert count_macs(config) == measure_macs(on_meta(config))


def test_class_mlp_without_layer_scale_has_none_where_the_blocks_have_none():
    block = ResMLPAblationConfig(channel_hidden=8, layer_scale=None)
    assert {name.rpartition(".")[2] for name in network(blocks=(block,)).state_dict()}.isdisjoint({"ls1", "ls2"})
    start = build(CLASS_MLP).state_dict()
    assert (start["pool.layers.1.ls1"] == 0.1).all()
    assert (start["pool.layers.1.ls2"] == 0.1).all()


def test_class_mlp_comes_back_from_a_file_and_goes_with_its_head(tmp_path):
    model = build(CLASS_MLP).eval()
    randomise(model)
    checkpoint.save(model, tmp_path / "x.safetensors")
    loaded = checkpoint.load(tmp_path / "x.safetensors")
    images = torch.randn(2, 3, 6, 8)
    with torch.no_grad():
        assert loaded(images).equal(model(images))
    loaded.reset_classifier(3)
    assert loaded(images).shape == (2, 3)
    assert loaded.pool is not None
    loaded.reset_classifier(3, "avg")
    assert loaded.pool is None
    with pytest.raises(BadSetting, match="global_pool 'class_mlp' has weights of its own"):
        loaded.reset_classifier(3, "class_mlp")


# --- what the rest of the house makes of them ------------------------------------------------------------------------

UNTIED = MixerVariantConfig(token_hidden=5, channel_hidden=8)
CHANGES = {
    "class-MLP": {},
    "convolution": {"blocks": (ResMLPAblationConfig(channel_hidden=8, layer_scale=0.1, interaction="conv"),)},
    "untied": {"blocks": (UNTIED,), "global_pool": "avg"},
}


@pytest.mark.parametrize("name", CHANGES)
@torch.no_grad()
def test_folding_keeps_the_logits(name):
    model = network(**CHANGES[name])
    images = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    assert (fold(model)(images) - model(images)).abs().max() < EQUAL * 100  # sums of some hundred terms, in 3 layers


@pytest.mark.parametrize(("name", "line"), [
    ("class-MLP", "pools them by their mean; this network has global_pool 'class_mlp'"),
    ("convolution", "not blocks of the kind 'resmlp_ablation'; use the PyTorch backend for it, or --to onnx, in fp32"),
    ("untied", "not blocks of the kind 'mixer_variant'; use the PyTorch backend"),
])
def test_the_engine_refuses_by_name(name, line):
    with pytest.raises(BadSetting, match=line):
        check_supported(network(**CHANGES[name]))


@pytest.mark.parametrize(("name", "what"), [("class-MLP", "class-MLP pooling"),
                                            ("convolution", "'resmlp_ablation' blocks"),
                                            ("untied", "'mixer_variant' blocks")])
def test_foreign_formats_refuse_by_name(name, what, tmp_path):
    for write in (write_timm, write_google):
        with pytest.raises(CannotWrite, match=f"has no {what}; `allmlp.save` writes any network"):
            write(network(**CHANGES[name]).float(), tmp_path / "x.safetensors")


@pytest.mark.parametrize(("changes", "line"), [
    ({}, "resize knows no rule that brings class-MLP pooling from 3 x 4 to 6 x 8 tokens"),
    ({"blocks": (UNTIED.with_(mixing="views", groups=2),), "global_pool": "avg"},
     "resize knows no rule for a mixer that mixes groups of channels with its tokens"),
    ({"blocks": (PyramidConfig(token_hidden=4, channel_hidden=8, factor=(1, 2)),), "depth": 1, "global_pool": "avg"},
     "resize knows no rule for a pyramid, whose fewer tokens have no place in the image"),
])
def test_resize_refuses_what_it_has_no_rule_for(changes, line):
    with pytest.raises(BadSetting, match=line):
        resize(network(**changes), image_size=(12, 16))


@pytest.mark.parametrize("block", [UNTIED, UNTIED.with_(mixing="grouped"), ResMLPAblationConfig(
    channel_hidden=8, layer_scale=0.1, interaction="mlp", token_hidden=5)], ids=["untied", "one group", "mlp"])
@torch.no_grad()
def test_logits_of_the_enlarged_network_are_the_mean_over_the_parts(block):
    model = network(blocks=(block,), global_pool="avg")
    images = torch.randn(2, 3, 12, 16, dtype=torch.float64)
    parts = [model(images[:, :, top : top + 6, left : left + 8]) for top in (0, 6) for left in (0, 8)]
    large = resize(model, image_size=(12, 16), method="block")
    assert (large(images) - torch.stack(parts).mean(0)).abs().max() < EQUAL * 100
    assert math.isfinite(resize(model, image_size=(8, 8)).eval()(images[:, :, :8, :8]).sum())
