"""VTAB's 19 tasks: where the images are, how they are parted, and how many there should be.

Source: task_adaptation, data/*.py, for labels and parts; the VTAB paper (arXiv 1910.04867) for the groups; the sets'
own pages for the numbers of images. "The first 800" and "the first 200" of parts are those of the benchmark's later
versions (train800, val200).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from allmlp.data.vtab import clevr, dmlab, dsprites, kitti, named, retinopathy, smallnorb
from allmlp.data.vtab.named import Open, camelyon, class_and_file, last, last_two, torchvision_pools
from allmlp.data.vtab.pool import Part

Group = Literal["natural", "specialized", "structured"]
Parts = tuple[Part, Part, Part]
"""Training, validation, test."""

OWN: Parts = (Part("train"), Part("validation"), Part("test"))
NINETY: Parts = (Part("train", 0, 90), Part("train", 90, 100), Part("test"))
EIGHTY: Parts = (Part("train", 0, 80), Part("train", 80, 100), Part("test"))
SIXTY: Parts = (Part("train", 0, 60), Part("train", 60, 80), Part("train", 80, 100))
CLEVR: Parts = (Part("train", 0, 90), Part("train", 90, 100), Part("validation"))
SPRITES: Parts = (Part("train", 0, 80), Part("train", 80, 90), Part("train", 90, 100))
NORB: Parts = (Part("train"), Part("test", 0, 50), Part("test", 50, 100))


@dataclass(frozen=True)
class Task:
    """`images`: how many each pool has where the set is complete. `ours`: why the images are not the benchmark's own,
    or ""."""

    title: str
    group: Group
    num_classes: int
    open_pools: Open
    parts: Parts
    images: Mapping[str, int]
    ours: str = ""


def three(train: int, validation: int, test: int) -> dict[str, int]:
    return {"train": train, "validation": validation, "test": test}


CALTECH = "the 30 training images of each class are our draw, as the benchmark's depends on the machine it was made on"
SUN = "the parts are our draw, unless sun397_tfds_tr.txt, _va.txt and _te.txt of TensorFlow Datasets lie in SUN397/"

TASKS: dict[str, Task] = {
    "caltech101": Task("Caltech101", "natural", 102, named.caltech, NINETY, {"train": 3060, "test": 6084}, CALTECH),
    "cifar100": Task("CIFAR-100", "natural", 100, torchvision_pools("cifar100", last), NINETY,
                     {"train": 50_000, "test": 10_000}),
    "dtd": Task("DTD", "natural", 47, torchvision_pools("dtd", last_two), OWN, three(1880, 1880, 1880)),
    "flowers102": Task("Flowers102", "natural", 102, torchvision_pools("flowers102", last), OWN,
                       three(1020, 1020, 6149)),
    "pets": Task("Pets", "natural", 37, torchvision_pools("pets", last), EIGHTY, {"train": 3680, "test": 3669}),
    "sun397": Task("Sun397", "natural", 397, named.sun397, OWN, three(76_128, 10_875, 21_750), SUN),
    "svhn": Task("SVHN", "natural", 10, torchvision_pools("svhn", last), NINETY, {"train": 73_257, "test": 26_032}),
    "camelyon": Task("Patch Camelyon", "specialized", 2, torchvision_pools("pcam", camelyon), OWN,
                     three(262_144, 32_768, 32_768)),
    "eurosat": Task("EuroSAT", "specialized", 10, torchvision_pools("eurosat", class_and_file), SIXTY,
                    {"train": 27_000}),
    "resisc45": Task("Resisc45", "specialized", 45, named.resisc45, SIXTY, {"train": 31_500}),
    "retinopathy": Task("Diabetic Retinopathy", "specialized", 5, retinopathy.pools, OWN,
                        three(35_126, 10_906, 42_670)),
    "clevr-count": Task("Clevr, count", "structured", 8, clevr.count_pools, CLEVR,
                        {"train": 70_000, "validation": 15_000}),
    "clevr-distance": Task("Clevr, distance", "structured", 6, clevr.distance_pools, CLEVR,
                           {"train": 70_000, "validation": 15_000}),
    "dmlab": Task("DMLab", "structured", 6, dmlab.pools, OWN, three(65_550, 22_628, 22_735)),
    "kitti-distance": Task("KITTI, distance", "structured", 4, kitti.pools, OWN, three(6347, 423, 711)),
    "dsprites-location": Task("dSprites, location", "structured", 16, partial(dsprites.pools, which="location"),
                              SPRITES, {"train": 737_280}),
    "dsprites-orientation": Task("dSprites, orientation", "structured", 16,
                                 partial(dsprites.pools, which="orientation"), SPRITES, {"train": 737_280}),
    "smallnorb-azimuth": Task("SmallNORB, azimuth", "structured", 18, partial(smallnorb.pools, which="azimuth"), NORB,
                              {"train": 24_300, "test": 24_300}),
    "smallnorb-elevation": Task("SmallNORB, elevation", "structured", 9, partial(smallnorb.pools, which="elevation"),
                                NORB, {"train": 24_300, "test": 24_300}),
}  # fmt: skip
