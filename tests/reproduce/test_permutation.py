"""Shuffled images, and the weights that undo the shuffle."""

import numpy as np
import pytest
import torch

from allmlp.data.dataset import ImageDataset
from allmlp.data.digits import ArrayImages
from allmlp.data.permute import Permuted, draw_orders, draw_permutation, in_patches
from allmlp.errors import BadSetting, UnknownName
from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.config import ModelConfig
from allmlp.models.model import build
from allmlp.preprocess import Preprocess
from allmlp.reproduce.permutation import EQUAL, Shuffled, largest_difference
from allmlp.reproduce.reparametrise import reparametrised
from allmlp.testing import randomise

SIZE, PATCH = (12, 20), (3, 5)  # 4 x 4 patches, neither square


def by_loops(image: np.ndarray, patches: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Patch t of the result is patch `patches[t]`, and pixel i in it pixel `pixels[i]` of that patch."""
    (height, width), (patch_height, patch_width) = image.shape[:2], PATCH
    across, result = width // patch_width, np.empty_like(image)
    for row in range(height):
        for column in range(width):
            patch = row // patch_height * across + column // patch_width
            inside = row % patch_height * patch_width + column % patch_width
            down, right = divmod(int(patches[patch]), across)
            below, beside = divmod(int(pixels[inside]), patch_width)
            result[row, column] = image[down * patch_height + below, right * patch_width + beside]
    return result


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(*SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["patches", "pixels", "patches+pixels"])
def test_a_shuffled_image_is_what_two_loops_make_of_it(kind: str, image: np.ndarray):
    patches, pixels = draw_orders(SIZE, PATCH, seed=3)
    expected = by_loops(image, patches if "patches" in kind else np.arange(16),
                        pixels if "pixels" in kind else np.arange(15))
    names = ["a"]
    dataset = Permuted(ArrayImages(image[None], np.array([0]), ("x",), names), draw_permutation(kind, SIZE, PATCH, 3),
                       Preprocess(image_size=SIZE))
    assert isinstance(dataset, ImageDataset)
    np.testing.assert_array_equal(dataset.image(0), expected)
    assert (dataset.name(0), len(dataset), tuple(dataset.classes)) == ("a", 1, ("x",))


def test_every_pixel_stays_once_and_a_seed_always_draws_the_same():
    for kind in ("patches", "pixels", "patches+pixels", "global"):
        drawn = draw_permutation(kind, SIZE, PATCH, seed=1)
        assert sorted(drawn) == list(range(240))
        np.testing.assert_array_equal(drawn, draw_permutation(kind, SIZE, PATCH, seed=1))
        assert (drawn != draw_permutation(kind, SIZE, PATCH, seed=2)).any()
        assert (drawn != np.arange(240)).sum() > 150


def test_the_network_shuffles_its_pixels_as_the_data_set_does(image: np.ndarray):
    permutation = draw_permutation("global", SIZE, PATCH, 0)
    seen = Shuffled(torch.nn.Identity(), permutation)(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
    expected = image.reshape(-1, 3)[permutation].reshape(*SIZE, 3)
    np.testing.assert_array_equal(seen[0].permute(1, 2, 0).numpy(), expected)


def test_unknown_shuffles_and_patches_that_do_not_divide_are_refused():
    with pytest.raises(UnknownName, match="unknown shuffling 'patch'; did you mean patches"):
        draw_permutation("patch", SIZE, PATCH, 0)
    with pytest.raises(BadSetting, match="12 x 20 pixels do not divide into patches of 5 x 5"):
        draw_permutation("patches", SIZE, (5, 5), 0)


@pytest.mark.parametrize("block", [
    MixerConfig(token_hidden=6, channel_hidden=14), MixerConfig(token_hidden=6, channel_hidden=8, activation="swiglu"),
    ResMLPConfig(channel_hidden=14, layer_scale=0.3), GMLPConfig(hidden=12),
], ids=["mixer", "gmixer", "resmlp", "gmlp"])
def test_permuted_weights_undo_the_shuffle_exactly(block):
    config = ModelConfig(image_size=SIZE, patch_size=PATCH, width=8, depth=3, blocks=(block,), num_classes=7)
    model = build(config).double().eval()
    randomise(model)
    patches, pixels = draw_orders(SIZE, PATCH, seed=5)
    images = torch.randn(4, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shuffle = in_patches(patches, pixels, SIZE, PATCH)
    with torch.no_grad():
        logits = model(images)
        same = Shuffled(reparametrised(model, patches, pixels), shuffle)(images)
        other = Shuffled(model, shuffle)(images)
    assert (logits - same).abs().max() < EQUAL * logits.abs().max()
    assert (logits - other).abs().max() > 0.01 * logits.abs().max()  # the shuffle is no trifle


def test_the_experiment_s_own_row_holds_to_the_tolerance():
    assert 0 <= largest_difference(0)["largest_difference"] < EQUAL
