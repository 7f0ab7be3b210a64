"""The verdicts of three experiments follow from their rows, part by part."""

import pytest

from allmlp.reproduce import data_scaling, distillation, permutation
from allmlp.reproduce.experiment import Row


def taught(**gains: float) -> list[Row]:
    """ResMLP and Mixer have 50 % from labels alone, over three seeds with a deviation of 1, and more as `gains` say."""
    return [{"what": f"{student}, {way}", "seed": seed, "student": student, "way": way,
             "test_accuracy_percent": 50.0 + seed + gains.get(f"{student}_{way.split()[0]}", 0.0)}
            for student in ("ResMLP", "Mixer") for way in distillation.WAYS for seed in range(3)]


@pytest.mark.parametrize(("gains", "verdict"), [
    ({"ResMLP_hard": 10.0}, "as claimed"),
    ({"ResMLP_soft": 10.0, "Mixer_hard": 10.0, "Mixer_soft": 10.0}, "not found"),
    ({}, "not found"),
])
def test_only_resmlps_hard_distillation_decides_and_the_rest_is_told_apart(gains, verdict):
    found = distillation.found(taught(**gains))
    assert found.verdict == verdict
    claimed, ours = found.text.split(" Ours, beside the claim: ")
    assert "ResMLP by hard distillation" in claimed
    assert "Mixer" not in claimed
    assert all(line in ours for line in ("ResMLP by soft", "Mixer by hard", "Mixer by soft"))


def scaled(**ends: float) -> list[Row]:
    """Accuracy is 10 % with the smallest share and `ends` with all, over three seeds whose gains deviate by 1."""
    return [{"what": f"{name}, {share} %", "seed": seed, "few_shot_percent": value, "test_accuracy_percent": value}
            for name, end in ends.items() for seed in range(3) for share in data_scaling.SHARES
            for value in [{3: 10.0, 100: end + seed}.get(share, 20.0)]]


@pytest.mark.parametrize(("resnet", "verdict", "said"), [
    (30.0, "as claimed", "more than ResNet by both measures"),
    (59.0, "in part", "more than ResNet by neither measure"),  # 1 point, of a spread of 1.41
    (58.5, "as claimed", "more than ResNet by both measures"),
])
def test_data_scaling_says_whom_mixer_gains_more_than(resnet: float, verdict: str, said: str):
    found = data_scaling.found(scaled(Mixer=60.0, ViT=15.0, ResNet=resnet))
    assert found.verdict == verdict
    assert "Mixer gains more than ViT beyond the spread by both measures" in found.text
    assert said in found.text
    assert "ViT's 5-shot accuracy falls from 20.0 % with 10 % of the images to 16.0 % with all" in found.text
    assert "ResNet's test accuracy falls" not in found.text


def shuffled(resnet_few: float, resnet_head: float) -> list[Row]:
    """Mixer keeps half of its 80 % with all pixels shuffled; ResNet what is given, of its own 80 %."""
    left = {"Mixer": (40.0, 40.0), "ResNet": (resnet_few, resnet_head)}
    rows: list[Row] = [{"what": permutation.EXACT, "seed": 0, "largest_difference": 1e-15}]
    for name, (few, head) in left.items():
        patches = 80.0 if name == "Mixer" else 60.0
        pairs = {"original": (80.0, 80.0), "patches+pixels": (patches, patches), "global": (few, head)}
        for shuffle, ends in pairs.items():
            rows += [{"what": f"{name}, {shuffle}", "seed": seed, "few_shot_percent": ends[0] + seed / 10,
                      "test_accuracy_percent": ends[1] + seed / 10} for seed in range(3)]
    return rows


@pytest.mark.parametrize(("few", "head", "verdict"), [
    (20.0, 20.0, "as claimed"), (20.0, 40.0, "in part"), (40.0, 20.0, "in part"),
])
def test_resnet_must_lose_more_of_both_accuracies_when_all_pixels_are_shuffled(few: float, head: float, verdict: str):
    found = permutation.found(shuffled(few, head))
    assert found.verdict == verdict
    assert "5-shot accuracy: Mixer 50.1 ± 0.1 %" in found.text
    assert found.text.count("loses more, beyond the spread") == (few, head).count(20.0)
