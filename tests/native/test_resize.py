"""Images of any size in the engine: every pixel as Pillow's, through allmlp's own preprocessing."""

import json
from pathlib import Path

import numpy as np
import PIL
import pytest

from allmlp.backends.native_file import write
from allmlp.preprocess import Preprocess, fit
from allmlp.quantize.parts import Linear, Norm, Parts, ResMLPParts

allmlp_native = pytest.importorskip("allmlp_native", reason="the engine is not built: make native")

SIZES = [(1, 1), (7, 5), (20, 30), (21, 30), (20, 31), (23, 34), (64, 17), (5, 200), (131, 149), (480, 640),
         (333, 97)]  # (20, 30) fits


def model(folder: Path, preprocess: Preprocess):
    """A network in which nothing matters but what its file says about images."""
    rows, columns = preprocess.image_size
    identity, layer = Norm(None, np.ones(2), np.zeros(2)), Linear(np.zeros((2, 2)), np.zeros(2))
    block = ResMLPParts(identity, np.zeros((1, 1)), np.ones(2), np.zeros((1, 2)), identity, layer, layer, "erf")
    stem = Linear(np.random.default_rng(0).standard_normal((2, rows * columns * 3)), np.zeros(2))
    parts = Parts((rows, columns), (rows, columns), stem, (block,), identity, Linear(np.ones((1, 2)), np.zeros(1)))
    write(folder / "m", parts, "fp32", {"preprocess": json.loads(preprocess.to_json())})
    return allmlp_native.Model(folder / "m", threads=1)


def pictures(size: tuple[int, int]) -> list[np.ndarray]:
    """Noise, and noise of black and white, in which bicubic weights overshoot."""
    random = np.random.default_rng(size)
    return [values.astype(np.uint8) for values in (random.integers(0, 256, (*size, 3)),
                                                   255 * random.integers(0, 2, (*size, 3)))]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("resize,crop_ratio", [("shorter", 0.875), ("shorter", 1.0), ("squash_crop", 0.9),
                                               ("squash", 0.5)])
@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 13 changed the order of its passes")
def test_every_pixel_is_that_of_our_preprocessing(resize: str, crop_ratio: float, interpolation: str, tmp_path: Path):
    preprocess = Preprocess(image_size=(20, 30), resize=resize, crop_ratio=crop_ratio, interpolation=interpolation)
    engine = model(tmp_path, preprocess)
    for size in SIZES:
        for image in pictures(size):
            assert np.array_equal(engine.fit(image), fit(image, preprocess)), size


def test_images_of_different_sizes_are_predicted_together(tmp_path: Path):
    preprocess = Preprocess(image_size=(20, 30))
    engine = model(tmp_path, preprocess)
    images = [np.random.default_rng(size).integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]
    expected = engine(np.stack([fit(image, preprocess) for image in images]))
    assert np.array_equal(engine.predict(images), expected)
    assert engine.predict([]).shape == (0, 1)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)),
                                   np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_image_is_refused(image: np.ndarray, tmp_path: Path):
    with pytest.raises(ValueError, match="an image must be uint8"):
        model(tmp_path, Preprocess(image_size=(20, 30))).fit(image)


def test_an_extremely_long_image_is_cut_as_any_other(tmp_path: Path):
    preprocess = Preprocess(image_size=(20, 30), interpolation="bilinear")
    image = np.random.default_rng(0).integers(0, 256, (1, 3000, 3)).astype(np.uint8)
    assert np.array_equal(model(tmp_path, preprocess).fit(image), fit(image, preprocess))
