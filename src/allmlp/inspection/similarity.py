"""How alike two layers see a set of images: linear CKA (Kornblith et al., arXiv 1905.00414).

With representations X `(m, p)`, Y `(m, q)` of the same m images, K = XXᵀ, L = YYᵀ, both with rows and columns centred:

    HSIC(K, L) = Σ K'ij L'ij / (m - 1)²            CKA = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L))

That needs all images at once. In batches (Nguyen et al., arXiv 2010.15327; Raghu et al., arXiv 2108.08810, section 3)
HSIC is estimated without bias in each batch of n (Song et al. 2012, eq. 5; K° is K with zeros on its diagonal):

    HSIC₁ = [ tr(K°L°) + 1ᵀK°1 · 1ᵀL°1 / ((n-1)(n-2)) - 2/(n-2) · 1ᵀK°L°1 ] / (n(n-3))

and the means over the batches go into the quotient. Being unbiased, it may come out a little below 0 or, with few
images, above 1. CKA is 1 for representations that differ by a rotation and a scale, whatever their widths.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from allmlp.errors import BadSetting

Representations = Sequence[torch.Tensor]
"""Of one batch: for each layer, whatever it gives, `(n, …)`; positions and channels are flattened together."""


def linear_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """Linear CKA of two representations `(m, …)` of the same images, all at once: in [0, 1], biased for small m.

    NaN where a representation is constant. Raises `BadSetting` for different numbers of images."""
    _check_counts([x], [y])
    k, m = _gram(x), len(x)
    centring = torch.eye(m, dtype=torch.float64) - 1 / m
    k, other = centring @ k @ centring, centring @ _gram(y) @ centring
    return float((k * other).sum() / ((k * k).sum() * (other * other).sum()).sqrt())


def cka_map(batches: Iterable[tuple[Representations, Representations]]) -> np.ndarray:
    """CKA of every layer of one network with every layer of another: `(layers, other layers)`, float64.

    `batches`: of each, the representations of the same images by the layers of either network (the same list twice
    compares a network with itself). NaN where a layer is constant. Raises `BadSetting` for batches of fewer than 4
    images, which have no unbiased estimate, and for none.
    """
    cross: torch.Tensor | None = None
    own = other = torch.zeros(())
    for xs, ys in batches:
        _check_counts(xs, ys)
        if len(xs[0]) < 4:
            raise BadSetting(f"a batch of {len(xs[0])} images: CKA in batches needs at least 4 in each")
        same = xs is ys
        k = _grams(xs)
        l = k if same else _grams(ys)
        parts = _hsic(k, l), _hsic(k, k).diagonal(), _hsic(l, l).diagonal()
        cross, own, other = parts if cross is None else (cross + parts[0], own + parts[1], other + parts[2])
    if cross is None:
        raise BadSetting("no images to compare the layers on")
    scale = (own.clamp_min(0)[:, None] * other.clamp_min(0)[None, :]).sqrt()
    return (cross / torch.where(scale > 0, scale, torch.nan)).numpy()


def unbiased_hsic(x: torch.Tensor, y: torch.Tensor) -> float:
    """HSIC₁ of two representations `(n, …)`, n at least 4."""
    return float(_hsic(_grams([x]), _grams([y])))


def _hsic(k_LNN: torch.Tensor, l_LNN: torch.Tensor) -> torch.Tensor:
    """HSIC₁ of all pairs `(layers, other layers)`, of Gram matrices without their diagonals."""
    n = k_LNN.shape[1]
    k_rows, l_rows = k_LNN.sum(2), l_LNN.sum(2)
    trace = k_LNN.flatten(1) @ l_LNN.flatten(1).T
    totals = k_rows.sum(1)[:, None] * l_rows.sum(1)[None, :]
    return (trace + totals / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k_rows @ l_rows.T)) / (n * (n - 3))


def _grams(layers: Representations) -> torch.Tensor:
    grams = torch.stack([_gram(layer) for layer in layers])
    grams.diagonal(dim1=1, dim2=2).zero_()
    return grams


def _gram(x: torch.Tensor) -> torch.Tensor:
    """XXᵀ in float64. The mean over the images is taken off first, which changes neither estimate and keeps the
    digits; the products of long float32 rows are exact enough, and several times quicker than float64's."""
    x = x.detach().flatten(1)
    x = x - x.mean(0)
    return (x @ x.T).double()


def _check_counts(xs: Representations, ys: Representations) -> None:
    counts = {len(x) for x in (*xs, *ys)}
    if len(counts) != 1:
        raise BadSetting(f"representations of {' and '.join(map(str, sorted(counts)))} images; give the same images")
