"""The order of maps: pairs of opposite phase, low frequency first, on maps whose frequency and phase are known."""

import numpy as np
import pytest

from allmlp.inspection.order import by_frequency, by_opposite_pairs, spatial_frequency

GRID = (6, 8)
WAVES = [(0, 1), (1, 0), (1, 1), (2, 1), (0, 3), (3, 2)]  # periods over the rows, over the columns


def wave(down: int, across: int, phase: float, grid: tuple[int, int] = GRID) -> np.ndarray:
    y, x = np.indices(grid)
    return np.cos(2 * np.pi * (down * y / grid[0] + across * x / grid[1]) + phase)


def frequency(down: int, across: int, grid: tuple[int, int] = GRID) -> float:
    return float(np.hypot(down / grid[0], across / grid[1]))


@pytest.mark.parametrize("down,across", WAVES)
def test_the_frequency_of_a_wave_is_its_own(down, across):
    assert spatial_frequency(wave(down, across, 0.4)[None])[0] == pytest.approx(frequency(down, across))


def test_frequency_knows_constants_and_zeros_and_adds_up_channels():
    maps = np.stack([np.full(GRID, 3.0), np.zeros(GRID)])
    assert spatial_frequency(maps).tolist() == pytest.approx([0, 0])
    both = np.stack([wave(1, 0, 0), 2 * wave(0, 3, 0)], axis=-1)[None]  # powers 1 : 4
    assert spatial_frequency(both)[0] == pytest.approx((frequency(1, 0) + 4 * frequency(0, 3)) / 5)


def test_shuffled_waves_come_back_in_opposite_pairs_from_low_to_high():
    planted = [wave(*each, phase) for each in WAVES for phase in (0.3, 0.3 + np.pi)]
    shuffle = np.random.default_rng(0).permutation(len(planted))
    order = by_opposite_pairs(np.stack(planted)[shuffle])
    found = shuffle[order.index] // 2  # which wave stands where
    by_hand = sorted(range(len(WAVES)), key=lambda i: frequency(*WAVES[i]))
    assert found[::2].tolist() == found[1::2].tolist() == by_hand
    assert order.cosines == pytest.approx([-1] * len(WAVES))
    assert order.opposite_share == 1


def test_pairs_are_matched_greedily_and_each_map_is_shown_once():
    maps = np.random.default_rng(1).normal(size=(9, 4, 3))
    order = by_opposite_pairs(maps)
    assert sorted(order.index) == list(range(9))
    flat = maps.reshape(9, -1)
    left, expected = set(range(9)), []
    while len(left) > 1:  # the definition, slowly
        pairs = [(float(flat[i] @ flat[j] / np.linalg.norm(flat[i]) / np.linalg.norm(flat[j])), {i, j})
                 for i in left for j in left if i < j]
        expected.append(min(pairs, key=lambda pair: pair[0]))
        left -= expected[-1][1]
    shown = [set(order.index[i : i + 2].tolist()) for i in range(0, 8, 2)]
    assert all(pair in shown for _, pair in expected)
    assert order.index[-1] == left.pop()  # the odd one stands last
    assert sorted(order.cosines) == pytest.approx(sorted(cosine for cosine, _ in expected))


def test_by_frequency_keeps_the_order_of_equal_maps():
    maps = np.stack([wave(2, 1, 0), wave(0, 1, 0), wave(2, 1, 0), wave(0, 0, 0)])
    assert by_frequency(maps).tolist() == [3, 1, 0, 2]
