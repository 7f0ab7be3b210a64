"""The order in which small maps of weights are shown: pairs of opposite phase, low spatial frequency first.

MLP-Mixer's figures 5 and 6 are ordered by a heuristic that the paper leaves open ("low frequency first, each unit
followed by the one closest to its inverse"). Ours, exactly:

- the frequency of a map is the mean of |f| over its two-dimensional Fourier transform, weighted by power, in cycles per
  cell: 0 for a constant, 0.5 for a stripe on, stripe off; frequencies of rows and columns add as sqrt(fr² + fc²);
- pairs are matched greedily: the two maps of the most negative cosine first, then the most negative of the rest;
- pairs stand in the order of their mean frequency, the lower member first; an odd one out counts as a pair.
"""

from dataclasses import dataclass

import numpy as np

OPPOSITE = -0.5  # pairs with a cosine below this are called opposite: closer to the inverse than to a right angle


@dataclass(frozen=True)
class Order:
    """`index` `(N,)`: the maps in the order of showing; pairs stand at 2i and 2i + 1. `cosines`: of each whole pair,
    in the order of showing. `frequencies` `(N,)`: cycles per cell, by map."""

    index: np.ndarray
    cosines: np.ndarray
    frequencies: np.ndarray

    @property
    def opposite_share(self) -> float:
        """Share of all maps that stand in a pair of opposite phase (cosine below -0.5)."""
        return 2 * float((self.cosines < OPPOSITE).sum()) / max(len(self.index), 1)


def spatial_frequency(maps: np.ndarray) -> np.ndarray:
    """The frequency of each map, in cycles per cell, `(N,)`. `maps` `(N, rows, columns)`, or `(N, rows, columns, I)`
    with I channels, whose power is added up. A map of zeros has frequency 0."""
    power = np.abs(np.fft.fft2(maps.astype(np.float64), axes=(1, 2))) ** 2
    if power.ndim == 4:
        power = power.sum(3)
    across_rows, across_columns = (np.fft.fftfreq(side) for side in power.shape[1:])
    length = np.hypot(across_rows[:, None], across_columns[None, :])
    total = power.sum((1, 2))
    return (power * length).sum((1, 2)) / np.where(total > 0, total, 1)


def by_opposite_pairs(maps: np.ndarray) -> Order:
    """The order described above. `maps` as in `spatial_frequency`, at least one."""
    frequencies = spatial_frequency(maps)
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.finfo(float).tiny)
    groups, cosines = [], []
    for first, second, cosine in _greedy_pairs(unit @ unit.T):
        groups.append(sorted((first, second), key=lambda map_: (frequencies[map_], map_)))
        cosines.append(cosine)
    for alone in sorted(set(range(len(maps))) - {map_ for group in groups for map_ in group}):
        groups.append([alone])
    means = [float(np.mean(frequencies[group])) for group in groups]
    # One without partner stands last, or else every later pair would be torn apart by the end of a line.
    places = sorted(range(len(groups)), key=lambda place: (len(groups[place]) == 1, means[place], groups[place]))
    return Order(np.array([map_ for place in places for map_ in groups[place]]),
                 np.array([cosines[place] for place in places if len(groups[place]) == 2]), frequencies)


def by_frequency(maps: np.ndarray) -> np.ndarray:
    """The maps from low to high frequency, as indices `(N,)`; of equal ones the first comes first."""
    return np.argsort(spatial_frequency(maps), kind="stable")


def _greedy_pairs(cosines: np.ndarray) -> list[tuple[int, int, float]]:
    """Disjoint pairs (first < second), the most negative cosine first; of equal ones the first comes first."""
    firsts, seconds = np.triu_indices(len(cosines), 1)
    values = cosines[firsts, seconds]
    free = np.ones(len(cosines), bool)
    pairs = []
    for place in np.argsort(values, kind="stable"):
        first, second = int(firsts[place]), int(seconds[place])
        if free[first] and free[second]:
            free[[first, second]] = False
            pairs.append((first, second, float(values[place])))
            if len(pairs) == len(cosines) // 2:
                break
    return pairs
