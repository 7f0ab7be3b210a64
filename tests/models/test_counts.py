"""Parameters and multiply-adds of every named network against published figures or formulas written out here."""

import pytest

from allmlp.inspection.flops import by_part, count_macs, count_parameters, measure_macs, on_meta
from allmlp.models.model import build
from allmlp.models.variants import VARIANTS, model_config

# Parameters with 1000 classes, parameters without a head, GMACs at the name's image size.
# MLP-Mixer: Table 1 gives the second column in millions (19, 18, 60, 59, 206, 207, 431); S/8 to B/4 follow its formula.
# B/16, B/32 and L/16 with head also stand in google-research/vision_transformer's models_test.py.
# ResMLP: Table 3 gives 15.4, 30.0, 44.7, 129.1, 115.7, 15.6 and 22.1 M with head, and the GMACs as "GFLOPs".
# gMLP: Table 1 gives 5.9, 19.5 and 73.4 M.
PUBLISHED = {
    "mixer_s32_224": (19_104_624, 18_591_624, "1.0024"),
    "mixer_s16_224": (18_528_264, 18_015_264, "3.7770"),
    "mixer_s8_224": (20_646_504, 20_133_504, "14.8751"),
    "mixer_s4_224": (30_225_384, 29_712_384, "59.2676"),
    "mixer_b32_224": (60_293_428, 59_524_428, "3.2377"),
    "mixer_b16_224": (59_880_472, 59_111_472, "12.6018"),
    "mixer_b8_224": (64_864_168, 64_095_168, "50.0580"),
    "mixer_b4_224": (86_457_832, 85_688_832, "199.883"),
    "mixer_l32_224": (206_939_264, 205_914_264, "11.2533"),
    "mixer_l16_224": (208_196_168, 207_171_168, "44.5477"),
    "mixer_h14_224": (432_350_952, 431_069_952, "120.9899"),
    "gmixer_12_224": (12_701_080, 12_316_080, "2.6593"),
    "gmixer_24_224": (24_721_096, 24_336_096, "5.2604"),
    "resmlp_12_224": (15_350_872, 14_965_872, "3.0097"),
    "resmlp_12_p32_224": (15_801_664, 15_416_664, "0.7629"),
    "resmlp_12_p14_224": (15_607_912, 15_222_912, "3.9841"),
    "resmlp_12_p8_224": (22_051_624, 21_666_624, "13.9886"),
    "resmlp_24_224": (30_020_680, 29_635_680, "5.9613"),
    "resmlp_36_224": (44_690_488, 44_305_488, "8.9128"),
    "resmlp_big_24_224": (129_138_280, 128_369_280, "100.2307"),
    "resmlp_big_24_p16_224": (115_736_776, 114_967_776, "23.0207"),
    "gmlp_ti16_224": (5_867_328, 5_738_328, "1.329"),
    "gmlp_s16_224": (19_422_656, 19_165_656, "4.392"),
    "gmlp_b16_224": (73_075_392, 72_562_392, "15.720"),
    # ResMLP's ablations: Table 3 gives 15.4, 14.9, 18.6, 30.8, 14.9 and 16.7 M, and 3.0, 2.8, 4.3, 6.0, 2.8 and 3.2 G;
    # the numbers follow from the equations with a bias in every layer. Table D.3 gives class-MLP 17.7, 32.4 and 47.1 M,
    # whose two layers are written out in `test_class_mlp.py`. Mixer's are S/32's with other token mixing, 18,591,624 -
    # 8 * 25,393 and in its place 8 * 512 * 25,393; 8 * 100,804; 8 * (100,804 + 512 * 513).
    "resmlp_layernorm_12_224": (15_350_872, 14_965_872, "3.0097"),
    "resmlp_no_layerscale_12_224": (15_350_872 - 12 * 2 * 384, 14_965_872 - 12 * 2 * 384, "3.0097"),
    "resmlp_no_interaction_12_224": (14_873_704, 14_488_704, "2.833"),
    "resmlp_mlp_12_224": (18_587_224, 18_202_224, "4.249"),
    "resmlp_conv_12_224": (30_817_384, 30_432_384, "5.954"),
    "resmlp_depthwise_12_224": (14_933_608, 14_548_608, "2.841"),
    "resmlp_separable_12_224": (16_707_688, 16_322_688, "3.188"),
    "resmlp_classmlp_12_224": (15_350_872 + 2_369_292, 14_965_872 + 2_369_292, "3.0"),
    "resmlp_classmlp_24_224": (30_020_680 + 2_369_292, 29_635_680 + 2_369_292, "6.0"),
    "resmlp_classmlp_36_224": (44_690_488 + 2_369_292, 44_305_488 + 2_369_292, "8.9"),
    "mixer_untied_s32_224": (19_104_624 + 8 * 511 * 25_393, 18_591_624 + 8 * 511 * 25_393, "1.0024"),
    "mixer_grouped_s32_224": (19_104_624 + 8 * 75_411, 18_591_624 + 8 * 75_411, "1.0024"),
    "mixer_views_s32_224": (19_104_624 + 8 * 338_067, 18_591_624 + 8 * 338_067, "1.105"),
}


