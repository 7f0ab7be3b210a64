"""Google's RandAugment against PIL, which its operations imitate, and against its formulas in numpy."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from allmlp.data import randaugment
from allmlp.data.randaugment import FILL, OPERATIONS

GREY_LEVELS = 2  # PIL weighs colours in 16-bit integers and rounds; TensorFlow cuts after float32


def photo(height: int = 40, width: int = 52) -> np.ndarray:
    """Smooth colours with noise, over part of the range."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([120 + 60 * np.sin(x / 9), 100 + 70 * np.cos(y / 7), 90 + (x + y)], 2)
    return (smooth + np.random.default_rng(0).normal(0, 12, smooth.shape)).clip(20, 230).astype(np.uint8)


def pil(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image)


class Fixed:
    """Draws whose sign is known: `random` says + below one half."""

    def __init__(self, value: float):
        self.value = value

    def random(self) -> float:
        return self.value

    def integers(self, high: int) -> int:
        return high // 2


PLUS, MINUS = Fixed(0.1), Fixed(0.9)


@pytest.mark.parametrize("magnitude", [0, 3, 10, 15, 20])
def test_operations_on_single_values_are_pils_at_the_published_strength(magnitude):
    image = photo()
    level = magnitude / 10
    bits = {0: 1, 3: 1, 10: 4, 15: 6, 20: 8}[magnitude]
    threshold = {0: 0, 3: 76, 10: 256, 15: 384, 20: 512}[magnitude]
    added = {0: 0, 3: 33, 10: 110, 15: 165, 20: 220}[magnitude]
    expected = {
        "invert": 255 - image,
        "auto_contrast": np.stack([(channel.astype(int) - channel.min()) * 255 // (int(channel.max()) - channel.min())
                                   for channel in image.transpose(2, 0, 1)], 2),  # PIL's, in whole numbers
        "equalize": ImageOps.equalize(pil(image)),
        "posterize": ImageOps.posterize(pil(image), bits),
        "solarize": pil(image).point([v if v < threshold else 255 - v for v in range(256)] * 3),
        "solarize_add": pil(image).point([min(v + added, 255) if v < 128 else v for v in range(256)] * 3),
    }
    for name, wanted in expected.items():
        np.testing.assert_array_equal(OPERATIONS[name](image, level, PLUS), np.asarray(wanted), err_msg=name)


@pytest.mark.parametrize("magnitude", [0, 5, 15])
def test_enhancements_are_pils_with_a_factor_beyond_one(magnitude):
    image, factor = photo(), {0: 0.1, 5: 1.0, 15: 2.8}[magnitude]
    for name, enhance in {"colour": ImageEnhance.Color, "contrast": ImageEnhance.Contrast,
                          "brightness": ImageEnhance.Brightness}.items():
        found = OPERATIONS[name](image, magnitude / 10, PLUS).astype(int)
        wanted = np.asarray(enhance(pil(image)).enhance(factor)).astype(int)
        assert np.abs(found - wanted).max() <= GREY_LEVELS * max(1.0, factor), name


@pytest.mark.parametrize("factor", [0.1, 0.9, 2.8])
def test_sharpness_extrapolates_from_pils_smooth_filter_and_leaves_the_border(factor):
    image = photo()
    smooth = np.asarray(pil(image).filter(ImageFilter.SMOOTH)).astype(float)
    wanted = (smooth + factor * (image - smooth)).clip(0, 255)
    found = randaugment.sharpness(image, factor)
    assert np.abs(found - wanted)[1:-1, 1:-1].max() <= 1 + abs(1 - factor)  # PIL rounds the smooth image, TF cuts it
    border = np.ones(image.shape[:2], bool)
    border[1:-1, 1:-1] = False
    np.testing.assert_array_equal(found[border], image[border])


@pytest.mark.parametrize("magnitude", [4, 15])
@pytest.mark.parametrize("draws", [PLUS, MINUS])
def test_geometry_takes_the_nearest_pixel_and_fills_with_grey(magnitude, draws):
    """PIL's transform samples at pixel centres, so its offsets are those of a map about (0.5, 0.5)."""
    image, sign, level = photo(), 1 if draws is PLUS else -1, magnitude / 10
    slant = sign * 0.3 * level
    moved = round(100 * level) * sign
    maps = {"shear_x": (1, slant, -slant / 2, 0, 1, 0), "shear_y": (1, 0, 0, slant, 1, -slant / 2),
            "translate_x": (1, 0, -moved, 0, 1, 0), "translate_y": (1, 0, 0, 0, 1, -moved)}
    for name, map_ in maps.items():
        wanted = pil(image).transform(pil(image).size, Image.Transform.AFFINE, map_, fillcolor=(FILL,) * 3)
        found = OPERATIONS[name](image, level, draws)
        different = (found != np.asarray(wanted)).any(2).mean()
        assert different < 0.06, name  # at slants of 0.12 and 0.45 some places are half way between two pixels
    turned = pil(image).rotate(sign * 30 * level, fillcolor=(FILL,) * 3)
    assert (OPERATIONS["rotate"](image, level, draws) != np.asarray(turned)).any(2).mean() < 0.02


def test_cutout_is_a_grey_box_cut_at_the_border():
    image = photo(200, 300)
    found = OPERATIONS["cutout"](image, 1.5, PLUS)  # half size 60, middle (100, 150)
    box = np.zeros((200, 300), bool)
    box[40:160, 90:210] = True
    np.testing.assert_array_equal(found[box], FILL)
    np.testing.assert_array_equal(found[~box], image[~box])
    assert (OPERATIONS["cutout"](photo(20, 30), 1.5, PLUS) == FILL).all()


def test_sixteen_operations_are_drawn_alike_and_with_replacement(monkeypatch):
    counts = dict.fromkeys(OPERATIONS, 0)
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda image, level, draws, name=name: counts.update(
            {name: counts[name] + 1}) or image)
    draws = np.random.default_rng(0)
    for _ in range(1600):
        randaugment.rand_augment(photo(4, 4), 2, 15, draws)
    assert len(counts) == 16
    assert sum(counts.values()) == 3200
    assert all(140 < count < 260 for count in counts.values())  # 200 expected, 4 standard deviations are 55


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (31, 17)])
@pytest.mark.parametrize("magnitude", [0, 15, 30])
def test_every_operation_keeps_shape_and_kind_and_leaves_its_argument(size, magnitude):
    image = photo(*size)
    image.flags.writeable = False
    for name, operation in OPERATIONS.items():
        found = operation(image, magnitude / 10, np.random.default_rng(1))
        assert (found.shape, found.dtype) == (image.shape, np.uint8), name


def test_a_flat_image_stays_flat_under_operations_of_its_histogram():
    flat = np.full((6, 6, 3), 77, np.uint8)
    for name in ("auto_contrast", "equalize", "contrast", "sharpness"):
        np.testing.assert_array_equal(OPERATIONS[name](flat, 1.5, PLUS), flat)
