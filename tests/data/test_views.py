"""Views of an image for DINO: crops of the right share, at one size, decided by the seed alone."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from allmlp.data.batch import augment_batch
from allmlp.data.digits import open_digits
from allmlp.data.loader import Loader
from allmlp.data.views import views_augmentation
from allmlp.preprocess import Preprocess
from allmlp.recipe import Affine, Augment, Dino

PLAIN = Dino(local_crops=3, local_image_size=None, colour=False)
SIZE = Preprocess(image_size=(24, 32))


def ramp(height: int = 120, width: int = 160) -> np.ndarray:
    """Red counts columns, green rows, so that a crop shows where it was taken."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(width), np.arange(height)[:, None]
    return image


def area(view: torch.Tensor) -> float:
    """The share of `ramp()` that a crop has, read off its colours (a resized ramp loses half a step at each end)."""
    height, width = view.shape[1:]
    span_x = (view[0].max() - view[0].min()).item() * width / (width - 1)
    span_y = (view[1].max() - view[1].min()).item() * height / (height - 1)
    return span_x * span_y / (120 * 160)


@pytest.mark.parametrize("local_size", [None, (12, 12), (40, 48)])
def test_two_large_crops_then_small_ones_all_at_the_networks_size(local_size):
    augmentation = views_augmentation(Augment(), PLAIN.with_(local_image_size=local_size), SIZE)
    areas = np.array([[area(view) for view in augmentation(ramp(), seed)] for seed in range(60)])
    assert augmentation(ramp(), 0).shape == (5, 3, 24, 32)
    assert augmentation(ramp(), 0).dtype == torch.uint8
    slack = 1.25  # whole pixels, and the ends of a ramp that resampling blunts
    assert (areas[:, :2] > 0.4 / slack).all()
    assert (areas[:, 2:] < 0.4 * slack).all()
    assert areas[:, 2:].min() < 0.12
    assert areas[:, :2].max() > 0.8


def test_the_seed_decides_everything_and_views_differ():
    augmentation = views_augmentation(Augment(horizontal_flip=0.5), PLAIN.with_(colour=True), SIZE)
    state = torch.random.get_rng_state()
    views = augmentation(ramp(), 7)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(augmentation(ramp(), 7), views)
    assert not torch.equal(augmentation(ramp(), 8), views)
    assert len({view.numpy().tobytes() for view in views}) == 5


def test_colours_are_dinos():
    """How often each happens, over many seeds: 80 % jitter, 20 % grey; blur always in the first view only."""
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)  # noise, which a blur would smooth
    dino = PLAIN.with_(colour=True, global_crops=(1.0, 1.0), local_scale=(1.0, 1.0), local_crops=1)
    augmentation = views_augmentation(Augment(), dino, SIZE)
    views = torch.stack([augmentation(image, seed) for seed in range(120)]).float()
    grey = (views.amax(2) - views.amin(2)).amax((-2, -1)) <= 1
    assert (grey.float().mean(0) - 0.2).abs().max() < 0.1
    rough = v2.functional.rgb_to_grayscale(views)[..., 0, :, :].diff(dim=-1).abs().mean((-2, -1))  # (seeds, views)
    always, rarely, half = rough.median(0).values
    assert always < 0.7 * rarely
    assert always < half < rarely


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_have_an_axis_of_views_and_each_is_moved_on_its_own(workers):
    train, preprocess = open_digits().splits["train"], Preprocess(image_size=(8, 8))
    loader = Loader(train, preprocess, Augment(), 300, 0, workers, dino=PLAIN)
    batch = next(iter(loader.epoch(0)))
    assert batch.images.shape == (300, 5, 3, 8, 8)
    targets = torch.eye(10)[batch.labels]
    still, same = augment_batch(batch.images, targets, Augment(), 0, 0)
    assert torch.equal(still, batch.images.float())
    assert same is targets
    one = batch.images[:1, :1].expand(4, 5, 3, 8, 8)
    moved, _ = augment_batch(one, targets[:4], Augment(affine=Affine(translate=0.2)), 0, 0)
    assert len({view.numpy().tobytes() for view in moved.flatten(0, 1)}) == 20
