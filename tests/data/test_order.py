from dataclasses import dataclass

import numpy as np
import pytest

from allmlp.data.dataset import Subset
from allmlp.data.digits import ArrayImages
from allmlp.data.order import epoch_order


@dataclass(frozen=True, eq=False)
class Far(ArrayImages):
    """Images in groups of which `window` are near at a time."""

    groups: np.ndarray
    window: int


def far(groups: list[int], window: int) -> Far:
    n = len(groups)
    return Far(np.zeros((n, 1, 1, 3), np.uint8), np.zeros(n, np.int64), ("a",), [""] * n, np.array(groups), window)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 50])
def test_every_image_comes_once_and_each_group_in_one_window(window: int):
    groups = np.repeat(range(7), [5, 1, 9, 0, 4, 30, 2])  # one group has no images
    order = epoch_order(far(groups.tolist(), window), 3, 1)
    assert sorted(order) == list(range(len(groups)))
    came, seen = groups[order], 0
    while seen < len(came):
        here = list(dict.fromkeys(came[seen:]))[:window]
        count = int(np.isin(groups, here).sum())  # all of these, and nothing else
        assert set(came[seen : seen + count]) == set(here)
        seen += count


def test_groups_come_in_another_order_each_epoch_and_for_each_seed_but_always_the_same():
    data = far([k for k in range(6) for _ in range(4)], 2)
    orders = [epoch_order(data, seed, epoch).tolist() for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3
    assert len({tuple(dict.fromkeys(np.array(order) // 4)) for order in orders}) == 3


def test_where_all_groups_are_near_the_order_is_that_of_any_data():
    plain = ArrayImages(np.zeros((24, 1, 1, 3), np.uint8), np.zeros(24, np.int64), ("a",), [""] * 24)
    assert epoch_order(far([0, 1] * 12, 2), 5, 6).tolist() == epoch_order(plain, 5, 6).tolist()


def test_a_part_of_grouped_images_is_grouped_too():
    data = far([k for k in range(6) for _ in range(4)], 1)
    chosen = np.arange(1, 24, 2)
    groups = chosen[epoch_order(Subset(Subset(data, np.arange(24)), chosen), 0, 0)] // 4
    assert np.count_nonzero(np.diff(groups)) == 5
