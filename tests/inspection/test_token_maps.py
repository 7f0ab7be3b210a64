"""Maps from tokens to tokens: how Toeplitz they are, how sparse, and which weights of a network they are."""

import numpy as np
import pytest
import torch

import allmlp
from allmlp.inspection import weights
from allmlp.inspection.sparsity import small_share, small_shares
from allmlp.inspection.toeplitz import by_chance, displacement_kernel, toeplitz_share

GRID = (3, 4)


def convolution(kernel: np.ndarray) -> np.ndarray:
    """The matrix of a convolution with zeros beyond the edge, made by PyTorch from images with one pixel set."""
    images = torch.eye(GRID[0] * GRID[1]).unflatten(1, (1, *GRID)).double()
    made = torch.nn.functional.conv2d(images, torch.tensor(kernel)[None, None], padding="same")
    return made[:, 0].flatten(1).T.unflatten(1, GRID).unflatten(0, GRID).numpy()  # made first, of which second


def test_a_convolution_is_toeplitz_and_its_kernel_is_found():
    kernel = np.random.default_rng(0).normal(size=(3, 3))
    matrix = convolution(kernel)
    assert toeplitz_share(matrix) == pytest.approx(1)
    found = displacement_kernel(matrix)
    assert found.shape == (5, 7)
    assert found[1:4, 2:5] == pytest.approx(kernel)
    assert np.delete(found, [1, 2, 3], axis=0) == pytest.approx(0)


def test_the_mean_by_displacement_is_that_of_a_loop():
    matrix = np.random.default_rng(1).normal(size=(*GRID, *GRID))
    found = displacement_kernel(matrix)
    for down in range(-2, 3):
        for right in range(-3, 4):
            entries = [matrix[r, c, r + down, c + right] for r in range(3) for c in range(4)
                       if 0 <= r + down < 3 and 0 <= c + right < 4]
            assert found[down + 2, right + 3] == pytest.approx(np.mean(entries))


def test_random_weights_are_as_toeplitz_as_chance_says():
    draws = np.random.default_rng(2).normal(size=(400, *GRID, *GRID))
    assert np.mean([toeplitz_share(each) for each in draws]) == pytest.approx(by_chance(GRID), rel=0.03)
    assert toeplitz_share(np.full((*GRID, *GRID), 2.0)) == 0  # equal weights know no places
    shifted = draws[0] + 5
    assert toeplitz_share(shifted) == pytest.approx(toeplitz_share(draws[0]))


def test_small_weights_are_those_below_a_share_of_the_largest():
    weight = np.array([[1.0, -0.049], [0.051, -2.0]])
    assert small_share(weight) == 0.5  # the limit is 0.1 here
    assert small_share(weight, 0.6) == 0.75
    assert small_share(np.zeros(4)) == 1
    assert small_shares([weight, None]).tolist() == pytest.approx([0.5, np.nan], nan_ok=True)


SHAPE = {"image_size": (6, 8), "patch_size": (2, 2), "num_classes": 3, "seed": 0}


def test_a_units_map_answers_to_the_tokens_where_it_is_drawn():
    """A token mixed by hand from the grid gives what the network's own layer gives from the list of tokens."""
    model = allmlp.create_model("mixer_p2_8", **SHAPE)
    units = weights.token_units(model, 1)
    assert units is not None
    assert units.shape == (model.blocks[1].mlp_tokens.fc1.out_features, *GRID)
    tokens = torch.rand(GRID[0] * GRID[1])
    hidden = model.blocks[1].mlp_tokens.fc1(tokens) - model.blocks[1].mlp_tokens.fc1.bias
    by_hand = (units * tokens.reshape(GRID).numpy()).sum((1, 2))
    assert by_hand == pytest.approx(hidden.detach().numpy(), abs=1e-5)


@pytest.mark.parametrize("name,called", [("resmlp_p2_8", "patch interaction"), ("gmlp_p2_8", "spatial gate")])
def test_each_family_has_its_own_map_along_tokens(name, called):
    model = allmlp.create_model(name, **SHAPE)
    assert weights.token_units(model, 0) is None
    found = weights.token_matrix(model, 0)
    assert found is not None
    assert found[0] == called
    assert found[1].shape == (*GRID, *GRID)
    assert weights.token_matrix(allmlp.create_model("mixer_p2_8", **SHAPE), 0) is None


def test_stem_kernels_are_laid_out_as_pictures():
    model = allmlp.create_model("mixer_p2_8", **SHAPE)
    kernels = weights.stem_kernels(model)
    assert kernels is not None
    assert kernels.shape == (64, 2, 2, 3)
    assert kernels[5, 1, 0, 2] == model.stem.proj.weight[5, 2, 1, 0].item()
