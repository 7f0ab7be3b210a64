"""Other blocks, stems and pyramids in the same skeleton, against timm, loops and equations written out."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import Block
from torch.nn import functional as F

from allmlp.backends import BACKENDS
from allmlp.backends import onnx as onnx_backend
from allmlp.backends.manifest import Manifest
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.checkpoint import load, save
from allmlp.errors import AllMLPError, BadData, BadSetting
from allmlp.inspection.flops import count_macs, count_parameters, measure_macs
from allmlp.models.blocks.attention import AttentionConfig
from allmlp.models.blocks.convolution import ConvolutionConfig
from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.pooling import IdentityMixingConfig, PoolingConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.blocks.shift import ShiftConfig
from allmlp.models.blocks.spach import SpachConfig
from allmlp.models.blocks.sum import SumConfig
from allmlp.models.config import ModelConfig
from allmlp.models.fold import fold
from allmlp.models.layers import DropPath, LayerNormConfig, StochasticDepth
from allmlp.models.merging import MergingConfig, WholeImageNormConfig
from allmlp.models.model import build
from allmlp.models.resize import resize
from allmlp.models.stems import ConvolutionStem, PatchStem
from allmlp.publish import save_hub
from allmlp.quantize.parts import check_supported
from allmlp.testing import randomise
from allmlp.weights.google import write_google
from allmlp.weights.timm import write_timm

EQUAL = 1e-12  # float64, sums of up to some hundred terms near one in another order
GRID, WIDTH = (3, 5), 12
MIXER = MixerConfig(token_hidden=6, channel_hidden=10)
ATTENTION = AttentionConfig(heads=3, channel_hidden=10)


def block_of(config, width=WIDTH, grid=GRID):
    """A block with random weights in float64, in evaluation mode."""
    block = config.build(width, grid, [DropPath(0.0, True) for _ in range(config.branches)]).double().eval()
    randomise(block)
    return block


def tokens(count=2, width=WIDTH, grid=GRID):
    return torch.randn(count, grid[0] * grid[1], width, dtype=torch.float64)


def network(**fields) -> ModelConfig:
    usual = {"image_size": (16, 32), "patch_size": (4, 4), "width": WIDTH, "depth": 3, "num_classes": 5,
             "blocks": (MIXER,)}
    return ModelConfig(**{**usual, **fields})


# --- blocks ----------------------------------------------------------------------------------------------------------


def test_attention_is_timms_vit_block():
    ours = block_of(AttentionConfig(heads=3, channel_hidden=4 * WIDTH))
    theirs = Block(WIDTH, num_heads=3, qkv_bias=True, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6))
    names = {name.replace("mix_tokens", "attn").replace("mlp_channels", "mlp"): tensor
             for name, tensor in ours.state_dict().items()}
    theirs.double().eval().load_state_dict(names)
    x_BSC = tokens()
    assert (ours(x_BSC) - theirs(x_BSC)).abs().max() < EQUAL


@pytest.mark.parametrize("channels", ["depthwise", "full"])
def test_a_convolution_is_the_sum_over_neighbours_on_the_grid(channels):
    block = block_of(ConvolutionConfig(channels=channels))
    weight, bias = (block.get_parameter(f"mix_tokens.module.{name}") for name in ("weight", "bias"))
    x_SC = tokens(1)[0]
    normed = F.layer_norm(x_SC, (WIDTH,), block.norm1.weight, block.norm1.bias, 1e-6).view(*GRID, WIDTH)
    expected = torch.zeros_like(normed)
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            for i in range(3):
                for j in range(3):
                    if 0 <= row + i - 1 < GRID[0] and 0 <= column + j - 1 < GRID[1]:
                        there = normed[row + i - 1, column + j - 1]
                        kernel = weight[:, :, i, j]
                        expected[row, column] += kernel[:, 0] * there if channels == "depthwise" else kernel @ there
    assert (block(x_SC[None])[0] - x_SC - (expected.view(-1, WIDTH) + bias)).abs().max() < EQUAL


def test_pooling_is_the_mean_of_the_neighbours_that_are_there_minus_the_token():
    x_BSC = tokens(1)
    mixed = block_of(PoolingConfig()).mix_tokens(x_BSC).view(*GRID, WIDTH)
    grid = x_BSC.view(*GRID, WIDTH)
    for row, column, count in ((0, 0, 4), (0, 2, 6), (1, 2, 9)):
        rows, columns = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
        near = grid[rows, columns].reshape(-1, WIDTH)
        assert len(near) == count
        assert (mixed[row, column] - (near.mean(0) - grid[row, column])).abs().max() < EQUAL


def test_a_shift_moves_a_share_of_the_channels_one_token_in_each_direction():
    x_BSC = tokens(1)
    grid = x_BSC.view(*GRID, WIDTH)
    moved = block_of(ShiftConfig(parts=6)).mix_tokens(x_BSC).view(*GRID, WIDTH)  # 12 / 6: two channels each way
    assert moved[:, :-1, 0:2].equal(grid[:, 1:, 0:2])
    assert moved[:, 1:, 2:4].equal(grid[:, :-1, 2:4])
    assert moved[:-1, :, 4:6].equal(grid[1:, :, 4:6])
    assert moved[1:, :, 6:8].equal(grid[:-1, :, 6:8])
    assert moved[..., 8:].equal(grid[..., 8:])
    assert not moved[:, -1, 0:2].any()
    assert not moved[0, :, 6:8].any()


def test_without_mixing_no_token_sees_another():
    block = block_of(IdentityMixingConfig(channel_hidden=7))
    one, other = tokens(1), tokens(1)
    other[:, 0] = one[:, 0]
    assert block(one)[:, 0].equal(block(other)[:, 0])


@pytest.mark.parametrize("learned", [False, True])
def test_a_sum_adds_what_each_block_changes_times_its_weight(learned):
    block = block_of(SumConfig(blocks=(MIXER, ATTENTION), weights=(0.25, -2.0), learned=learned))
    if learned:
        with torch.no_grad():
            block.init_own()  # where the weights start
    x_BSC = tokens()
    with torch.no_grad():
        one, other = (inner(x_BSC) - x_BSC for inner in block.blocks)
        assert (block(x_BSC) - (x_BSC + 0.25 * one - 2 * other)).abs().max() < EQUAL


def test_a_sum_without_weights_is_the_mean_of_its_blocks():
    block = block_of(SumConfig(blocks=(MIXER, ATTENTION)))
    x_BSC = tokens()
    assert (block(x_BSC) - (block.blocks[0](x_BSC) + block.blocks[1](x_BSC)) / 2).abs().max() < EQUAL


# --- stems -----------------------------------------------------------------------------------------------------------


def test_a_network_without_a_stem_of_its_own_is_written_as_ever():
    assert "stem" not in network().to_json()
    assert ModelConfig.from_json(network().to_json()).stem == PatchStem()


def test_an_overlapping_patch_sees_its_own_pixels_and_those_around():
    model = build(network(stem=PatchStem(overlap=2))).double()
    image = torch.zeros(1, 3, 16, 32, dtype=torch.float64)
    seen = []
    for column in range(32):
        lit = image.clone()
        lit[..., column] = 1
        change = (model.stem(lit) - model.stem(image)).abs().sum(2).view(4, 8).sum(0)
        seen.append(set(change.nonzero().flatten().tolist()))
    assert [column for column in range(32) if 1 in seen[column]] == list(range(2, 10))  # its own are 4 to 7
    assert model.stem(image).shape == (1, 4 * 8, WIDTH)


@pytest.mark.parametrize(("patch_size", "channels"), [
    ((1, 1), []), ((4, 4), [6, 12]), ((2, 8), [3, 6, 12]), ((16, 8), [2, 3, 6, 12]),
])
def test_a_stem_of_convolutions_makes_a_token_for_each_patch(patch_size, channels):
    config = network(stem=ConvolutionStem(), patch_size=patch_size)
    model = build(config)
    assert model.stem(torch.randn(2, 3, 16, 32)).shape == (2, 16 * 32 // patch_size[0] // patch_size[1], WIDTH)
    assert [layer.out_channels for layer in model.stem.layers if isinstance(layer, torch.nn.Conv2d)] == channels
    assert count_macs(config) == measure_macs(model)


ANY_SIZE = network(stem=ConvolutionStem(tokens=(4, 8)), blocks=(MIXER, ConvolutionConfig(), ATTENTION))


def test_one_network_takes_images_of_any_size_and_its_own_size_as_if_it_took_no_other():
    model = build(ANY_SIZE).eval()
    randomise(model)
    fixed = build(ANY_SIZE.with_(stem=ConvolutionStem())).eval()
    fixed.load_state_dict(model.state_dict())
    with torch.no_grad():
        own = torch.randn(2, 3, 16, 32)
        assert (model(own) - fixed(own)).abs().max() < 1e-5
        for size in ((16, 16), (64, 32), (17, 99), (5, 3)):
            assert model(torch.randn(2, 3, *size)).shape == (2, 5)
        larger = torch.randn(1, 3, 32, 64)
        places = model.stem.proj(model.stem.layers(larger))  # 8 x 16: each token is the mean of 2 x 2 of them
        expected = places.unflatten(2, (4, 2)).unflatten(4, (8, 2)).mean((3, 5))
        assert (model.stem(larger) - expected.flatten(2).transpose(1, 2)).abs().max() < 1e-5


def test_resizing_such_a_network_changes_no_weight():
    model = build(ANY_SIZE).eval()
    resized = resize(model, image_size=(40, 24))
    assert resized.preprocess.image_size == resized.config.image_size == (40, 24)
    assert resized.config.grid == (4, 8)
    assert all(tensor.equal(model.state_dict()[name]) for name, tensor in resized.state_dict().items())


# --- pyramids --------------------------------------------------------------------------------------------------------

PYRAMID = network(depth=6, blocks=(MIXER, ConvolutionConfig(), MergingConfig(), ATTENTION,
                                   MergingConfig(factor=(1, 2), width=30, norm=WholeImageNormConfig()), MIXER))


def test_merging_is_a_linear_map_of_the_merged_tokens():
    layer = MergingConfig(factor=(2, 3)).build(4, (4, 6), []).double()
    randomise(layer)
    x_BSC = torch.randn(2, 24, 4, dtype=torch.float64)
    cells = x_BSC.view(2, 2, 2, 2, 3, 4).permute(0, 1, 3, 5, 2, 4).reshape(2, 4, 24)  # B, cells, channels x 2 x 3
    expected = F.layer_norm(cells @ layer.reduction.weight.flatten(1).T, (8,), layer.norm.weight, layer.norm.bias, 1e-6)
    assert (layer(x_BSC) - expected).abs().max() < EQUAL


def test_behind_merging_the_grid_is_smaller_and_the_tokens_wider():
    model = build(PYRAMID).eval()
    assert [(place.width, place.grid) for place in PYRAMID.places] == [
        (12, (4, 8)), (12, (4, 8)), (12, (4, 8)), (24, (2, 4)), (24, (2, 4)), (30, (2, 2))]
    assert (PYRAMID.out_width, PYRAMID.out_grid, model.num_features) == (30, (2, 2), 30)
    tokens, maps = model.forward_intermediates(torch.randn(1, 3, 16, 32))
    assert tokens.shape == (1, 4, 30)
    assert [tuple(found.shape[1:]) for found in maps] == [(12, 4, 8)] * 2 + [(24, 2, 4)] * 2 + [(30, 2, 2)] * 2
    assert [info["reduction"] for info in model.feature_info] == [4, 4, 8, 8, 16, 16]
    assert model.reset_classifier(3) or model(torch.randn(1, 3, 16, 32)).shape == (1, 3)


def test_what_merges_patches_has_no_place_in_stochastic_depth():
    depth = StochasticDepth(rate=0.3, rule="block")
    assert depth.rates([2, 0, 1, 0, 1]) == [[0.0, 0.0], [], [pytest.approx(0.15)], [], [pytest.approx(0.3)]]


def test_a_pyramid_resizes_to_another_grid_at_every_stage():
    model = build(PYRAMID)
    randomise(model)
    resized = resize(model, image_size=(32, 64))
    assert resized.config.out_grid == (4, 4)
    assert resized(torch.randn(1, 3, 32, 64)).shape == (1, 5)


def test_a_pyramid_can_be_cut_where_its_last_norm_no_longer_fits_only_without_norm_and_head():
    model = build(PYRAMID)
    with pytest.raises(BadSetting, match="block 3 has 24 channels, and norm and head are for 30; take prune_norm=True"):
        model.prune_intermediate_layers([3])
    assert len(model.blocks) == 6
    model.prune_intermediate_layers([3], prune_norm=True)
    assert model(torch.randn(1, 3, 16, 32)).shape == (1, 8, 24)


def test_folding_leaves_what_it_has_no_rule_for_and_the_logits_as_they_were():
    model = build(PYRAMID).double()
    randomise(model)
    images = torch.randn(2, 3, 16, 32, dtype=torch.float64)
    assert (fold(model.eval())(images) - model(images)).abs().max() < 1e-9


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "line"), [
    (lambda: network(stem=ConvolutionStem(), patch_size=(4, 6)),
     "model: a stem of convolutions halves an image's sides, and a patch of 6 pixels is no power of two; take 4 or 8"),
    (lambda: network(blocks=(MIXER, MergingConfig(factor=(3, 2)))),
     "model: merging takes 3 x 2 tokens together, which does not divide a grid of 4 x 8; take another image size, "
     "patch size or factor"),
    (lambda: build(network(blocks=(AttentionConfig(heads=5),))),
     "attention: 5 heads do not divide the width 12; take 4"),
    (lambda: build(network(blocks=(ShiftConfig(parts=20),))),
     "shift: a width of 12 has not one channel in 20; take parts from 4 to 12"),
    (lambda: ConvolutionConfig(kernel=4),
     "convolution: kernel: must be odd, to have a token in its middle; take 3 or 5"),
    (lambda: SumConfig(blocks=(MIXER, MIXER), weights=(1.0,)),
     "sum: 1 weights for 2 blocks; give one each, or none"),
    (lambda: network(depth=1024, blocks=(SpachConfig(mixing="mlp", token_hidden=1, channel_hidden=1, layers=5),)),
     "model: its blocks have more than 8,192 residual branches, which is the limit"),
    (lambda: resize(build(network(blocks=(ATTENTION,))), image_size=(32, 64), method="block"),
     "method 'block' puts copies of the token mixing side by side, which a block of kind 'attention' has no form for; "
     "take method 'auto'"),
    (lambda: resize(build(network(stem=PatchStem(overlap=1))), in_channels=1),
     "resize brings patches without overlap to another patch_size or in_channels, and this network's stem is "
     "kind='patches' overlap=1 norm=IdentityConfig(kind='identity'); train it with those that you need"),
])
def test_what_cannot_be_is_refused_in_one_line(make, line):
    with pytest.raises(AllMLPError) as error:
        make()
    assert str(error.value) == line


@pytest.mark.parametrize(("fields", "word"), [
    ({"blocks": (MIXER, ATTENTION)}, "attention"), ({"blocks": (MIXER, MergingConfig()), "depth": 2}, "merging"),
    ({"blocks": (SumConfig(blocks=(MIXER, MIXER)),)}, "sum"), ({"stem": PatchStem(overlap=1)}, "overlap=1"),
    ({"stem": ConvolutionStem()}, "convolutions"),
])
def test_the_engine_and_the_formats_of_others_refuse_a_hybrid_by_name(fields, word, tmp_path):
    model = build(network(**fields))
    for refuse in (lambda: check_supported(model), lambda: write_google(model, tmp_path / "x.npz"),
                   lambda: write_timm(model, tmp_path / "x.safetensors")):
        with pytest.raises(AllMLPError, match=word) as error:
            refuse()
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_hybrid_as_a_folder_for_the_hub_is_a_network_that_timm_has_no_name_for(tmp_path):
    model = build(PYRAMID).eval()
    assert save_hub(model, tmp_path) == ["timm has no name for a network of these sizes"]
    images = torch.randn(1, 3, 16, 32)
    assert load(tmp_path)(images).equal(model(images))


def test_an_any_size_network_names_what_it_does_not_take():
    with pytest.raises(BadData, match=r"this network takes images \(B, 3, height, width\), not \[2, 1, 16, 32\]"):
        build(ANY_SIZE)(torch.zeros(2, 1, 16, 32))


# --- any composition -------------------------------------------------------------------------------------------------

plain = st.sampled_from([
    MIXER, GMLPConfig(hidden=8), ResMLPConfig(channel_hidden=9, layer_scale=0.1), ATTENTION, AttentionConfig(heads=2),
    ConvolutionConfig(), ConvolutionConfig(channels="full", channel_hidden=5), PoolingConfig(channel_hidden=7),
    IdentityMixingConfig(), ShiftConfig(channel_hidden=5), SpachConfig(channel_hidden=6),
    SpachConfig(mixing="mlp", token_hidden=3, channel_hidden=6, layers=2),
    SpachConfig(mixing="attention", heads=2, channel_hidden=6),
])  # fmt: skip
sums = st.builds(SumConfig, blocks=st.tuples(plain, plain), learned=st.booleans())
stems = st.sampled_from([PatchStem(), PatchStem(overlap=1, norm=LayerNormConfig()), ConvolutionStem(),
                         ConvolutionStem(tokens=(4, 4))])  # fmt: skip


@st.composite
def compositions(draw: st.DrawFn, most: int = 2) -> ModelConfig:
    """Up to `most` blocks, perhaps patch merging, up to `most` more; the whole repeated in turn or not."""
    first, last = (draw(st.lists(st.one_of(plain, sums), min_size=1, max_size=most)) for _ in range(2))
    merging = draw(st.lists(st.builds(MergingConfig, norm=st.sampled_from([LayerNormConfig(), WholeImageNormConfig()])),
                            max_size=1))
    blocks = (*first, *merging, *last)
    return network(blocks=blocks, depth=len(blocks) + draw(st.integers(0, 1)), stem=draw(stems), image_size=(16, 16),
                   init=draw(st.sampled_from(["flax", "timm", "deit", "spach"])))


@given(compositions())
@settings(max_examples=20, deadline=None)
def test_any_composition_builds_takes_a_training_step_and_comes_back_from_its_checkpoint(tmp_path_factory, config):
    model = build(config, generator=torch.Generator().manual_seed(0)).train()
    assert count_parameters(config) == sum(parameter.numel() for parameter in model.parameters())
    assert count_macs(config) == measure_macs(model)
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # the head starts at zero, so what is below it learns from the second step on
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert not model.stem.proj.weight.equal(before["stem.proj.weight"])
    path = tmp_path_factory.mktemp("composition") / "model.safetensors"
    save(model.eval(), path)
    with torch.no_grad():
        assert load(path)(images).equal(model(images))


@pytest.mark.slow
def test_any_composition_gives_the_same_logits_after_a_training_step_in_onnx_runtime(tmp_path):
    """Weights after a step of Adam, which moves all of them, so that no branch is left at zero."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'allmlp[export]'")
    seen = []

    @given(compositions(most=1))  # an export takes seconds
    @settings(max_examples=20, deadline=None)
    def check(config: ModelConfig) -> None:
        model = build(config, generator=torch.Generator().manual_seed(0)).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(2):
            F.cross_entropy(model(torch.randn(4, 3, 16, 16)), torch.tensor([0, 1, 2, 3])).backward()
            optimizer.step()
        path = tmp_path / f"{len(seen)}.onnx"
        onnx_backend.export(model.eval(), path)
        manifest = Manifest(backend="onnx", precision="fp32", preprocess=model.preprocess, num_classes=5)
        images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
        expected = PyTorchPredictor(model)(images)
        error = onnx_backend.load(path, manifest, threads=1)(images) - expected
        assert np.sqrt(np.mean(error**2)) < BACKENDS["onnx"].limits["fp32"] * expected.std(), config
        seen.append(config)

    check()
    assert len(seen) >= 20
