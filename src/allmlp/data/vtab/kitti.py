"""KITTI: how far away the closest vehicle is, in four classes, the last for none.

`kitti/training/image_2/000000.png`, `kitti/training/label_2/000000.txt` (object detection, left colour images) and
`kitti/mapping/train_rand.txt` and `train_mapping.txt` of its devkit, which say which drive each image is of. A line of
a label file is type, truncated, occluded, alpha, box (4), height, width, length, x, y, z (metres, camera at 0),
rotation. A vehicle is a Car, Van or Truck; its distance is z (task_adaptation, data/kitti.py).

KITTI's test images have no labels, so TFDS parts its training images by drive: 10 % of the drives to test, 10 % to
validate, drawn by numpy's generator of 2011 with seed 123, whose numbers never change. So these are the benchmark's
own parts.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

from allmlp.data.assemble import Choices
from allmlp.data.imagefolder import FolderImages
from allmlp.data.tree import is_image
from allmlp.data.vtab.clevr import closest
from allmlp.data.vtab.files import found, read_text
from allmlp.data.vtab.pool import Pool, pool_of
from allmlp.errors import BadData, printable

ORIGIN = "www.cvlibs.net/datasets/kitti (data_object_image_2, data_object_label_2, devkit_object)"
VEHICLES = ("Car", "Van", "Truck")
EDGES = (-100.0, 8.0, 20.0, 999.0)
NO_VEHICLE = 1000.0
CLASSES = ("at most 8 m", "8 to 20 m", "more than 20 m", "no vehicle")
DRAW_SEED = 123
HELD_OUT_PERCENT = 10  # of the drives, for each of test and validation
NUM_COLUMNS = 15


def pools(choices: Choices) -> dict[str, Pool]:
    root = found(choices.data_dir, ("kitti", "Kitti/raw"), ORIGIN)
    images, labels = root / "training" / "image_2", root / "training" / "label_2"
    mapping = found(root, ("mapping", "devkit/mapping", "devkit_object/mapping"), ORIGIN)
    if not images.is_dir() or not labels.is_dir():
        raise BadData(f"{root}: training/image_2 and training/label_2 must be in it; get them from {ORIGIN}")
    names = sorted(path.name for path in images.iterdir() if is_image(path.name))
    parts = parts_by_drive(drives(mapping))
    known = {number: part for part, numbers in parts.items() for number in numbers}
    own: dict[str, list[str]] = {part: [] for part in parts}
    for name in names:
        number = int(name[:6]) if name[:6].isdigit() else -1
        if number not in known:
            raise BadData(f"{images / name}: none of the {len(known)} images that the devkit knows")
        own[known[number]].append(name)
    return {part: pool_of(FolderImages(
        root, tuple(f"training/image_2/{name}" for name in names),
        np.array([distance_class(labels / f"{name[:6]}.txt") for name in names], np.int64), CLASSES), names)
        for part, names in own.items()}


def distance_class(path: Path) -> int:
    """0 to 3, from a label file."""
    depths = [NO_VEHICLE]
    for number, line in enumerate(read_text(path).splitlines(), 1):
        cells = line.split()
        try:
            if len(cells) != NUM_COLUMNS:
                raise ValueError(f"{len(cells)} columns")
            if cells[0] in VEHICLES:
                depths.append(float(cells[13]))
        except ValueError as error:
            raise BadData(f"{path}: line {number}: {printable(str(error), 60)}, expected {NUM_COLUMNS} columns, the "
                          "14th a number of metres") from None
    label = closest(min(depths), EDGES)
    if label < 0:
        raise BadData(f"{path}: a vehicle {-min(depths):g} m behind the camera")
    return label


def drives(mapping: Path) -> list[str]:
    """The drive of each training image, by its number."""
    lines = read_text(mapping / "train_mapping.txt").splitlines()
    try:
        chosen = [int(cell) for cell in read_text(mapping / "train_rand.txt").replace("\n", "").split(",")]
        if min(chosen) < 1:
            raise ValueError("they count from 1")
        return [lines[number - 1].split()[1] for number in chosen]
    except (ValueError, IndexError) as error:
        raise BadData(f"{mapping}: train_rand.txt and train_mapping.txt don't fit together "
                      f"({printable(str(error), 60)}); get the devkit again from {ORIGIN}") from None


def parts_by_drive(drive_of_image: list[str]) -> dict[str, list[int]]:
    """The numbers of the images of "train", "validation" and "test", drawn by drive."""
    images = defaultdict(list)
    for number, drive in enumerate(drive_of_image):
        images[drive].append(number)
    draws = np.random.RandomState(DRAW_SEED)
    each = max(1, HELD_OUT_PERCENT * len(images) // 100)
    if len(images) < 2 * each + 1:
        raise BadData(f"KITTI's devkit names {len(images)} drives, too few to part them")
    test = set(draws.choice(sorted(images), each, replace=False).tolist())
    validation = set(draws.choice(sorted(images.keys() - test), each, replace=False).tolist())
    found: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for drive, numbers in images.items():
        found["test" if drive in test else "validation" if drive in validation else "train"] += numbers
    return found
