"""SPACH's experiment: equal work for what is compared, and the verdict follows from the rows."""

from pathlib import Path

import pytest

from allmlp.inspection.flops import count_macs
from allmlp.reproduce.experiment import Job, Scale
from allmlp.reproduce.spach import FORMS, LABELS, RECIPE, found, parts


def job(folder: Path, scale: Scale = "laptop") -> Job:
    return Job(scale, 2, None, None, False, "cpu", folder / "work", reduced=True)


def test_all_networks_do_nearly_the_same_work(tmp_path):
    macs = [count_macs(part.config) for part in parts(job(tmp_path)).values()]
    assert len(macs) == 10
    assert max(macs) / min(macs) < 1.2


def test_at_paper_scale_are_the_repositorys_networks_and_two_that_share():
    names = parts(job(Path("/"), "paper"))
    assert len(names) == 22
    assert sum(part.form == "shared" for part in names.values()) == 2
    assert {part.config.stochastic_depth.rate for part in names.values()} == {0.1}
    assert (RECIPE.optimizer.learning_rate, RECIPE.schedule.epochs, RECIPE.batch_size) == (1e-3, 300, 1024)


def rows(sharing_helps: bool) -> list[dict]:
    """Three stages better by 10 points for all; sharing better by 5 or worse by 5."""
    made = []
    for mixing, label in LABELS.items():
        for form, (several, shared) in FORMS.items():
            for seed in range(3):
                test = 70 + 10 * several + shared * (5 if sharing_helps else -5) + 0.1 * seed
                made.append({"what": f"{label}, {form}", "seed": seed, "mixing": mixing, "form": form,
                             "train_accuracy_percent": 100.0, "test_accuracy_percent": test})
    return made


@pytest.mark.parametrize(("sharing_helps", "verdict", "words"), [
    (True, "as claimed", "shared token mixing by −5.0 ± 0.1 points, with +5.0 ± 0.1 points of test accuracy"),
    (False, "in part", "shared token mixing by +5.0 ± 0.1 points, with −5.0 ± 0.1 points of test accuracy"),
])
def test_the_verdict_follows_from_the_rows(sharing_helps, verdict, words):
    result = found(rows(sharing_helps))
    assert result.verdict == verdict
    assert "token MLP +10.0 ± 0.1 points (better, beyond the spread)" in result.text
    assert words in result.text
    assert "by heart" not in result.text


def test_a_smaller_gap_of_a_network_that_learnt_less_is_no_less_overfitting_and_is_named():
    less = [{**row, "train_accuracy_percent": 70.0} if row["what"] == "token MLP, 1 stage, shared" else row
            for row in rows(sharing_helps=False)]
    result = found(less)
    assert result.verdict == "in part"
    assert "shared token mixing by −25.0" in result.text
    assert result.text.endswith("token MLP, 1 stage, shared 70 %.")
