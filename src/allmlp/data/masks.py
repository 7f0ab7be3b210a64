"""Images with their masks in folders: our own layout, and three common sets as they are distributed.

    masks:DIR      images/ and masks/, each with train, val, test folders or without (then a part is held out); a mask
                   is the image's name with .png. Class names: classes.txt, a line each; else numbers
    voc:DIR        PASCAL VOC's VOCdevkit/VOC2012: palette masks, 255 (the rim of objects) ignored
    pet-masks:DIR  Oxford-IIIT Pets: trimaps 1 pet, 2 background, 3 rim, which is a class of its own
    ade20k:DIR     ADE20K's ADEChallengeData2016: 0 is other things, ignored, so class k is the value k + 1

A mask is a PNG of palette or grey values of 8 bits, which are the classes; 255 is ignored. Masks are opened when they
are asked for, so what is wrong with one is told then, with its file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from allmlp.data.assemble import Choices
from allmlp.data.dataset import IGNORED, Data, ImageDataset, no_labels
from allmlp.data.faults import counted, listed
from allmlp.data.hold_out import restore
from allmlp.data.image import IMAGE_EXTENSIONS, MAX_PIXELS, open_image
from allmlp.data.split import draw_validation
from allmlp.errors import BadData, BadImage

SPLITS = {"train": ("train", "training"), "val": ("val", "validation", "valid"), "test": ("test",)}
VOC_CLASSES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
               "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
               "tvmonitor")  # fmt: skip
PET_CLASSES = ("pet", "background", "rim")
ADE_COUNT = 150
LOOKED_AT = 200  # masks whose values are read where no file names the classes

SAME = np.arange(256, dtype=np.uint8)
FROM_ONE = np.concatenate([[IGNORED], np.arange(255)]).astype(np.uint8)  # value 1 is class 0, and 0 ignored


@dataclass(frozen=True, eq=False)
class MaskedImages:
    """The images of one split. `files`: image and mask, relative to `root`, with "/". `table`: the class of each value
    of a mask."""

    root: Path
    files: tuple[tuple[str, str], ...] = field(repr=False)
    classes: tuple[str, ...]
    table: np.ndarray = field(default_factory=lambda: SAME, repr=False)
    labels: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", no_labels(len(self.files)))

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> np.ndarray:
        return open_image(self.root / self.files[index][0])

    def label_map(self, index: int) -> np.ndarray:
        path = self.root / self.files[index][1]
        labels = self.table[open_mask(path)]
        highest = int(labels.max(initial=0, where=labels != IGNORED))
        if highest >= len(self.classes):
            value = int(np.flatnonzero(self.table == highest)[0])
            raise BadImage(f"{path}: has the value {value}, and there are {len(self.classes)} classes; give a value to "
                           "each class, or 255 to what is to be ignored")
        return labels

    def name(self, index: int) -> str:
        return str(self.root / self.files[index][0])

    def key(self, index: int) -> str:
        return self.files[index][0]


def open_mask(path: Path) -> np.ndarray:
    """The values of a mask, uint8 `(H, W)`: palette numbers or grey values. Raises `BadImage`, naming the file."""
    from PIL import PngImagePlugin

    try:
        with open(path, "rb") as file:
            picture = PngImagePlugin.PngImageFile(file, "")
            if picture.width * picture.height > MAX_PIXELS:
                raise BadImage(f"{path}: more than {MAX_PIXELS:,} pixels")
            if picture.mode not in ("P", "L", "1"):
                raise BadImage(f"{path}: a PNG of mode {picture.mode}; a mask is a palette or grey PNG of 8 bits whose "
                               "values are classes")
            values = np.array(picture if picture.mode != "1" else picture.convert("L"))
    except OSError as error:
        raise BadImage(f"{path}: the mask cannot be read: {error.strerror or error}") from None
    except BadImage:
        raise
    except Exception as error:  # a reader given a damaged file may raise anything at all
        raise BadImage(f"{path}: no PNG, or a damaged one ({str(error)[:80]}); masks are PNG files") from None
    return (values > 0).astype(np.uint8) if picture.mode == "1" else values


def is_masks(folder: Path) -> str | None:
    """Which of the kinds here a folder is by its parts; None for none."""
    if (folder / "images").is_dir() and (folder / "masks").is_dir():
        return "masks"
    if (folder / "JPEGImages").is_dir() and (folder / "SegmentationClass").is_dir():
        return "voc"
    if (folder / "images").is_dir() and (folder / "annotations" / "trimaps").is_dir():
        return "pet-masks"
    if (folder / "images" / "training").is_dir() and (folder / "annotations" / "training").is_dir():
        return "ade20k"
    return None


def open_masks(kind: str, where: str, choices: Choices) -> Data:
    """The data set of a kind in a folder. Raises `BadData`, one line, for a folder that cannot be used."""
    root = Path(where).expanduser()
    if not root.is_dir():
        raise BadData(f"{root}: no such folder")
    return READERS[kind](root, choices)


def _own(root: Path, choices: Choices) -> Data:
    if is_masks(root) != "masks":
        raise BadData(f"{root}: no images/ and masks/ folders; these are what is read")
    parts = {split: pairs for split, names in SPLITS.items() for name in names
             if (root / "images" / name).is_dir() and (pairs := _pairs(root, f"images/{name}", f"masks/{name}"))}
    drawn = not parts
    files = parts or {"train": _pairs(root, "images", "masks")}
    if "train" not in files or not files["train"]:
        raise BadData(f"{root}: no training images in images/{'' if drawn else 'train/'}")
    classes = _classes(root, [pair for pairs in files.values() for pair in pairs])
    splits = {split: MaskedImages(root, tuple(pairs), classes) for split, pairs in files.items()}
    return _with_validation(root, splits, classes, choices)


def _with_validation(root: Path, splits: dict[str, MaskedImages], classes: tuple[str, ...], choices: Choices) -> Data:
    """With a validation part drawn, or restored, where there is no other split than training."""
    notes: list[str] = []
    drawn = "val" not in splits and "test" not in splits
    if drawn and choices.split_files is not None:
        train = splits["train"]
        splits, left = restore(str(root), train, [one for one, _ in train.files], _some, choices.split_files)
        if left:
            notes.append(f"{counted(len(left), 'image')} not in the recorded split and not used: {listed(left)}")
    elif drawn and choices.val_fraction > 0:
        train = splits["train"]
        held = draw_validation([one for one, _ in train.files], train.labels, choices.val_fraction, choices.seed)
        if held.any():
            splits = {"train": _some(train, np.flatnonzero(~held)), "val": _some(train, np.flatnonzero(held))}
        notes.append(f"held out for validation: {held.sum()} of {len(train)} images, at random (fraction "
                     f"{choices.val_fraction:g}, seed {choices.seed})")
    chosen = {name: tuple(one for one, _ in part.files) for name, part in splits.items()} if drawn else None
    every: Mapping[str, ImageDataset] = splits
    return Data(str(root), classes, every, tuple(notes), chosen)


def _some(images: MaskedImages, indices: np.ndarray) -> MaskedImages:
    return MaskedImages(images.root, tuple(images.files[index] for index in indices), images.classes, images.table)


def _pairs(root: Path, images: str, masks: str) -> list[tuple[str, str]]:
    """Each image in a folder with its mask. Raises `BadData`, naming the images that have none."""
    files = sorted(path for path in (root / images).rglob("*") if path.suffix.lower() in IMAGE_EXTENSIONS)
    pairs, lonely = [], []
    for path in files:
        within = path.relative_to(root / images).with_suffix(".png")
        (pairs if (root / masks / within).is_file() else lonely).append(
            (path.relative_to(root).as_posix(), (Path(masks) / within).as_posix()))
    _all_have_masks(root, lonely)
    return pairs


def _all_have_masks(root: Path, lonely: Sequence[tuple[str, str]]) -> None:
    if lonely:
        missing = listed([mask for _, mask in lonely])
        raise BadData(f"{root}: {counted(len(lonely), 'image')} without a mask, such as {lonely[0][0]}; missing: "
                      f"{missing}")


def _classes(root: Path, files: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Those of classes.txt, else numbers up to the highest value in up to `LOOKED_AT` masks, evenly over all."""
    names = root / "classes.txt"
    if names.is_file():
        found = tuple(line.strip() for line in names.read_text(encoding="utf-8").splitlines() if line.strip())
        if not 2 <= len(found) < 256 or len(set(found)) < len(found):
            raise BadData(f"{names}: {len(found)} names; expected 2 to 255 different ones, a line each, in "
                          "the order of values from 0")
        return found
    highest = 1
    for index in np.linspace(0, len(files) - 1, min(len(files), LOOKED_AT)).astype(int):
        values = open_mask(root / files[index][1])
        highest = max(highest, int(values.max(initial=0, where=values != IGNORED)))
    return tuple(map(str, range(highest + 1)))


