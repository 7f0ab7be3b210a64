"""How the weights start: against each scheme's definition, and against the draws of timm where it has the scheme."""

import math
from functools import partial

import pytest
import timm
import torch
from scipy.stats import ks_2samp
from timm.models._manipulate import named_apply
from timm.models.mlp_mixer import MlpMixer, ResBlock, _init_weights
from torch import nn

from allmlp.models.init import initialise
from allmlp.models.layers import Affine
from allmlp.models.model import Model, build
from allmlp.models.variants import VARIANTS, create_model, model_config

# Two samples of one distribution: a probability this small comes once in a million, and the seeds are fixed.
SAME_DISTRIBUTION = 1e-6
# A standard deviation from n draws is off by a factor 1 ± 1/√(2n) (one sigma): n is at least 10,000 here.
STD = 0.05


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filled(config) -> Model:
    """A network whose parameters are all NaN, started by its scheme."""
    model = Model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(math.nan)
    initialise(model, config.init, config.head_bias, seeded())
    return model


@pytest.mark.parametrize("scheme", ["flax", "timm", "deit"])
def test_no_parameter_is_left_as_found(config, scheme):
    model = filled(config.with_(init=scheme))
    assert [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()] == []


@pytest.mark.parametrize("scheme", ["flax", "timm", "deit"])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(config, scheme):
    config = config.with_(init=scheme)
    one, same, other = (build(config, generator=seeded(seed)).state_dict() for seed in (1, 1, 2))
    assert all(one[name].equal(same[name]) for name in one)
    assert not one["stem.proj.weight"].equal(other["stem.proj.weight"])


def test_a_seeded_network_does_not_depend_on_or_change_torchs_own_generator():
    torch.manual_seed(1)
    one = create_model("gmlp_p2_8", seed=7).state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.rand(1).equal(drawn)
    same = create_model("gmlp_p2_8", seed=7).state_dict()
    assert all(one[name].equal(same[name]) for name in one)


def test_without_a_seed_the_weights_come_from_torchs_own_generator():
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(create_model("mixer_p2_8").state_dict()["stem.proj.weight"])
    assert models[0].equal(models[1])
    assert not models[0].equal(models[2])


# --- the schemes, kernel by kernel -----------------------------------------------------------------------------------


