"""The stem for patches of another size: FlexiViT's property, timm as an oracle, and what follows for the network."""

import pytest
import torch
from timm.layers.patch_embed import resample_patch_embed
from torch.nn import functional as F

from allmlp.models.resize import resize
from allmlp.models.resize.stem import resample_patch

EQUAL = 1e-12  # float64, sums of up to some hundred terms near one
TIMM = 1e-5  # timm computes in float32, kernels of values up to ten


def resampled_patches(images, rows, columns, patch_size):
    """Each patch of the images resampled for itself, without its neighbours."""
    patches = images.unflatten(3, (columns, -1)).unflatten(2, (rows, -1)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    patches = F.interpolate(patches, patch_size, mode="bilinear", align_corners=False)
    patches = patches.unflatten(0, (len(images), rows, columns)).permute(0, 3, 1, 4, 2, 5)
    return patches.flatten(4).flatten(2, 3)


@pytest.mark.parametrize("patch_size", [(8, 8), (5, 9), (4, 16), (12, 24)], ids=str)
def test_enlarged_patches_keep_their_logits(model, patch_size):
    """And so does the network: tokens, and with them the grid, are as they were."""
    model.double()
    images = torch.randn(2, 3, 24, 40, dtype=torch.float64)
    large = resize(model, image_size=(6 * patch_size[0], 5 * patch_size[1]), patch_size=patch_size)
    with torch.no_grad():
        resampled = resampled_patches(images, 6, 5, patch_size)
        assert (large.stem(resampled) - model.stem(images)).abs().max() < EQUAL
        assert (large(resampled) - model(images)).abs().max() < EQUAL


@pytest.mark.parametrize("patch_size", [(8, 12), (7, 9), (2, 4), (3, 16), (1, 1)], ids=str)
def test_the_kernel_is_that_of_timm(patch_size):
    weight = torch.randn(5, 3, 4, 8)
    expected = resample_patch_embed(weight, list(patch_size), interpolation="bilinear", antialias=True)
    assert (resample_patch(weight.double(), patch_size) - expected).abs().max() < TIMM


@pytest.mark.parametrize("patch_size", [(4, 9), (8, 16), (5, 8)], ids=str)
def test_constant_patches_keep_their_tokens_when_enlarged(patch_size):
    weight = torch.randn(5, 3, 4, 8, dtype=torch.float64)
    assert (resample_patch(weight, patch_size).sum((2, 3)) - weight.sum((2, 3))).abs().max() < EQUAL


def test_the_grid_stays_where_image_and_patch_grow_alike(model):
    large = resize(model, image_size=(48, 80), patch_size=(8, 16)).state_dict()
    changed = [name for name, tensor in model.state_dict().items() if not tensor.equal(large[name])]
    assert changed == ["stem.proj.weight"]


def test_patches_alone_change_the_grid(model):
    finer = resize(model, patch_size=(2, 4))
    assert finer.config.image_size == (24, 40)
    assert finer.config.grid == (12, 10)
