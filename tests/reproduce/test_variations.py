"""The lines of the two ablation experiments are the networks and recipes that they say they are."""

import pytest

from allmlp.inspection.flops import count_parameters
from allmlp.models.variants import VARIANTS
from allmlp.recipes import RECIPES
from allmlp.reproduce import mixer_variants, resmlp_ablations
from allmlp.reproduce.experiment import Row

PAPER = {line.what: line for line in resmlp_ablations.variations("paper")}
NAMED = {
    "ResMLP": "resmlp_12_224",
    "Aff → LayerNorm": "resmlp_layernorm_12_224",
    "LayerScale → none": "resmlp_no_layerscale_12_224",
    "average pooling → class-MLP": "resmlp_classmlp_12_224",
    "linear between patches → none": "resmlp_no_interaction_12_224",
    "linear → MLP": "resmlp_mlp_12_224",
    "linear → 3×3 convolution": "resmlp_conv_12_224",
    "linear → 3×3 depthwise": "resmlp_depthwise_12_224",
    "linear → 3×3 separable": "resmlp_separable_12_224",
    "patches half as high and wide": "resmlp_12_p8_224",
    "patches twice as high and wide": "resmlp_12_p32_224",
    "patches of 14 pixels": "resmlp_12_p14_224",
}


@pytest.mark.parametrize("what", NAMED)
def test_at_paper_scale_a_part_is_the_network_of_the_name(what):
    assert PAPER[what].config == VARIANTS[NAMED[what]]
    assert PAPER[what].recipe == RECIPES["resmlp_s12_imagenet"]


def test_mixers_at_paper_scale_are_the_networks_of_the_names():
    lines = {line.what: line.config for line in mixer_variants.variations("paper")}
    names = {"Mixer": "mixer_s32_224", "untied": "mixer_untied_s32_224", "grouped, G = 4": "mixer_grouped_s32_224",
             "views, G = 4": "mixer_views_s32_224"}  # fmt: skip
    assert {what: lines[what] for what in names} == {what: VARIANTS[name] for what, name in names.items()}
    assert lines["pyramid"].out_grid == (1, 7)


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_ingredients_of_training_leave_one_by_one_and_do_not_come_back(scale):
    recipes = [line.recipe for line in resmlp_ablations.variations(scale) if line.group == resmlp_ablations.TRAINING]
    off = [(bool(r.augment.mixup or r.augment.cutmix), bool(r.augment.random_erasing), bool(r.augment.rand_augment),
            r.optimizer.name == "lamb", bool(r.stochastic_depth), r.augment.repeated > 1) for r in recipes]
    assert off == [(False,) * gone + (True,) * (6 - gone) for gone in (*range(7), 6)]
    before, after = ((r.schedule.steps or r.schedule.epochs) for r in recipes[-2:])
    assert after == pytest.approx(0.3 * before)
    assert {(r.schedule.steps or r.schedule.epochs) for r in recipes[:-1]} == {before}


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_every_line_has_its_baseline_and_all_parts_take_equal_steps(scale):
    lines = resmlp_ablations.variations(scale) + list(mixer_variants.variations(scale))
    assert {line.baseline for line in lines} <= {line.what for line in lines}
    parts = [line for line in resmlp_ablations.variations(scale) if line.group != resmlp_ablations.TRAINING]
    assert len({line.recipe.to_json() for line in parts if line.config.depth == parts[0].config.depth}) == 1
    assert all(count_parameters(line.config.with_(num_classes=10)) > 0 for line in lines)


def rows(**accuracies: tuple[float, ...]) -> list[Row]:
    """Rows of a made-up experiment in which the paper has 70 for the baseline `base`, 72 for `up` and 65 for `down`."""
    published = {"base": 70.0, "up": 72.0, "down": 65.0}
    return [{"what": what, "seed": seed, "baseline": "base", "published_percent": published[what],
             "published_baseline_percent": 70.0, "test_accuracy_percent": value}
            for what, values in accuracies.items() for seed, value in enumerate(values)]


@pytest.mark.parametrize(("up", "down", "verdict"), [
    ((91.0, 92.0, 93.0), (80.0, 81.0, 82.0), "as claimed"),
    ((91.0, 92.0, 93.0), (89.0, 91.0, 92.0), "in part"),  # up is clear, down is not
    ((91.0, 92.0, 93.0), (95.0, 96.0, 97.0), "in part"),
    ((89.0, 90.5, 91.0), (95.0, 96.0, 97.0), "not found"),
])
def test_what_was_found_follows_from_the_signs_beyond_the_spread(up, down, verdict):
    found = resmlp_ablations.found(rows(base=(90.0, 90.0, 90.0), up=up, down=down))
    assert found.verdict == verdict


def test_a_line_of_training_is_compared_with_the_line_before_it():
    for scale in ("laptop", "paper"):
        lines = [line for line in resmlp_ablations.variations(scale) if line.group == resmlp_ablations.TRAINING]
        assert [line.baseline for line in lines[1:]] == [line.what for line in lines[:-1]]
        assert [line.published_baseline for line in lines[1:]] == [line.published for line in lines[:-1]]
        assert lines[0].baseline == lines[0].what


def test_lines_that_do_not_count_are_told():
    made = rows(base=(90.0, 90.0, 90.0), up=(91.0, 92.0, 93.0), down=(80.0, 81.0, 82.0))
    for what, published in (("unpublished", None), ("unclear", 70.1)):
        made += [{**row, "what": what, "published_percent": published, "test_accuracy_percent": 80.0 + row["seed"]}
                 for row in made[:3]]
    found = resmlp_ablations.found(made)
    assert found.verdict == "as claimed"
    told = found.text.split("Not counted")[1]
    assert "unpublished (−9.0 ± 1.0, no number in the paper)" in told
    assert "unclear (−9.0 ± 1.0, paper +0.1)" in told
