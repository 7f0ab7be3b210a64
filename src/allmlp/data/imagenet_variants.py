"""Test sets for networks trained on ImageNet-1k: new photographs, other drawings, spoilt images. Nothing to train on.

- `imagenet-v2:DIR`: folders "0" to "999" by the number of the class (matched frequency, 10,000 images; arXiv
  1902.10811). Sorted as texts these would be 0, 1, 10, 100, …: here they are numbers.
- `imagenet-a:DIR`, `imagenet-r:DIR`: folders by synset, 200 of the 1,000 classes each (arXiv 1907.07174, 2006.16241).
  As in their papers a network answers among these 200 alone (`Data.closed`). Which they are the folder says.
- `imagenet-sketch:DIR`: folders by synset, all 1,000 (arXiv 1905.13549).
- `imagenet-c:DIR`: CORRUPTION/SEVERITY/SYNSET, in folders of kinds (noise, blur, …) or not (arXiv 1903.12261); or one
  severity alone, DIR with synsets in it. `evaluate.corruption` makes the mean corruption error of it.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from allmlp.data.assemble import Choices, readable
from allmlp.data.dataset import Data, ImageDataset, Splits
from allmlp.data.faults import counted
from allmlp.data.imagefolder import FolderImages
from allmlp.data.imagenet import NUM_CLASSES, synset_folders
from allmlp.data.tree import is_image
from allmlp.errors import BadData
from allmlp.weights.labels import SYNSET, synsets, words

FEWER_CLASSES = {"imagenet-a": 200, "imagenet-r": 200}
SEVERITIES = ("1", "2", "3", "4", "5")


def open_variant(kind: str, where: str, choices: Choices) -> Data:
    """One of `data.IMAGENET_VARIANTS` in a folder, with a test split alone. Raises `BadData`, one line."""
    root = Path(where).expanduser()
    if not root.is_dir():
        raise BadData(f"{root}: no such folder; {kind}: wants the one with the folders of the classes in it")
    if kind == "imagenet-v2":
        images = _by_number(root)
    elif kind == "imagenet-c":
        images = _corrupted(root)
    else:
        images = _by_synset(_with_classes(root), closed=kind in FEWER_CLASSES)
    notes = []
    present, expected = len(np.unique(images.labels)), FEWER_CLASSES.get(kind, NUM_CLASSES)
    if present != expected:
        notes.append(f"{kind}: images of {counted(present, 'class', 'classes')}, the published set has {expected:,}")
    test: ImageDataset = readable("test", images, notes) if choices.skip_bad else images
    if kind in FEWER_CLASSES:
        notes.append(f"{kind}: answers count among its {present} classes alone")
    return Data(f"{kind}:{where}", images.classes, Splits(test=test), tuple(notes), closed=kind in FEWER_CLASSES)


def corruptions(root: Path) -> dict[str, dict[str, Path]]:
    """Of each corruption in a folder of ImageNet-C, the folder of each severity; none where there are only synsets."""
    found: dict[str, dict[str, Path]] = {}
    for folder in sorted(_folders(root)):
        below = {path.name: path for path in _folders(folder)}
        if below and below.keys() <= set(SEVERITIES):
            found[folder.name] = {name: below[name] for name in sorted(below)}
        elif not SYNSET.fullmatch(folder.name):
            for inner in sorted(below.values()):
                severities = {path.name: path for path in _folders(inner)}
                if severities and severities.keys() <= set(SEVERITIES):
                    found[inner.name] = {name: severities[name] for name in sorted(severities)}
    return found


def _corrupted(root: Path) -> FolderImages:
    parts = [path for severities in corruptions(root).values() for path in severities.values()]
    if not parts:
        return _by_synset(root, closed=False)
    each = [_by_synset(path, closed=False) for path in parts]
    files = tuple(f"{path.relative_to(root).as_posix()}/{file}"
                  for path, images in zip(parts, each, strict=True) for file in images.files)
    return FolderImages(root, files, np.concatenate([images.labels for images in each]), each[0].classes)


def _by_synset(root: Path, closed: bool) -> FolderImages:
    """With the 1,000 classes, or with those alone that are there, in their order."""
    own = synset_folders(root)
    every = {synset: number for number, synset in enumerate(synsets("imagenet-1k"))}
    called = words("imagenet-1k")
    numbers: Mapping[str, int] = every
    if closed:
        known = [synset for synset in own.known if synset in every]
        called = tuple(called[every[synset]] for synset in known)
        numbers = {synset: number for number, synset in enumerate(known)}
    if strange := [synset for synset in own.known if synset not in every]:
        raise BadData(f"{root}: {strange[0]} is none of the {NUM_CLASSES:,} classes of ImageNet-1k")
    images = own.with_labels(numbers, called, root)
    assert isinstance(images, FolderImages)  # as folders are
    return images


def _by_number(root: Path) -> FolderImages:
    inside = _folders(root)
    if len(inside) == 1 and not inside[0].name.isdigit() and _folders(inside[0]):
        root, inside = inside[0], _folders(inside[0])  # imagenetv2-matched-frequency-format-val, as it unpacks
    strange = [path.name for path in inside
               if not (path.name.isascii() and path.name.isdigit() and str(int(path.name)) == path.name
                       and int(path.name) < NUM_CLASSES)]
    if strange or not inside:
        raise BadData(f"{root}: {f'{strange[0]!r} is' if strange else 'there is'} no folder of a class; expected "
                      f"folders called 0 to {NUM_CLASSES - 1}")
    files, labels = [], []
    for folder in sorted(inside, key=lambda path: int(path.name)):
        own = sorted(path.name for path in folder.iterdir() if is_image(path.name) and path.name[0] != ".")
        files += [f"{folder.name}/{name}" for name in own]
        labels += [int(folder.name)] * len(own)
    if not files:
        raise BadData(f"{root}: no images in its folders")
    return FolderImages(root, tuple(files), np.array(labels, np.int64), words("imagenet-1k"))


def _with_classes(root: Path) -> Path:
    """Archives unpack to a folder of their name; that above it is as good."""
    inside = _folders(root)
    return inside[0] if len(inside) == 1 and not SYNSET.fullmatch(inside[0].name) else root


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir() and path.name[0] != "."]