# --- our own small networks: formulas written out, and their values ------------------------------------------------


def mixer(depth, patch, width, token_hidden, channel_hidden, tokens):
    """(parameters without head, MACs without head), from the papers' equations."""
    stem = 3 * patch * patch * width
    token_mixing = 2 * tokens * token_hidden
    channel_mixing = 2 * width * channel_hidden
    norms_and_biases = 4 * width + token_hidden + tokens + channel_hidden + width
    parameters = stem + width + depth * (token_mixing + channel_mixing + norms_and_biases) + 2 * width
    return parameters, stem * tokens + depth * (width * token_mixing + tokens * channel_mixing)


def resmlp(depth, patch, width, tokens):
    stem, mlp = 3 * patch * patch * width, 8 * width * width
    two_affines, two_scales, mlp_biases = 4 * width, 2 * width, 5 * width
    block = tokens * tokens + tokens + two_affines + two_scales + mlp + mlp_biases
    parameters = stem + width + depth * block + 2 * width
    return parameters, stem * tokens + depth * (width * tokens * tokens + tokens * mlp)


def gmlp(depth, patch, width, hidden, tokens):
    stem, half = 3 * patch * patch * width, hidden // 2
    u, v, gate = width * hidden + hidden, half * width + width, tokens * tokens + tokens
    parameters = stem + width + depth * (2 * width + u + 2 * half + gate + v) + 2 * width
    return parameters, stem * tokens + depth * (tokens * width * (hidden + half) + half * tokens * tokens)


