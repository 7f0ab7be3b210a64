import hashlib

import numpy as np
import pytest

from allmlp.data import open_data
from allmlp.data.dataset import Data, ImageDataset
from allmlp.data.digits import open_digits
from allmlp.data.scenes import COPIES, Scenes, scene

# Of all images and opacities of a split, in order: figures on other images do not compare.
SHA256 = {"train": "a6fd5c031d0786e05add22f040b07eae0a93052d159d3b9ff2502e018742f27d",
          "test": "f587b103a4c7d34395a1c4c4d4ff30b9b302c668de19e2249e263785629ff529"}


@pytest.fixture(scope="module")
def scenes() -> Data:
    return open_data("digit-scenes")


@pytest.mark.parametrize("split, count", [("train", 5748), ("test", 1440)])
def test_the_scenes_are_the_ones_that_published_figures_were_measured_on(split: str, count: int, scenes: Data):
    part = scenes.splits[split]
    assert isinstance(part, Scenes)
    assert isinstance(part, ImageDataset)
    assert part.images.shape == (count, 32, 32, 3)
    assert hashlib.sha256(part.images.tobytes() + part.opacity.tobytes()).hexdigest() == SHA256[split]


def test_each_digit_has_its_scenes_with_its_label_in_its_own_split(scenes: Data):
    digits = open_digits()
    for name, part in scenes.splits.items():
        sources = digits.splits[name]
        for index in range(0, len(part), 97):
            which, copy = divmod(index, COPIES)
            assert part.name(index) == f"digit-scenes/{sources.name(which).removeprefix('digits/')}/{copy}"
            assert part.labels[index] == sources.labels[which]


def test_the_mask_is_where_the_digit_is(scenes: Data):
    part = scenes.splits["test"]
    assert isinstance(part, Scenes)
    brighter = 0
    for index in range(200):
        mask, grey = part.mask(index), part.image(index).mean(2)
        assert mask.shape == (32, 32)
        assert 20 < mask.sum() < 400
        brighter += grey[mask].mean() > grey[~mask].mean() + 20
    assert brighter == 200  # light digits on dark backgrounds


def test_without_ink_a_scene_is_background_and_a_solid_digit_fills_its_frame():
    empty, nothing = scene(np.zeros((8, 8), np.uint8), 0, 0)
    solid, frame = scene(np.full((8, 8), 255, np.uint8), 0, 0)
    assert nothing.max() == 0
    rows, columns = np.nonzero(frame)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert 22 <= height <= 28
    assert frame.sum() == 255 * height * width
    np.testing.assert_array_equal(solid[frame == 0], empty[frame == 0])
    assert len(np.unique(solid[frame == 255], axis=0)) == 1
