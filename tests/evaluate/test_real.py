"""Reassessed labels of ImageNet, beside timm's own evaluation and a plain count."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from timm.data.real_labels import RealLabelsImagenet

from allmlp.errors import BadData
from allmlp.evaluate.real import NUM_IMAGES, TIMM, read_real_labels, real_metrics, sets_of
from allmlp.weights.labels import synsets, words

NAMES = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, NUM_IMAGES + 1)]
SOME = np.random.default_rng(0).permutation(NUM_IMAGES)[:300]


@pytest.fixture(scope="module")
def real() -> list[frozenset[int]]:
    return read_real_labels(TIMM)


@dataclass
class Validation:
    """Images by name only."""

    names: list[str]
    classes: tuple[str, ...] = words("imagenet-1k")

    @property
    def labels(self) -> np.ndarray:
        return np.zeros(len(self.names), np.int64)

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> np.ndarray:
        raise AssertionError("no image is needed")

    def name(self, index: int) -> str:
        return self.names[index]


@pytest.fixture(scope="module")
def logits(real) -> np.ndarray:
    """Of all images, so that some are right: noise, with the first reassessed label raised in every third."""
    found = np.random.default_rng(1).normal(size=(len(SOME), 1000))
    for row, i in enumerate(SOME):
        if row % 3 == 0 and real[i]:
            found[row, min(real[i])] += 9
    return found


def test_the_list_has_the_published_counts(real):
    assert sum(map(bool, real)) == 46_837
    assert sum(map(len, real)) == 57_553


def test_the_accuracy_is_that_of_timm_on_the_same_predictions(real, logits):
    import torch

    theirs = RealLabelsImagenet([NAMES[i] for i in SOME] + [NAMES[0]] * (NUM_IMAGES - len(SOME)))
    theirs.add_result(torch.from_numpy(logits))
    ours = real_metrics(logits, sets_of(Validation([NAMES[i] for i in SOME]), words("imagenet-1k"), real))
    assert ours.accuracy_percent == pytest.approx(theirs.get_accuracy(1), abs=1e-9)
    assert ours.skipped == sum(not real[i] for i in SOME) > 0
    assert ours.count == len(SOME) - ours.skipped
    assert 20 < theirs.get_accuracy(1) < 50


def test_folders_order_and_the_models_numbering_change_nothing(real, logits):
    expected = real_metrics(logits, [real[i] for i in SOME])
    order = np.random.default_rng(2).permutation(len(SOME))
    in_folders = [f"/data/val/n01440764/{NAMES[i]}" for i in SOME[order]]
    turned = tuple(reversed(words("imagenet-1k")))
    assert real_metrics(logits[order][:, ::-1], sets_of(Validation(in_folders), turned, real)) == expected
    by_synset = Validation(in_folders, synsets("imagenet-1k"))
    for known in (None, words("imagenet-1k")):
        assert real_metrics(logits[order], sets_of(by_synset, known, real)) == expected


def test_an_image_without_a_label_is_neither_right_nor_wrong():
    logits = np.eye(4)
    found = real_metrics(logits, [{0}, set(), {0, 2}, {1}])
    assert (found.count, found.skipped, found.accuracy_percent) == (3, 1, pytest.approx(200 / 3))
    assert real_metrics(logits[:1], [set()]).accuracy_percent is None


@pytest.mark.parametrize(("content", "says"), [
    ("not json", "no JSON list"), ('{"a": 1}', "no JSON list"), ("[" * 100_000, "no JSON list"),
    ("[[1]]", "labels of 1 images; ImageNet has 50,000"),
    (json.dumps([[1]] * 49_999 + [[1000]]), r"labels of image 50000 are \[1000\]"),
    (json.dumps([[True]] + [[1]] * 49_999), r"labels of image 1 are \[True\]"),
    (json.dumps([7] * 50_000), "labels of image 1 are 7"),
], ids=["text", "an object", "deep", "short", "a class too high", "a truth", "no lists"])  # fmt: skip
def test_another_file_is_refused_in_one_line(tmp_path: Path, content, says):
    (tmp_path / "real.json").write_text(content)
    with pytest.raises(BadData, match=says):
        read_real_labels(tmp_path / "real.json")


def test_other_images_are_refused_in_one_line(tmp_path: Path, real):
    with pytest.raises(BadData, match="cannot be read"):
        read_real_labels(tmp_path / "none.json")
    with pytest.raises(BadData, match="this data has 2 others"):
        sets_of(Validation(NAMES[:3], ("a", "b")), None, real)
    with pytest.raises(BadData, match="n01440764_18.JPEG: reassessed labels are for the validation images"):
        sets_of(Validation(["train/n01440764_18.JPEG"]), None, real)