def stemmed(depth, patch, width, token_hidden, channel_hidden, image):
    """A Mixer behind 3 x 3 convolutions of stride 2, each with bias and LayerNorm, that double their channels up to the
    width, and a linear map of each place."""
    side, channels, halvings = image, 3, patch.bit_length() - 1
    tokens = (image // patch) ** 2
    parameters, macs = mixer(depth, patch, width, token_hidden, channel_hidden, tokens)
    parameters, macs = parameters - 3 * patch * patch * width - width, macs - 3 * patch * patch * width * tokens
    for halving in range(halvings):
        out, side = width // 2 ** (halvings - 1 - halving), side // 2
        parameters, macs, channels = parameters + (9 * channels + 3) * out, macs + side * side * 9 * channels * out, out
    return parameters + width * width + width, macs + tokens * width * width


OWN = {
    "mixer_s4_32": (mixer(8, 4, 512, 256, 2048, 64), (17_104_896, 1_209_532_416)),
    "mixer_p2_8": (mixer(4, 2, 64, 32, 128, 16), (72_576, 1_323_008)),
    "mixer_p4_40": (mixer(4, 4, 64, 32, 128, 100), (96_720, 8_499_200)),
    "mixer_t4_32": (mixer(8, 4, 192, 96, 768, 64), (2_482_496, 170_459_136)),
    "mixer_t8_64": (mixer(8, 8, 192, 96, 768, 64), (2_510_144, 172_228_608)),
    "mixer_t8_96": (mixer(8, 8, 192, 96, 768, 144), (2_633_664, 387_514_368)),
    "mixer_t16_224": (mixer(8, 16, 192, 96, 768, 196), (2_824_544, 549_126_144)),
    "mixer_stem_p8_32": (stemmed(4, 8, 64, 32, 128, 32), (99_712, 2_076_672)),
    "mixer_stem_n8_32": (stemmed(6, 8, 96, 48, 192, 32), (297_312, 6_064_128)),
    "mixer_stem_p16_96": (stemmed(4, 16, 64, 32, 128, 96), (105_872, 5_584_896)),
    "mixer_stem_n16_96": (stemmed(6, 16, 96, 48, 192, 96), (311_256, 15_510_528)),
    "mixer_stem_p32_224": (stemmed(4, 32, 64, 32, 128, 224), (109_444, 9_182_208)),
    "mixer_stem_n32_224": (stemmed(6, 32, 96, 48, 192, 224), (319_326, 24_159_744)),
    "resmlp_p2_8": (resmlp(4, 2, 64, 16), (135_936, 2_174_976)),
    "gmlp_p2_8": (gmlp(6, 2, 64, 256, 16), (154_272, 2_568_192)),
}


def test_every_network_has_its_counts_here_and_every_count_its_network():
    assert sorted([*PUBLISHED, *OWN]) == sorted(VARIANTS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_the_published_size(name):
    with_head, without_head, gmacs = PUBLISHED[name]
    decimals = len(gmacs.partition(".")[2])
    assert count_parameters(model_config(name, num_classes=1000)) == with_head
    assert count_parameters(model_config(name, num_classes=0)) == without_head
    assert f"{count_macs(VARIANTS[name]) / 1e9:.{decimals}f}" == gmacs


@pytest.mark.parametrize("name", OWN)
def test_own_networks_have_the_size_that_the_formulas_give(name):
    formula, pinned = OWN[name]
    config = model_config(name, num_classes=0)
    assert (count_parameters(config), count_macs(config)) == formula == pinned


@pytest.mark.parametrize("name", VARIANTS)
def test_counted_multiply_adds_are_those_that_pytorch_measures(name):
    assert count_macs(VARIANTS[name]) == measure_macs(on_meta(VARIANTS[name]))


@pytest.mark.parametrize(("name", "classes", "parameters"), [
    ("mixer_b16_224", 21_843, 75_908_739),  # ImageNet-21k
    ("mixer_l16_224", 21_843, 229_560_243),
    ("mixer_b16_224", 11_221, 67_740_421),  # ImageNet-21k-P
    ("mixer_s4_32", 10, 17_110_026),  # CIFAR
    ("mixer_s4_32", 100, 17_156_196),
    ("mixer_s4_32", 0, 17_104_896),
])
def test_another_head_changes_the_size_by_the_head(name, classes, parameters):
    assert count_parameters(model_config(name, num_classes=classes)) == parameters


# 448 pixels, 1000 classes. MLP-Mixer's appendix C multiplies the token hidden width by 4, as the tokens; beside it what
# keeping that width would give: (parameters, GMACs) of both.
AT_448 = {
    "mixer_s16_224": ((30_581_352, "20.04"), (20_941_416, "15.11")),
    "mixer_b32_224": ((67_082_776, "17.11"), (61_649_944, "12.95")),
    "mixer_b16_224": ((86_996_392, "67.05"), (65_306_536, "50.40")),
    "mixer_l32_224": ((225_043_016, "59.81"), (210_555_464, "45.01")),
    "mixer_l16_224": ((280_500_584, "237.38"), (222_660_968, "178.19")),
    "mixer_h14_224": ((589_723_368, "645.02"), (463_832_808, "483.96")),
}


@pytest.mark.parametrize("factor", [4, 1], ids=["wider token mixing", "same token mixing"])
@pytest.mark.parametrize("name", AT_448)
def test_size_at_448_pixels(name, factor):
    config = model_config(name, image_size=448)
    block = config.blocks[0]
    config = config.with_(blocks=(block.with_(token_hidden=factor * block.token_hidden),))
    assert (count_parameters(config), f"{count_macs(config) / 1e9:.2f}") == AT_448[name][0 if factor == 4 else 1]


@pytest.mark.parametrize(("name", "parts"), [
    # B/16: 1.387 of 12.602 GMACs mix tokens, 11.098 mix channels
    ("mixer_b16_224", {"stem": "0.116", "token mixing": "1.387", "channel mixing": "11.098", "head": "0.001"}),
    # S12: 12 layers of 384 · 196² along patches, 12 of 8 · 196 · 384² along channels
    ("resmlp_12_224", {"stem": "0.058", "token mixing": "0.177", "channel mixing": "2.775", "head": "0.000"}),
])
def test_the_work_is_divided_between_the_parts(name, parts):
    assert {part: f"{macs / 1e9:.3f}" for part, macs in by_part(VARIANTS[name]).items()} == parts


def test_gmlp_mixes_tokens_in_its_gate_alone():
    config = VARIANTS["gmlp_s16_224"]
    assert by_part(config)["token mixing"] == 30 * 768 * 196 * 196


def test_without_pooling_the_head_works_for_every_token(config):
    everywhere = config.with_(global_pool="")
    assert by_part(everywhere)["head"] == 30 * by_part(config)["head"] == 30 * 14 * 7
    assert count_macs(everywhere) == measure_macs(on_meta(everywhere))


def test_measuring_leaves_the_mode_and_the_weights_alone(config):
    model = build(config).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert measure_macs(model) == count_macs(config)
    assert model.training
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
