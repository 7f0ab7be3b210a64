"""TensorFlow's random box by its own definition, and the random crop of fine-tuning."""

import numpy as np
import pytest
import torch

from allmlp.data.augment import image_augmentation
from allmlp.data.crop import ASPECTS, inception_box
from allmlp.preprocess import Preprocess
from allmlp.recipe import Augment


@pytest.mark.parametrize("size", [(300, 400), (500, 200), (7, 9), (1, 1)])
@pytest.mark.parametrize("area", [(0.05, 1.0), (0.3, 0.4)])
def test_a_box_lies_inside_and_has_its_share_of_the_area_and_an_aspect_in_range(size, area):
    draws = np.random.default_rng(0)
    for _ in range(300):
        top, left, height, width = inception_box(*size, area, draws)
        assert 0 <= top <= top + height <= size[0]
        assert 0 <= left <= left + width <= size[1]
        if (height, width) == size:  # or the whole image, where nothing else would do
            continue
        share = height * width / (size[0] * size[1])
        assert area[0] <= share <= area[1]
        assert ASPECTS[0] - 0.5 / height <= width / height <= ASPECTS[1] + 0.5 / height


def test_heights_are_uniform_where_the_image_is_wide_enough():
    """With the aspect A, TensorFlow draws the height uniformly in sqrt(area / A) of the range: height · sqrt(A) is."""
    draws = np.random.default_rng(1)
    side = 1000
    boxes = [inception_box(side, 2 * side, (0.05, 0.3), draws) for _ in range(4000)]
    diameters = np.sqrt([height * width / (2 * side**2) for _, _, height, width in boxes])
    low, high = 0.05**0.5, 0.3**0.5
    uniform = (diameters - low) / (high - low)
    assert np.abs(np.sort(uniform) - np.linspace(0, 1, 4000)).max() < 1.63 / 4000**0.5  # Kolmogorov-Smirnov, 1 %
    aspects = np.array([width / height for _, _, height, width in boxes])
    assert np.abs(np.sort((aspects - 0.75) / 0.58) - np.linspace(0, 1, 4000)).max() < 1.63 / 4000**0.5


def test_an_inception_crop_is_resampled_bilinearly_without_antialiasing():
    """Each value is, to its rounding, the linear function of the place that the image is: nothing is averaged wider."""
    y, x = np.mgrid[:256, :256].astype(np.uint8)
    image = np.stack([x, y, x], 2)
    augment = Augment(random_resized_crop=(0.2, 0.4), random_crop_kind="inception")
    noisy = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    augmentation = image_augmentation(augment, Preprocess(image_size=(16, 16)))
    for seed in range(20):
        crop = augmentation(image, seed).double()
        steps = crop[0].diff(dim=1)
        assert (steps - steps.mean()).abs().max() <= 1  # evenly spaced places
        assert augmentation(noisy, seed).double().std() > 40  # averaging some 64 pixels would leave 9


def test_a_random_crop_is_a_part_of_the_evaluations_resized_image():
    preprocess = Preprocess(image_size=(8, 8), crop_ratio=0.5, interpolation="nearest")
    image = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    augmentation = image_augmentation(Augment(random_crop=True), preprocess)
    whole = torch.from_numpy(image).permute(2, 0, 1)
    found = set()
    for seed in range(400):
        crop = augmentation(image, seed)
        places = [(top, left) for top in range(9) for left in range(13)
                  if torch.equal(whole[:, top : top + 8, left : left + 8], crop)]
        assert len(places) == 1
        found |= set(places)
    assert {top for top, _ in found} == set(range(9))
    assert {left for _, left in found} == set(range(13))
