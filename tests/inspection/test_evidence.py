"""Class-activation maps are exact, and occlusion is what a loop over covered images gives."""

from pathlib import Path

import numpy as np
import pytest

import allmlp
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.errors import BadData, BadSetting, MissingPackage
from allmlp.inspection.activation import class_activation_maps, why_not_exact
from allmlp.inspection.embedding import embed
from allmlp.inspection.occlusion import cover_colour, occlusion_map

GOLDEN = Path(__file__).parent.parent / "golden"
ROUNDING = 1e-5  # of float32 sums of some dozens of numbers of about 1
SHAPE = {"image_size": (8, 12), "patch_size": (2, 3), "num_classes": 4, "seed": 0}


def image_for(model) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(*model.preprocess.image_size, 3), dtype=np.uint8)


@pytest.fixture(params=["mixer", "resmlp", "gmlp", "google"])
def model(request):
    import torch

    if request.param == "google":
        return allmlp.load(GOLDEN / "google-mixer-rect.npz", image_size=(48, 32))
    made = allmlp.create_model(f"{request.param}_p2_8", **SHAPE)
    torch.nn.init.normal_(made.head.weight, generator=torch.Generator().manual_seed(0))  # it starts at zero
    torch.nn.init.normal_(made.head.bias, generator=torch.Generator().manual_seed(1))
    return made


def test_the_mean_of_an_activation_map_is_the_logit_without_its_bias(model):
    image = image_for(model)
    classes = [2, 0]
    maps, logits = class_activation_maps(model, image, classes)
    assert maps.shape == (2, *model.config.grid)
    assert logits == pytest.approx(PyTorchPredictor(model)(image[None])[0], abs=ROUNDING)
    bias = model.head.bias.detach().numpy()[classes]
    assert maps.mean((1, 2)) == pytest.approx(logits[classes] - bias, abs=ROUNDING)
    assert maps.std() > 100 * ROUNDING  # it is not the same everywhere


def test_an_activation_map_lies_on_the_grid_as_the_tokens_do(model):
    """The evidence at a token, written out with numpy from the tokens that timm's interface gives."""
    import torch

    from allmlp.preprocess import to_network_input

    image = image_for(model)
    maps, _ = class_activation_maps(model, image, [1])
    with torch.inference_mode():
        tokens = model.forward_features(to_network_input(image[None], model.preprocess))[0].numpy()
    row, column = 1, model.config.grid[1] - 1
    place = row * model.config.grid[1] + column
    assert maps[0, row, column] == pytest.approx(tokens[place] @ model.head.weight[1].detach().numpy(), abs=ROUNDING)


def test_networks_without_exact_maps_are_refused_with_the_reason():
    pooled = allmlp.create_model("mixer_p2_8", seed=0)
    pooled.reset_classifier(3, "")
    assert "not averaged" in str(why_not_exact(pooled))
    headless = allmlp.create_model("mixer_p2_8", num_classes=0, seed=0)
    with pytest.raises(BadSetting, match="no linear head"):
        class_activation_maps(headless, image_for(headless), [0])


@pytest.mark.parametrize("cover", [(2, 3), (3, 5), (8, 12)])
def test_occlusion_is_what_covering_one_part_after_the_other_gives(cover):
    import torch

    model = allmlp.create_model("mixer_p2_8", **SHAPE)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    predictor, image = PyTorchPredictor(model), image_for(model)
    found = occlusion_map(predictor, image, 3, cover)
    assert found.shape == (-(-8 // cover[0]), -(-12 // cover[1]))
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            covered = image.copy()
            for y in range(8):
                for x in range(12):
                    if (y // cover[0], x // cover[1]) == (row, column):
                        covered[y, x] = cover_colour(predictor.preprocess)
            fall = predictor(image[None])[0, 3] - predictor(covered[None])[0, 3]
            assert found[row, column] == pytest.approx(fall, abs=ROUNDING)


@pytest.mark.parametrize("cover", [(0, 2), (9, 2), (2, 13)])
def test_a_cover_beyond_the_image_is_refused(cover):
    model = allmlp.create_model("mixer_p2_8", **SHAPE)
    with pytest.raises(BadSetting, match="1 x 1 to 8 x 12"):
        occlusion_map(PyTorchPredictor(model), image_for(model), 0, cover)


@pytest.mark.slow
def test_an_embedding_keeps_groups_together_and_is_the_same_each_time():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 16)) * 20
    features = (centres.repeat(12, 0) + rng.normal(size=(36, 16))).astype(np.float32)
    points = embed(features)
    assert np.array_equal(points, embed(features))
    groups = points.reshape(3, 12, 2)
    means = groups.mean(1)
    spread = np.linalg.norm(groups - means[:, None], axis=2).max()
    assert min(np.linalg.norm(means[i] - means[j]) for i, j in ((0, 1), (0, 2), (1, 2))) > 2 * spread


def test_an_embedding_that_cannot_be_made_says_why():
    with pytest.raises(BadData, match="at least 10"):
        embed(np.zeros((9, 4), np.float32))
    try:
        import umap  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with pytest.raises(MissingPackage, match="pip install umap-learn"):
            embed(np.zeros((20, 4), np.float32), "umap")
