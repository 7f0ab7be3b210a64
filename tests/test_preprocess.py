"""Geometry and normalisation against torchvision's transforms on PIL images, to the pixel."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from allmlp.errors import BadData, BadSetting
from allmlp.preprocess import HALF, IMAGENET_MEAN, IMAGENET_STD, Preprocess, fit, normalise, resized_size


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(height // 4, 1), max(width // 4, 1), 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)


SIZES = [(300, 200), (200, 300), (224, 224), (257, 255), (50, 400), (640, 481), (33, 35), (1, 7)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side,ratio,resized", [(224, 0.875, 256), (224, 0.9, 248), (224, 1.0, 224), (32, 0.875, 36)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_shorter_side_and_central_crop_equal_torchvision(size, side, ratio, resized, interpolation):
    image = picture(*size)
    mode = InterpolationMode(interpolation)
    preprocess = Preprocess(image_size=(side, side), crop_ratio=ratio, interpolation=interpolation)
    if size == (side, side):
        expected = np.asarray(image)  # an image of the right size stays as it is, where timm resizes and crops
    else:
        expected = np.asarray(CenterCrop(side)(Resize(resized, mode)(image)))
    assert np.array_equal(fit(image, preprocess), expected)


@pytest.mark.parametrize("size", SIZES)
def test_squash_and_squash_crop_equal_torchvision(size):
    image, bicubic = picture(*size), InterpolationMode.BICUBIC
    squash = Preprocess(image_size=(24, 40), resize="squash")
    assert np.array_equal(fit(image, squash), np.asarray(Resize((24, 40), bicubic)(image)))
    crop = Preprocess(image_size=(112, 224), resize="squash_crop")
    assert np.array_equal(fit(image, crop), np.asarray(CenterCrop((112, 224))(Resize((128, 256), bicubic)(image))))


@pytest.mark.parametrize("size", [*SIZES, (1, 3000), (700, 3)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_of_a_long_image_the_middle_alone_gives_what_the_whole_does(size, interpolation, monkeypatch):
    image = picture(*size)
    for ways in ({"image_size": (20, 32)}, {"image_size": (36, 20), "resize": "squash_crop"}):
        preprocess = Preprocess(**ways, interpolation=interpolation)
        whole = fit(image, preprocess).astype(int)
        monkeypatch.setattr("allmlp.preprocess.MOST_RESIZED", 0)
        monkeypatch.setattr("allmlp.preprocess.MOST_TIMES", 0)
        assert np.abs(fit(image, preprocess) - whole).max() <= 1  # the same sums, begun elsewhere
        monkeypatch.undo()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system has no /proc")
def test_an_image_of_a_single_row_takes_no_more_memory_than_others():
    code = """
import resource
import numpy as np
from allmlp.preprocess import Preprocess, fit
fit(np.zeros((300, 400, 3), np.uint8), Preprocess(image_size=(224, 224)))  # whatever is loaded at first use
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), resource.getrlimit(resource.RLIMIT_AS)[1]))
row = np.arange(100_000 * 3).reshape(1, -1, 3).astype(np.uint8)
for way in (row, row.swapaxes(0, 1).copy()):
    assert fit(way, Preprocess(image_size=(224, 224))).shape == (224, 224, 3)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@settings(deadline=None, max_examples=200)
@given(width=st.integers(1, 500), height=st.integers(1, 500), target=st.tuples(st.integers(1, 80), st.integers(1, 80)),
       ratio=st.floats(0.5, 1))
def test_the_resized_image_covers_the_crop_and_keeps_its_aspect(width, height, target, ratio):
    preprocess = Preprocess(image_size=target, crop_ratio=ratio)
    got_width, got_height = resized_size((width, height), preprocess)
    assert got_width >= target[1]
    assert got_height >= target[0]
    scale = max(got_width / width, got_height / height)
    assert abs(got_width - scale * width) < 1
    assert abs(got_height - scale * height) < 1


@pytest.mark.parametrize("mean,std", [(HALF, HALF), (IMAGENET_MEAN, IMAGENET_STD), ((0, 0, 0), (1, 1, 1))])
def test_normalisation_is_the_formula(mean, std):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), np.uint8)
    got = normalise(torch.from_numpy(pixels), Preprocess(image_size=(4, 5), mean=mean, std=std)).numpy()
    expected = (pixels / 255 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_one_channel_is_the_grey_value_that_pil_computes():
    image = picture(20, 10)
    grey = np.asarray(image.convert("L")) / 255
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None]
    got = normalise(pixels, Preprocess(image_size=(10, 20), channels=1))
    assert got.shape == (1, 1, 10, 20)
    np.testing.assert_allclose(got[0, 0].numpy(), (grey - 0.5) / 0.5, atol=1.01 / 255)  # PIL rounds to 1/255, x 2 / 2


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32),
                                   np.zeros((0, 4, 3), np.uint8)])
def test_arrays_that_are_no_rgb_images_are_refused(array):
    with pytest.raises(BadData, match="uint8"):
        fit(array, Preprocess(image_size=(4, 4)))


@pytest.mark.parametrize("fields", [{"image_size": (0, 4)}, {"image_size": (4, 4), "crop_ratio": 0},
                                    {"image_size": (4, 4), "std": (0, 1, 1)},
                                    {"image_size": (4, 4), "resize": "stretch"}, {"image_size": (4, 4), "sise": 3}])
def test_impossible_settings_are_refused_in_one_line(fields):
    with pytest.raises(BadSetting) as error:
        Preprocess(**fields)
    assert "\n" not in str(error.value)
