"""CLEVR: how many objects there are, and how far the closest is, from the descriptions of the scenes.

`CLEVR_v1.0/images/{train,val}/CLEVR_train_000000.png` and `CLEVR_v1.0/scenes/CLEVR_{train,val}_scenes.json`. The
benchmark tests on the validation images, since those of the test part have no descriptions.

- count: 3 to 10 objects, classes 0 to 7 (task_adaptation, data/clevr.py).
- distance: the smallest depth (the third of `pixel_coords`, float32 as there), in six classes by `EDGES`; one that lies
  on an edge belongs to the class below it.
"""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from allmlp.data.assemble import Choices
from allmlp.data.imagefolder import FolderImages
from allmlp.data.vtab.files import found
from allmlp.data.vtab.pool import Pool, pool_of
from allmlp.errors import BadData, printable

ORIGIN = "cs.stanford.edu/people/jcjohns/clevr"
MAX_SCENES_BYTES = 1 << 30  # the training part's file has some 140 MB
EDGES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
FEWEST, MOST = 3, 10
COUNTS = tuple(f"{number} objects" for number in range(FEWEST, MOST + 1))
DISTANCES = ("at most 8", *(f"{low:g} to {high:g}" for low, high in itertools.pairwise(EDGES[1:6])),
             "more than 10")


def count_pools(choices: Choices) -> dict[str, Pool]:
    return _pools(choices, COUNTS, lambda scene: len(scene["objects"]) - FEWEST)


def distance_pools(choices: Choices) -> dict[str, Pool]:
    def distance(scene: Mapping[str, Any]) -> int:
        return closest(min(one["pixel_coords"][2] for one in scene["objects"]), EDGES)

    return _pools(choices, DISTANCES, distance)


def closest(distance: float, edges: tuple[float, ...]) -> int:
    """The last of `edges` that lies below `distance`, both in float32; -1 for none."""
    return int((np.array(edges, np.float32) < np.float32(distance)).sum()) - 1


def _pools(choices: Choices, classes: tuple[str, ...], label: Any) -> dict[str, Pool]:
    root = found(choices.data_dir, ("CLEVR_v1.0", "clevr/CLEVR_v1.0"), ORIGIN)
    return {pool: _pool(root, part, classes, label) for pool, part in (("train", "train"), ("validation", "val"))}


def _pool(root: Path, part: str, classes: tuple[str, ...], label: Any) -> Pool:
    path = root / "scenes" / f"CLEVR_{part}_scenes.json"
    try:
        if path.stat().st_size > MAX_SCENES_BYTES:
            raise BadData(f"{path}: {path.stat().st_size} bytes, more than the limit of {MAX_SCENES_BYTES}")
        scenes = json.loads(path.read_bytes())["scenes"]
        names = [str(scene["image_filename"]) for scene in scenes]
        labels = np.array([label(scene) for scene in scenes], np.int64)
    except OSError as error:
        raise BadData(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError, KeyError, TypeError, IndexError) as error:
        raise BadData(f"{path}: not the descriptions of CLEVR's scenes ({type(error).__name__}: "
                      f"{printable(str(error), 60)}); get them again from {ORIGIN}") from None
    wrong = [name for name, own in zip(names, labels.tolist(), strict=True)
             if not 0 <= own < len(classes) or "/" in name or "\\" in name or not name.endswith(".png")]
    if wrong:
        raise BadData(f"{path}: {printable(wrong[0], 60)!r}: no picture of CLEVR, which has {FEWEST} to {MOST} objects "
                      f"less than {EDGES[-1]:g} away")
    files = tuple(f"images/{part}/{name}" for name in names)
    return pool_of(FolderImages(root, files, labels, classes), names)
