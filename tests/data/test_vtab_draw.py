"""Which images VTAB-1k has: the order of TensorFlow Datasets, and the parts that are cut from it."""

import hashlib

import numpy as np
import pytest

from allmlp.data.digits import ArrayImages
from allmlp.data.vtab import Joined
from allmlp.data.vtab.pool import Part, drawn, pool_of, published_order
from allmlp.data.vtab.tasks import NINETY, NORB, OWN, SIXTY, SPRITES, TASKS

# What TFDS itself was seen to give for the first 5,000 of cifar10's train: the first ids ("train_16399", …), which many
# programs' outputs show, and the SHA-256 of all of them joined by newlines, as a test of the datarax project holds it.
FIRST_OF_CIFAR10 = [16399, 1680, 47917, 17307, 27051, 48736, 26263, 1456, 19135, 31598]
IDS_OF_CIFAR10 = "826f1dad26a11a20249e95c71c6f1532d857fb35e648694f9758d4c5c1747679"
FIRST_OF_CIFAR10_TEST = 9933


def sequence(split: str, count: int) -> list[int]:
    """The numbers 0 to count - 1 in TFDS's order, by its rule as an integer."""
    return sorted(range(count), key=lambda i: int(hashlib.md5(f"{split}{i}".encode()).hexdigest(), 16))


def numbered(split: str, count: int) -> ArrayImages:
    """Images whose label is their number."""
    return ArrayImages(np.zeros((count, 1, 1, 3), np.uint8), np.arange(count), tuple(map(str, range(count))),
                       [f"{split}/{i}" for i in range(count)])


def test_the_order_is_the_one_that_tensorflow_datasets_is_seen_to_give():
    found = published_order("train", [str(i) for i in range(50_000)])[:5000]
    assert found[:10].tolist() == FIRST_OF_CIFAR10
    ids = "\n".join(f"train_{number:05d}" for number in found)
    assert hashlib.sha256(ids.encode()).hexdigest() == IDS_OF_CIFAR10
    assert published_order("test", [str(i) for i in range(10_000)])[0] == FIRST_OF_CIFAR10_TEST


@pytest.mark.parametrize("parts, expected", [
    (NINETY, {"train": ("train", 0, 800), "val": ("train", 1890, 2090), "test": ("test", 0, 1500)}),
    (OWN, {"train": ("train", 0, 800), "val": ("validation", 0, 200), "test": ("test", 0, 1500)}),
    (SIXTY, {"train": ("train", 0, 800), "val": ("train", 1260, 1460), "test": ("train", 1680, 2100)}),
    (SPRITES, {"train": ("train", 0, 800), "val": ("train", 1680, 1880), "test": ("train", 1890, 2100)}),
    (NORB, {"train": ("train", 0, 800), "val": ("test", 0, 200), "test": ("test", 750, 1500)}),
])
def test_a_task_trains_on_800_images_chooses_by_200_and_tests_on_the_whole_test_part(parts, expected):
    counts = {"train": 2100, "validation": 900, "test": 1500}
    used = {part.pool for part in parts}
    pools = {name: pool_of(numbered(name, count), [str(i) for i in range(count)])
             for name, count in counts.items() if name in used}
    found = drawn(pools, dict(zip(("train", "val", "test"), parts, strict=True)), {"train": 800, "val": 200})
    for split, (pool, start, stop) in expected.items():
        assert found[split].labels.tolist() == sequence(pool, counts[pool])[start:stop]


def test_a_part_is_rounded_down_at_both_ends():
    assert Part("train", 60, 80).of(np.arange(13)).tolist() == [7, 8, 9]


def test_the_thousand_are_the_training_and_then_the_validation_images():
    first, second = numbered("a", 3), numbered("b", 2)
    both = Joined(first, second)
    assert len(both) == 5
    assert both.labels.tolist() == [0, 1, 2, 0, 1]
    assert [both.name(i) for i in range(5)] == ["a/0", "a/1", "a/2", "b/0", "b/1"]


def test_there_are_nineteen_tasks_in_three_groups_with_the_papers_numbers_of_classes():
    groups = [task.group for task in TASKS.values()]
    assert [groups.count(group) for group in ("natural", "specialized", "structured")] == [7, 4, 8]
    classes = {"caltech101": 102, "cifar100": 100, "dtd": 47, "flowers102": 102, "pets": 37, "sun397": 397, "svhn": 10,
               "camelyon": 2, "eurosat": 10, "resisc45": 45, "retinopathy": 5, "clevr-count": 8, "clevr-distance": 6,
               "dmlab": 6, "kitti-distance": 4, "dsprites-location": 16, "dsprites-orientation": 16,
               "smallnorb-azimuth": 18, "smallnorb-elevation": 9}
    assert {name: task.num_classes for name, task in TASKS.items()} == classes
    for task in TASKS.values():
        assert set(task.images) == {part.pool for part in task.parts}
        assert all(len(Part(part.pool, part.start, part.stop).of(np.arange(task.images[part.pool]))) >= least
                   for part, least in zip(task.parts, (800, 200, 200), strict=True))
