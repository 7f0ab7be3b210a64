"""Test-time augmentation beside torchvision's crops, one after another."""

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional as F

from allmlp.errors import BadSetting
from allmlp.evaluate.tta import VIEWS, Averaged, uncropped
from allmlp.preprocess import Preprocess, fit

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)


class Linear:
    """A predictor whose logits are fixed sums of pixels, so that a view too many or moved by a pixel shows."""

    classes, output = ("a", "b"), "softmax"

    def __init__(self, preprocess: Preprocess):
        self.preprocess = preprocess
        self.weight = np.random.default_rng(1).normal(size=(int(np.prod(preprocess.image_size)) * 3, 2))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        assert images.shape[1:] == (*self.preprocess.image_size, 3)
        return (images.reshape(len(images), len(self.weight)) @ self.weight / 1000).astype(np.float32)


@pytest.mark.parametrize("resize", ["shorter", "squash_crop"])
@pytest.mark.parametrize("views", VIEWS)
def test_logits_are_the_mean_over_torchvisions_views(views, resize):
    linear = Linear(Preprocess(image_size=(14, 21), crop_ratio=0.7, resize=resize))
    averaged = Averaged(linear, views)
    box = (14, 21) if views == "flip" else (20, 30)
    assert averaged.preprocess.image_size == box
    image = fit(PHOTO, averaged.preprocess)
    picture = Image.fromarray(image)
    pictures = {"flip": lambda: (picture, F.hflip(picture)), "crops5": lambda: F.five_crop(picture, [14, 21]),
                "crops10": lambda: F.ten_crop(picture, [14, 21])}[views]()
    expected = linear(np.stack([np.asarray(each) for each in pictures])).mean(0)
    found = averaged(np.stack([image, image]))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-4
    assert averaged(image[None][:0]).shape == (0, 2)


@pytest.mark.parametrize("resize", ["shorter", "squash_crop"])
def test_crops_are_taken_from_the_image_as_it_is_before_the_central_crop(resize):
    preprocess = Preprocess(image_size=(14, 20), crop_ratio=0.7, resize=resize)
    larger = fit(PHOTO, uncropped(preprocess))
    top, left = (larger.shape[0] - 14) // 2, (larger.shape[1] - 20) // 2
    assert np.array_equal(larger[top : top + 14, left : left + 20], fit(PHOTO, preprocess))


@pytest.mark.parametrize("preprocess", [
    Preprocess(image_size=(8, 8), crop_ratio=1.0), Preprocess(image_size=(8, 8), crop_ratio=0.95),
    Preprocess(image_size=(80, 80), resize="squash"),
], ids=["no margin", "less than a pixel", "squashed"])  # fmt: skip
def test_crops_without_a_margin_are_refused_in_one_line(preprocess):
    with pytest.raises(BadSetting, match="crops need a margin"):
        Averaged(Linear(preprocess), "crops5")
    assert Averaged(Linear(preprocess), "flip").preprocess == preprocess
