"""DeiT's augmentation against timm's own transforms and definitions."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from allmlp.data.augment import image_augmentation
from allmlp.data.deit import TimmRandAugment
from allmlp.data.loader import Loader
from allmlp.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from allmlp.recipe import Augment

IMAGENET = Preprocess(image_size=(48, 48), mean=IMAGENET_MEAN, std=IMAGENET_STD)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)


def test_rand_augment_is_timms_with_deits_words():
    """The same random numbers through timm itself, as DeiT calls it for 48 pixels, give each image."""
    policy = rand_augment_transform("rand-m9-mstd0.5-inc1", {
        "translate_const": 21, "img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC})
    augment = Augment(rand_augment=2, rand_augment_kind="timm", rand_augment_magnitude=9)
    augmentation, image = image_augmentation(augment, IMAGENET), noise()
    for seed in range(40):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            drawn = int(torch.randint(2**32, ()))
        random.seed(drawn)
        np.random.seed(drawn)  # noqa: NPY002
        expected = np.asarray(policy(Image.fromarray(image)))
        np.testing.assert_array_equal(augmentation(image, seed).permute(1, 2, 0).numpy(), expected)


def test_posterizing_at_the_strongest_level_is_black():
    """Level 10 keeps 4 - int(4) = 0 bits; magnitude 9 with a deviation of 0.5 comes to it in one operation of 44."""
    augment = Augment(rand_augment=2, rand_augment_kind="timm", rand_augment_magnitude=10, rand_augment_deviation=0)
    transform = TimmRandAugment(augment, IMAGENET, [124, 116, 104])
    (operation,) = [found for found in transform.operations.ops if found.name.startswith("Posterize")]
    operation.prob = 1.0
    assert not np.asarray(operation(Image.fromarray(noise()))).any()
    operation.magnitude = 8  # 4 - int(3.2) bits
    np.testing.assert_array_equal(np.asarray(operation(Image.fromarray(noise()))), noise() & 0x80)


def test_erasing_puts_unit_noise_into_normalised_images_cut_to_pixel_values():
    augment = Augment(random_erasing=1.0, random_erasing_kind="noise")
    augmentation, flat = image_augmentation(augment, IMAGENET), np.full((48, 48, 3), 7, np.uint8)
    noise_values, areas, aspects = [], [], []
    for seed in range(300):
        result = augmentation(flat, seed).numpy().transpose(1, 2, 0)
        rows, columns = ((result != 7).any(axis=(axis, 2)).nonzero()[0] for axis in (1, 0))
        box = result[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        areas.append(box.shape[0] * box.shape[1] / 48**2)
        aspects.append(box.shape[0] / box.shape[1])
        noise_values.append((box.reshape(-1, 3) / 255 - IMAGENET_MEAN) / IMAGENET_STD)
    values = np.concatenate(noise_values)
    inside = (values > -2) & (values < 2)  # where nothing is cut
    assert values.mean(0) == pytest.approx(np.zeros(3), abs=0.02)
    assert inside.mean() == pytest.approx(0.9545, abs=0.01)
    assert np.where(inside, values, 0).std() == pytest.approx(0.8796 * 0.9545**0.5, abs=0.02)  # of a normal cut at 2
    assert 0.015 < min(areas) < 0.05
    assert 0.28 < max(areas) < 0.36
    assert np.log(aspects).mean() == pytest.approx(0, abs=0.15)
    assert 0.25 < min(aspects) < 0.5


def test_erasing_comes_as_often_as_asked():
    augmentation = image_augmentation(Augment(random_erasing=0.25, random_erasing_kind="noise"), IMAGENET)
    flat = np.full((48, 48, 3), 7, np.uint8)
    erased = sum(bool((augmentation(flat, seed) != 7).any()) for seed in range(800))
    assert 150 < erased < 250  # 200 expected, 4 standard deviations are 49


class Noisy:
    """768 small images."""

    classes, labels = ("a",), np.zeros(768, np.int64)

    def __len__(self) -> int:
        return 768

    def image(self, index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)

    def name(self, index: int) -> str:
        return str(index)


def test_an_epoch_with_repeats_shows_as_many_images_as_deits_sampler_each_as_often():
    """DeiT's RASampler in one process: each index three times, as many as the data set has, cut to a multiple of 256.

    Three copies of an image share a batch, as they do over DeiT's processes, and each is augmented in its own way.
    """
    shuffled = np.random.default_rng(0).permutation(768).tolist()
    deits = Counter([index for index in shuffled for _ in range(3)][: 768 // 256 * 256])
    augment = Augment(random_resized_crop=(0.3, 1.0), repeated=3)
    loader = Loader(Noisy(), Preprocess(image_size=(8, 8)), augment, batch_size=96, seed=0)
    seen: Counter[int] = Counter()
    for batch in loader.epoch(0):
        here = Counter(batch.indices.tolist())
        assert set(here.values()) == {3}
        seen += here
        copies = batch.images[batch.indices == batch.indices[0]]
        assert len(copies.flatten(1).unique(dim=0)) == 3
    assert sorted(seen.values()) == sorted(deits.values())
    assert len(seen) == 256
    other = {index for batch in loader.epoch(1) for index in batch.indices.tolist()}
    assert other != set(seen)
