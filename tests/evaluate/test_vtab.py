"""VTAB-1k by linear probes, against scikit-learn called step by step and means worked out by hand."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from allmlp.data.dataset import Data
from allmlp.data.digits import ArrayImages
from allmlp.data.vtab.tasks import TASKS
from allmlp.errors import BadData, CannotDownload
from allmlp.evaluate.vtab import GRID, TaskScore, lines, probe_all, probe_task, table
from allmlp.preprocess import Preprocess

SAME = 1e-9  # percent: the same fractions, summed in another order
CLASSES = ("a", "b", "c")


class Pixels:
    """Features without a network: the 18 numbers of an image."""

    preprocess, classes, output = Preprocess(image_size=(2, 3)), None, "softmax"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), 18).astype(np.float32) / 100 - 1


def noisy(name: str, count: int, seed: int) -> ArrayImages:
    """Images a little brighter the higher their class."""
    draws = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = 12 * labels[:, None, None, None] + draws.integers(0, 120, (count, 2, 3, 3))
    return ArrayImages(images.astype(np.uint8), labels, CLASSES, [f"{name}/{i}" for i in range(count)])


SPLITS = {"train": noisy("train", 60, 0), "val": noisy("val", 30, 1), "test": noisy("test", 90, 2)}


def sklearns(c: float, fitted_on: list[str], measured_on: str) -> float:
    x = np.concatenate([Pixels()(SPLITS[split].images) for split in fitted_on])
    y = np.concatenate([SPLITS[split].labels for split in fitted_on])
    scaler = StandardScaler().fit(x)
    probe = LogisticRegression(C=c, max_iter=2000).fit(scaler.transform(x), y)
    test = SPLITS[measured_on]
    return 100 * float((probe.predict(scaler.transform(Pixels()(test.images))) == test.labels).mean())


def test_the_best_on_the_200_is_fitted_again_on_all_and_measured_once():
    score = probe_task(Pixels(), Data("vtab:svhn", CLASSES, SPLITS, ("a note",)), "svhn")
    chosen = {c: sklearns(c, ["train"], "val") for c in GRID}
    assert len(set(chosen.values())) > 2  # so that there is something to choose
    assert chosen[score.c] == max(chosen.values()) == pytest.approx(score.val_percent, abs=SAME)
    assert score.c == min(c for c, accuracy in chosen.items() if accuracy == max(chosen.values()))
    assert score.accuracy_percent == pytest.approx(sklearns(score.c, ["train", "val"], "test"), abs=SAME)
    assert (score.images, score.title, score.group, score.notes) == (90, "SVHN", "natural", ("a note",))


def test_a_task_without_images_to_choose_by_is_refused():
    with pytest.raises(BadData, match="vtab:svhn has no val split"):
        probe_task(Pixels(), Data("vtab:svhn", CLASSES, {"train": SPLITS["train"], "test": SPLITS["test"]}), "svhn")


def score(task: str, accuracy: float) -> TaskScore:
    return TaskScore(task=task, title=TASKS[task].title, group=TASKS[task].group, accuracy_percent=accuracy, images=9,
                     c=1.0, val_percent=0.0)


def test_the_mean_is_that_of_all_nineteen_tasks_and_not_that_of_the_groups():
    accuracies = dict(zip(TASKS, np.random.default_rng(0).uniform(0, 100, 19).tolist(), strict=True))
    found = table([score(task, accuracy) for task, accuracy in reversed(accuracies.items())], {})
    assert [row.task for row in found.scores] == list(TASKS)
    own = list(accuracies.values())
    assert found.mean_percent == pytest.approx(sum(own) / 19, abs=SAME)
    expected = {"natural": sum(own[:7]) / 7, "specialized": sum(own[7:11]) / 4, "structured": sum(own[11:]) / 8}
    assert found.group_percent == pytest.approx(expected, abs=SAME)
    assert any(line.startswith("VTAB-1k") and f"{sum(own) / 19:.2f}%" in line for line in lines(found))


def test_without_all_of_them_there_is_a_mean_of_those_present_and_the_others_are_named():
    def open_task(task: str) -> Data:
        if task not in ("svhn", "dmlab"):
            raise CannotDownload(f"{task} is nowhere")
        return Data(f"vtab:{task}", CLASSES, SPLITS)

    told: list[str] = []
    found = probe_all(Pixels(), open_task, absent=(CannotDownload,), progress=told.append)
    assert told == list(TASKS)
    assert [row.task for row in found.scores] == ["svhn", "dmlab"]
    assert found.mean_percent is None
    assert found.present_percent == pytest.approx(found.scores[0].accuracy_percent)  # twice the same images
    assert found.group_tasks == {"natural": (1, 7), "specialized": (0, 4), "structured": (1, 8)}
    assert found.group_percent["specialized"] is None
    said = "\n".join(lines(found))
    assert "mean of 2 tasks present, of 19" in said
    assert "missing: Caltech101 (caltech101 is nowhere)" in said
    assert said.count("missing:") == 17
