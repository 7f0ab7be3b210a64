import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from allmlp.data.batch import augment_batch, cutmix
from allmlp.data.seeds import generator
from allmlp.recipe import Affine, Augment

# Sampling places in float32 are known to about 1e-5 pixel, and a neighbour may differ by 255.
PIXEL_TOLERANCE = 2e-2
ALL_RANGES = Affine(degrees=40, translate=0.2, scale=0.3, shear=20)


def noise(n: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def numbered(n: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that are everywhere their own number, and each a class of its own: a mixture tells what went into it."""
    images = torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, 3, height, width).contiguous()
    return images, torch.eye(n)


def drawn(n: int, seed: int, step: int) -> np.ndarray:
    """The draws in [-1, 1] behind an affine augmentation: rotation, shift right, shift down, scale, shear."""
    return generator(seed, "affine", step).uniform(-1, 1, (n, 5))


def only_affine(images: torch.Tensor, ranges: Affine, seed: int = 0, step: int = 0) -> torch.Tensor:
    targets = torch.eye(len(images))
    result, same_targets = augment_batch(images, targets, Augment(affine=ranges), seed, step)
    assert torch.equal(same_targets, targets)
    return result


# --- affine ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (20, 31), (1, 5)])
@pytest.mark.parametrize("ranges", [ALL_RANGES, Affine(degrees=180), Affine(shear=45), Affine(translate=1.0),
                                    ALL_RANGES.with_(outside="black")])
def test_affine_maps_are_those_of_torchvision(size, ranges):
    height, width = size
    images = noise(6, height, width)
    result = only_affine(images, ranges, seed=5, step=7)
    # Repeated edges in torchvision: make the picture so large that its own border is out of reach. The padding is the
    # same on both sides, so the centre stays.
    reach = 3 * max(size) + 4
    mode = "replicate" if ranges.outside == "border" else "constant"
    padded = torch.nn.functional.pad(images.float(), [reach] * 4, mode=mode)
    for image, moved, (turn, right, down, scale, shear) in zip(padded, result, drawn(6, 5, 7), strict=True):
        expected = tv.affine(
            image, angle=ranges.degrees * turn,
            translate=[ranges.translate * width * right, ranges.translate * height * down],
            scale=1 + ranges.scale * scale, shear=[ranges.shear * shear, 0.0], interpolation=InterpolationMode.BILINEAR,
        )[:, reach:-reach, reach:-reach]
        torch.testing.assert_close(moved, expected, rtol=0, atol=PIXEL_TOLERANCE)


def test_a_shift_moves_a_mark_right_and_down_by_the_drawn_share_of_the_side():
    height, width, n = 24, 40, 16
    images = torch.zeros(n, 3, height, width)
    images[:, :, 12, 20] = 200.0
    result = only_affine(images, Affine(translate=0.25), step=3)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for image, (_, right, down, _, _) in zip(result[:, 0], drawn(n, 0, 3), strict=True):
        assert image.sum().item() == pytest.approx(200, rel=1e-4)  # bilinear sampling spreads the mark, no more
        assert (image * x).sum().item() / 200 - 20 == pytest.approx(0.25 * width * right, abs=1e-2)
        assert (image * y).sum().item() / 200 - 12 == pytest.approx(0.25 * height * down, abs=1e-2)


def test_each_image_of_a_batch_is_moved_in_its_own_way():
    one = noise(1, 12, 12).expand(8, -1, -1, -1)
    assert len(only_affine(one, ALL_RANGES).flatten(1).unique(dim=0)) == 8


@pytest.mark.parametrize("size", [(8, 8), (5, 9)])
def test_affine_without_ranges_is_the_identity(size):
    images = noise(3, *size)
    assert torch.equal(only_affine(images, Affine()), images.float())
    nearly_none = Affine(degrees=1e-6, translate=1e-9)  # which goes through the sampling
    torch.testing.assert_close(only_affine(images, nearly_none), images.float(), rtol=0, atol=PIXEL_TOLERANCE)


def test_edges_are_repeated_so_that_a_flat_image_stays_flat():
    images = torch.full((4, 3, 10, 10), 77, dtype=torch.uint8)
    torch.testing.assert_close(only_affine(images, Affine(degrees=180, translate=1.0, scale=0.9)),
                               torch.full((4, 3, 10, 10), 77.0), rtol=0, atol=1e-3)


def test_autocast_does_not_touch_the_sampling_places():
    images = noise(4, 60, 200)
    expected = only_affine(images, ALL_RANGES)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(only_affine(images, ALL_RANGES), expected)


# --- mixup and CutMix ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 9), alpha=st.floats(1e-3, 10), step=st.integers(0, 10**6))
def test_mixup_mixes_images_and_targets_with_one_share(n, alpha, step):
    images, targets = numbered(n, 3, 5)
    mixed, mixed_targets = augment_batch(images, targets, Augment(mixup=alpha), 0, step)
    share = mixed_targets[0, 0].item()
    assert 0 <= share <= 1
    torch.testing.assert_close(mixed_targets, share * targets + (1 - share) * targets[[-1, *range(n - 1)]])
    for i in range(n):
        torch.testing.assert_close(mixed[i], torch.full((3, 3, 5), share * i + (1 - share) * ((i - 1) % n)),
                                   rtol=1e-5, atol=1e-5)


@settings(max_examples=80, deadline=None)
@given(n=st.integers(2, 6), height=st.integers(1, 17), width=st.integers(1, 17), alpha=st.floats(1e-3, 10),
       step=st.integers(0, 10**6))
def test_cutmix_pastes_one_box_and_its_area_is_the_share_of_the_partner(n, height, width, alpha, step):
    images, targets = numbered(n, height, width)
    mixed, mixed_targets = augment_batch(images, targets, Augment(cutmix=alpha), 0, step)
    foreign = mixed != images
    for i in range(n):
        assert torch.equal(foreign[i, 0], foreign[0, 0])  # the same place in each image and channel
        assert torch.equal(mixed[i], torch.where(foreign[i], float((i - 1) % n), float(i)))
    rows, columns = foreign[0, 0].any(1).sum().item(), foreign[0, 0].any(0).sum().item()
    assert foreign[0, 0].sum().item() == rows * columns  # a full box
    torch.testing.assert_close(mixed_targets.sum(1), torch.ones(n))
    assert mixed_targets[1, 0].item() == pytest.approx(rows * columns / (height * width), abs=1e-6)


def test_the_box_of_cutmix_has_the_area_of_its_share_where_no_border_cuts_it():
    images, targets = numbered(2, 32, 64)
    pasted = [cutmix(images, targets, 0.75, generator(step))[1][0, 1].item() for step in range(200)]
    assert max(pasted) == 0.25
    assert 0.05 <= min(pasted) < 0.1  # at a corner of the image a quarter of the box is left
    assert min(cutmix(images, targets, 0.0, generator(step))[1][0, 0].item() for step in range(200)) < 0.05


@pytest.mark.parametrize("augment", [Augment(mixup=0.8), Augment(cutmix=1.0), Augment(mixup=0.8, cutmix=1.0)])
def test_a_batch_of_one_image_is_mixed_with_itself(augment):
    images, targets = noise(1, 6, 6), torch.tensor([[0.0, 1.0, 0.0]])
    for step in range(20):
        mixed, mixed_targets = augment_batch(images, targets, augment, 0, step)
        torch.testing.assert_close(mixed, images.float(), rtol=1e-6, atol=0)
        torch.testing.assert_close(mixed_targets, targets)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_of_mixup_are_beta_distributed(alpha):
    images, targets = numbered(2, 1, 1)
    shares = np.array([augment_batch(images, targets, Augment(mixup=alpha), 1, step)[1][0, 0].item()
                       for step in range(2000)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert shares.mean() == pytest.approx(0.5, abs=4 * math.sqrt(variance / 2000))
    assert shares.var() == pytest.approx(variance, rel=0.15)  # 4 standard deviations at alpha = 4, more at the others


def test_googles_mixup_folds_the_share_so_that_an_image_keeps_the_larger_part():
    images, targets = numbered(4, 2, 2)
    for step in range(50):
        drawn = augment_batch(images, targets, Augment(mixup=0.5), 3, step)[1][0, 0].item()
        mixed, mixed_targets = augment_batch(images, targets, Augment(mixup=0.5, mixup_kind="google"), 3, step)
        share = max(drawn, 1 - drawn)
        torch.testing.assert_close(mixed_targets, share * targets + (1 - share) * targets.roll(1, 0))
        torch.testing.assert_close(mixed, share * images + (1 - share) * images.roll(1, 0))


def test_timms_mixup_and_cutmix_are_those_of_timm(monkeypatch):
    """timm's own Mixup, as DeiT builds it, on our draws: both draw the choice, the share, then the box from numpy.

    Where a side of the box is odd, timm gives it one pixel more since 2023; DeiT's timm and CutMix's own code do not.
    """
    from timm.data import Mixup

    images, targets = torch.randn(6, 3, 32, 20, generator=torch.Generator().manual_seed(0)) * 40 + 128, torch.eye(6)
    theirs = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5, label_smoothing=0.0, num_classes=6)
    augment = Augment(mixup=0.8, cutmix=1.0, mixup_kind="timm")
    for step in range(40):
        draws = generator(1, "mix", step)

        class Rand:  # timm asks first whether to mix at all, which with probability 1 is always
            asked = 0

            def __call__(self, draws=draws):
                self.asked += 1
                return 0.0 if self.asked == 1 else draws.random()

        monkeypatch.setattr(np.random, "rand", Rand())
        monkeypatch.setattr(np.random, "beta", draws.beta)
        monkeypatch.setattr(np.random, "randint", lambda low, high, size=None, draws=draws: draws.integers(low, high))
        expected, expected_targets = theirs(images.clone(), torch.arange(6))
        mixed, mixed_targets = augment_batch(images, targets, augment, 1, step)
        whole = ((mixed == images) | (mixed == images.flip(0))).all()
        if not whole:  # mixup
            torch.testing.assert_close(mixed, expected)
            torch.testing.assert_close(mixed_targets, expected_targets)
            continue
        sides = [[int((result != images).any(0).any(0).any(axis).sum()) for axis in (0, 1)]
                 for result in (mixed, expected)]
        assert all(theirs - ours in (0, 1) for ours, theirs in zip(*sides, strict=True))
        assert mixed_targets[0, 0].item() == pytest.approx(1 - math.prod(sides[0]) / (32 * 20))
        both = mixed != images
        assert torch.equal(mixed[both], expected[both])


@pytest.mark.parametrize(("probability", "fewest", "most"), [(0.0, 0, 0), (0.3, 92, 148), (1.0, 400, 400)])
def test_cutmix_takes_its_share_of_the_steps_where_both_are_on(probability, fewest, most):
    images, targets = numbered(2, 64, 64)
    augment = Augment(mixup=1.0, cutmix=1.0, cutmix_probability=probability)
    whole = sum(bool((mixed == mixed.round()).all())  # CutMix leaves whole pixels
                for mixed, _ in (augment_batch(images, targets, augment, 2, step) for step in range(400)))
    assert fewest <= whole <= most  # 120 +- 3 standard deviations of a binomial


# --- all of it -------------------------------------------------------------------------------------------------------

EVERYTHING = Augment(affine=ALL_RANGES, mixup=0.8, cutmix=1.0)


def test_seed_and_step_decide_and_nothing_else():
    images, targets = noise(5, 10, 14), torch.eye(5)
    first = augment_batch(images, targets, EVERYTHING, 3, 4)
    torch.manual_seed(99)
    again = augment_batch(images, targets, EVERYTHING, 3, 4)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    for seed, step in [(3, 5), (4, 4)]:
        assert not torch.equal(first[0], augment_batch(images, targets, EVERYTHING, seed, step)[0])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("augment", [Augment(), EVERYTHING, Augment(cutmix=1.0), Augment(mixup=0.5)])
def test_images_stay_pixel_values_and_the_arguments_stay_as_they_are(dtype, augment):
    images, targets = noise(6, 9, 9).to(dtype), torch.eye(6)
    before = images.clone()
    for step in range(5):
        result, mixed_targets = augment_batch(images, targets, augment, 0, step)
        assert result.dtype == mixed_targets.dtype == torch.float32
        assert result.shape == images.shape
        assert result.min() >= 0
        assert result.max() <= 255 * (1 + 1e-6)
    assert torch.equal(images, before)
    assert torch.equal(targets, torch.eye(6))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_gpu_augments_like_the_cpu():
    images, targets = noise(16, 33, 20), torch.eye(16)
    for step in range(10):
        here, there = (augment_batch(images.to(device), targets.to(device), EVERYTHING, 0, step)
                       for device in ("cpu", "cuda"))
        torch.testing.assert_close(there[0].cpu(), here[0], rtol=0, atol=PIXEL_TOLERANCE)
        torch.testing.assert_close(there[1].cpu(), here[1])