def _by_list(root: Path, names: Path, images: str, masks: str) -> tuple[tuple[str, str], ...]:
    """Image and mask of each line of a list. The first word of a line is the name; "#" begins a remark."""
    try:
        lines = names.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadData(f"{names}: cannot be read: {error.strerror}") from None
    found = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    pairs = [(f"{images}/{name}.jpg", f"{masks}/{name}.png") for name in found]
    _all_have_masks(root, [pair for pair in pairs if not (root / pair[1]).is_file()])
    return tuple(pairs)


def _voc(root: Path, choices: Choices) -> Data:
    lists = root / "ImageSets" / "Segmentation"
    splits = {name: MaskedImages(root, _by_list(root, lists / f"{name}.txt", "JPEGImages", "SegmentationClass"),
                                 VOC_CLASSES) for name in ("train", "val") if (lists / f"{name}.txt").exists()}
    if "train" not in splits:
        raise BadData(f"{lists / 'train.txt'}: no such list; it names the training images")
    return _with_validation(root, splits, VOC_CLASSES, choices)


def _pets(root: Path, choices: Choices) -> Data:
    lists = {"train": "trainval.txt", "test": "test.txt"}
    splits = {name: MaskedImages(root, _by_list(root, root / "annotations" / file, "images", "annotations/trimaps"),
                                 PET_CLASSES, FROM_ONE)
              for name, file in lists.items() if name == "train" or (root / "annotations" / file).exists()}
    if choices.val_fraction <= 0 and choices.split_files is None:
        return Data(str(root), PET_CLASSES, splits)
    found = _with_validation(root, {"train": splits["train"]}, PET_CLASSES, choices)
    rest: Mapping[str, ImageDataset] = {**found.splits, **{k: v for k, v in splits.items() if k != "train"}}
    return Data(str(root), PET_CLASSES, rest, found.notes, found.split_files)


def _ade(root: Path, choices: Choices) -> Data:
    names = root / "objectInfo150.txt"
    classes = tuple(map(str, range(1, ADE_COUNT + 1)))
    if names.is_file():  # Idx, Ratio, Train, Val, Name, by tabs; of synonyms the first, numbered where it is not alone
        rows = [line.split("\t") for line in names.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
        words = [row[-1].split(",")[0].strip() for row in rows]
        if len(words) != ADE_COUNT:
            raise BadData(f"{names}: {len(words)} classes, expected {ADE_COUNT}")
        classes = tuple(word if words.count(word) == 1 else f"{word} {number}" for number, word in enumerate(words, 1))
    splits = {split: MaskedImages(root, tuple(_pairs(root, f"images/{name}", f"annotations/{name}")), classes, FROM_ONE)
              for split, name in (("train", "training"), ("val", "validation"))
              if (root / "images" / name).is_dir()}
    return _with_validation(root, splits, classes, choices)


READERS: dict[str, Callable[[Path, Choices], Data]] = {"masks": _own, "voc": _voc, "pet-masks": _pets, "ade20k": _ade}