def kernels(model: Model):
    """(name, module, fan in) of every linear and convolution except the head and the gates, which start otherwise."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and name != "head" and "gate" not in name:
            yield name, module, module.weight[0].numel()


@pytest.fixture(scope="module")
def mixer() -> Model:
    return create_model("mixer_t16_224", seed=0)


@pytest.fixture(scope="module")
def gmlp() -> Model:
    return build(model_config("gmlp_ti16_224").with_(depth=2), generator=seeded())


@pytest.fixture(scope="module")
def resmlp() -> Model:
    return build(model_config("resmlp_12_224").with_(depth=2), generator=seeded())


def test_flax_kernels_have_variance_one_over_fan_in_and_are_cut_at_two_deviations(mixer):
    for _, module, fan_in in kernels(mixer):
        std = fan_in**-0.5
        cut = 2 * std / 0.87962566103423978  # of the normal before it was cut, whose deviation is larger by this
        assert module.weight.std().item() == pytest.approx(std, rel=STD)
        assert 0.98 * cut < module.weight.abs().max() <= cut
        assert not module.bias.any()


def test_timm_kernels_are_xavier_uniform_and_mlp_biases_tiny(gmlp):
    for name, module, fan_in in kernels(gmlp):
        if name == "stem.proj":
            assert module.weight.std().item() == pytest.approx(fan_in**-0.5, rel=STD)
            assert not module.bias.any()
        else:
            bound = math.sqrt(6 / sum(module.weight.shape))
            assert 0.99 * bound < module.weight.abs().max() <= bound
            assert module.bias.std().item() == pytest.approx(1e-6, rel=0.2)  # of 128 draws and more


def test_deit_kernels_are_normal_and_the_stem_is_pytorchs(resmlp):
    for name, module, fan_in in kernels(resmlp):
        if name == "stem.proj":
            bound = fan_in**-0.5
            assert 0.99 * bound < module.weight.abs().max() <= bound
            assert 0.9 * bound < module.bias.abs().max() <= bound
        else:
            assert module.weight.std().item() == pytest.approx(0.02, rel=STD)
            assert module.weight.abs().max() > 3 * 0.02  # cut at ±2, not at two deviations
            assert not module.bias.any()


@pytest.mark.parametrize("name", VARIANTS)
def test_norms_start_as_the_identity_and_heads_at_zero_except_resmlps(name):
    config = VARIANTS[name]
    model = build(config.with_(depth=1, width=32, image_size=config.patch_size), generator=seeded())
    assert bool(model.head.weight.any()) == name.startswith("resmlp")
    assert not model.head.bias.any()
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()
            assert not module.bias.any()
        if isinstance(module, Affine):
            assert (module.alpha == 1).all()
            assert not module.beta.any()


@pytest.mark.parametrize("scheme", ["flax", "timm", "deit"])
def test_the_heads_bias_starts_where_the_config_says(config, scheme):
    model = build(config.with_(init=scheme, head_bias=-6.9))
    assert (model.head.bias == torch.tensor(-6.9)).all()
    model.reset_classifier(3)
    assert (model.head.bias == torch.tensor(-6.9)).all()


@pytest.mark.parametrize("config", ["mixer", "gmixer", "gmlp"], indirect=True)
def test_a_fresh_network_answers_the_heads_bias_for_every_image(config, images):
    assert (build(config.with_(head_bias=0.5))(images) == 0.5).all()


@pytest.mark.parametrize(("name", "start"), [  # DeiT's resmlp_models.py
    ("resmlp_12_224", 0.1), ("resmlp_12_p32_224", 0.1), ("resmlp_12_p14_224", 0.1), ("resmlp_12_p8_224", 0.1),
    ("resmlp_24_224", 1e-5), ("resmlp_36_224", 1e-6), ("resmlp_big_24_224", 1e-6), ("resmlp_big_24_p16_224", 1e-6),
    ("resmlp_p2_8", 0.1), ("resmlp_layernorm_12_224", 0.1), ("resmlp_mlp_12_224", 0.1), ("resmlp_conv_12_224", 0.1),
    ("resmlp_depthwise_12_224", 0.1), ("resmlp_separable_12_224", 0.1), ("resmlp_classmlp_12_224", 0.1),
    ("resmlp_classmlp_24_224", 1e-5), ("resmlp_classmlp_36_224", 1e-6),
])
def test_layer_scale_starts_by_depth(name, start):
    model = build(VARIANTS[name].with_(depth=1))
    assert (model.blocks[0].ls1 == torch.tensor(start)).all()
    assert (model.blocks[0].ls2 == torch.tensor(start)).all()


def test_every_resmlp_is_in_the_layer_scale_test():
    cases = test_layer_scale_starts_by_depth.pytestmark[0].args[1]
    without = {"resmlp_no_layerscale_12_224", "resmlp_no_interaction_12_224"}  # of both, or of the first branch
    assert {name for name, _ in cases} == {name for name in VARIANTS if name.startswith("resmlp")} - without


def test_gmlps_gate_starts_as_a_constant_one(gmlp):
    for block in gmlp.blocks:
        gate = block.mlp_channels.gate.proj
        assert gate.weight.std().item() == pytest.approx(1e-6, rel=STD)
        assert (gate.bias == 1).all()


def test_gmixers_gates_start_near_silu_of_one():
    model = build(model_config("gmixer_12_224").with_(depth=1), generator=seeded())
    for mlp in (model.blocks[0].mlp_tokens, model.blocks[0].mlp_channels):
        half = mlp.fc1.out_features // 2
        assert mlp.fc1.weight[half:].std().item() == pytest.approx(1e-6, rel=STD)
        assert (mlp.fc1.bias[half:] == 1).all()
        assert mlp.fc1.weight[:half].std() > 0.01
        assert mlp.fc1.bias[:half].abs().max() < 1e-5


# --- the same distributions as timm's and PyTorch's own ------------------------------------------------------------


def assert_same_distributions(ours: nn.Module, theirs: nn.Module) -> None:
    """Kolmogorov-Smirnov on up to 20,000 values of each parameter; constants must be equal."""
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        our, their = (tensor.detach().flatten()[:20_000] for tensor in (parameter, expected[name]))
        if (their == their[0]).all():
            assert our.equal(their), name
        else:
            assert ks_2samp(our.numpy(), their.numpy()).pvalue > SAME_DISTRIBUTION, name


@pytest.mark.parametrize("name", ["gmlp_ti16_224", "gmixer_12_224"])
def test_timms_scheme_draws_as_timm_does(name):
    assert_same_distributions(create_model(name, seed=1), timm.create_model(name))


def test_the_flax_scheme_draws_as_timms_flax_scheme_does():
    theirs = MlpMixer(num_blocks=2, embed_dim=192)
    named_apply(partial(_init_weights, flax=True), theirs)
    assert_same_distributions(build(VARIANTS["mixer_t16_224"].with_(depth=2), generator=seeded()), theirs)


def test_the_deit_scheme_draws_as_deits_code_does(resmlp):
    """`self.apply`: trunc_normal(std 0.02) and zero bias in every linear; the stem stays as PyTorch makes it."""
    theirs = MlpMixer(num_blocks=2, embed_dim=384, mlp_ratio=4, block_layer=partial(ResBlock, init_values=0.1),
                      norm_layer=timm.models.mlp_mixer.Affine)
    theirs.stem.proj.reset_parameters()
    for module in theirs.modules():
        if isinstance(module, nn.Linear):
            timm.layers.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    assert_same_distributions(resmlp, theirs)


def test_the_comparison_of_distributions_can_fail():
    with pytest.raises(AssertionError, match=r"stem\.proj\.weight"):
        assert_same_distributions(create_model("mixer_p2_8", seed=1), build(model_config("mixer_p2_8")
                                                                              .with_(init="deit")))
