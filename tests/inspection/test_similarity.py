"""Linear CKA against its definition written out, term by term."""

import itertools
import math

import numpy as np
import pytest
import torch

from allmlp.errors import BadSetting
from allmlp.inspection.localisation import localisation, own_and_others
from allmlp.inspection.similarity import cka_map, linear_cka, unbiased_hsic

EXACT = 1e-5  # of CKA: Gram matrices come from float32 products


@pytest.fixture
def representations():
    drawn = torch.Generator().manual_seed(0)
    return [torch.randn(7, *shape, generator=drawn) + 2 for shape in ((5,), (3, 2), (2, 2, 2), (40,))]


def centred_gram(x: torch.Tensor) -> list[list[float]]:
    """K', entry by entry in plain Python: rows' and columns' means taken off, their common mean put back."""
    rows = x.flatten(1).double().tolist()
    m = len(rows)
    k = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in rows] for one in rows]
    mean = [sum(row) / m for row in k]
    whole = sum(mean) / m
    return [[k[i][j] - mean[i] - mean[j] + whole for j in range(m)] for i in range(m)]


def hsic_as_defined(x: torch.Tensor, y: torch.Tensor) -> float:
    k, l, m = centred_gram(x), centred_gram(y), len(x)
    return sum(k[i][j] * l[i][j] for i in range(m) for j in range(m)) / (m - 1) ** 2


def unbiased_as_defined(x: torch.Tensor, y: torch.Tensor) -> float:
    """The U-statistic (Song et al. 2012, eq. 4): the mean over all quadruples of different images."""
    k, l = ((rows @ rows.T).tolist() for rows in (x.flatten(1).double(), y.flatten(1).double()))
    terms = [k[i][j] * (l[i][j] + l[q][r] - 2 * l[i][q]) for i, j, q, r in itertools.permutations(range(len(x)), 4)]
    return sum(terms) / len(terms)


def test_cka_of_all_images_at_once_is_its_definition(representations):
    for x, y in itertools.combinations_with_replacement(representations, 2):
        scale = math.sqrt(hsic_as_defined(x, x) * hsic_as_defined(y, y))
        assert linear_cka(x, y) == pytest.approx(hsic_as_defined(x, y) / scale, abs=EXACT)


def test_hsic_in_batches_is_the_mean_over_all_quadruples(representations):
    for x, y in itertools.combinations_with_replacement(representations, 2):
        assert unbiased_hsic(x, y) == pytest.approx(unbiased_as_defined(x, y), rel=1e-4, abs=1e-4)


def test_a_map_divides_the_means_over_batches(representations):
    drawn = torch.Generator().manual_seed(1)
    other = [x + torch.randn(x.shape, generator=drawn) for x in representations]
    batches = [(representations, other), (other, representations)]

    def mean(a: int, b: int, left: int, right: int) -> float:
        return sum(unbiased_as_defined(batch[left][a], batch[right][b]) for batch in batches) / 2

    found = cka_map(batches)
    for a, b in itertools.product(range(4), range(4)):
        expected = mean(a, b, 0, 1) / math.sqrt(mean(a, a, 0, 0) * mean(b, b, 1, 1))
        assert found[a, b] == pytest.approx(expected, abs=1e-4)


def test_a_rotation_and_a_scale_change_nothing(representations):
    x = representations[0]
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(2)))
    assert linear_cka(x, -3 * x @ rotation) == pytest.approx(1, abs=EXACT)
    assert np.allclose(cka_map([([x], [0.5 * x @ rotation + 1])]), 1, atol=EXACT)


def test_unbiased_cka_of_unrelated_layers_is_about_zero_where_the_plain_one_is_not():
    drawn = torch.Generator().manual_seed(3)
    batches = [([torch.randn(32, 400, generator=drawn)], [torch.randn(32, 400, generator=drawn)]) for _ in range(20)]
    assert abs(cka_map(batches)[0, 0]) < 0.05
    assert linear_cka(batches[0][0][0], batches[0][1][0]) > 0.8


def test_a_token_that_copies_its_patch_is_found_at_its_place():
    images = torch.randn(64, 3, 4, 6, generator=torch.Generator().manual_seed(4))  # 2 x 3 patches of 2 x 2 pixels
    corners = [(row, column) for row in (0, 2) for column in (0, 2, 4)]
    tokens = torch.stack([images[:, :, r:r + 2, c:c + 2].flatten(1) for r, c in corners], 1)
    found = localisation(tokens, images, (2, 3))
    assert np.allclose(found.diagonal(), 1, atol=EXACT)
    own, others = own_and_others(found)
    assert own == pytest.approx(1, abs=EXACT)
    assert abs(others) < 0.1
    moved = localisation(tokens.roll(1, dims=1), images, (2, 3))
    assert (moved.argmax(1) == [5, 0, 1, 2, 3, 4]).all()


def test_what_cannot_be_compared_is_said(representations):
    with pytest.raises(BadSetting, match="7 and 6 images|6 and 7 images"):
        linear_cka(representations[0], representations[1][:6])
    with pytest.raises(BadSetting, match="batch of 3 images"):
        cka_map([([representations[0][:3]], [representations[0][:3]])])
    with pytest.raises(BadSetting, match="no images"):
        cka_map([])
    with pytest.raises(BadSetting, match="2 x 2 equal patches"):
        localisation(torch.zeros(4, 4, 1), torch.zeros(4, 3, 5, 5))
    assert np.isnan(cka_map([([torch.ones(8, 2)], [torch.randn(8, 2)])])).all()
