"""Where images come from. `open_data` turns what a person writes for DATA into a `Data`:

    digits, digit-scenes, digit-masks, cifar10, … a data set by name (`SOURCES`)
    photos                                        a folder of images, of parquet files, of tar shards, or ImageNet's
    imagenet:DIR  imagenet21k:DIR                 ImageNet as it is distributed
    hf:owner/name  hf:DIR  photos.parquet         a data set of the Hugging Face Hub, or parquet files
    shards:DIR  photos/*.tar  https://…/{000..011}.tar    WebDataset shards
    vtab:TASK  vtab:TASK+val                      VTAB-1k: a task's 800 or 1,000 images, and its test part
    masks:DIR  voc:DIR  pet-masks:DIR  ade20k:DIR    images with masks; a folder with images/ and masks/ is one too
    imagenet-v2:DIR  imagenet-a:  -r:  -sketch:  -c:    test sets for networks trained on ImageNet
"""

import difflib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from allmlp.data.dataset import Data
from allmlp.errors import BadData, UnknownName

if TYPE_CHECKING:
    from allmlp.data.assemble import Choices

MOST_LOOKED_AT = 200  # folders, to see what kind of data lies in one
DATA_DIR = "ALLMLP_DATA"  # environment: where named data sets lie; without it ./data


def _digits(where: str, choices: "Choices") -> Data:
    from allmlp.data.digits import open_digits

    return open_digits()


def _scenes(where: str, choices: "Choices") -> Data:
    from allmlp.data.scenes import open_scenes

    return open_scenes()


def _digit_masks(where: str, choices: "Choices") -> Data:
    from allmlp.data.digit_masks import open_digit_masks

    return open_digit_masks()


def _torchvision(where: str, choices: "Choices") -> Data:
    from allmlp.data.torchvision_sets import open_torchvision

    return open_torchvision(where, choices)


def _folder(where: str, choices: "Choices") -> Data:
    from allmlp.data.imagefolder import open_folder

    return open_folder(Path(where).expanduser(), val_fraction=choices.val_fraction, seed=choices.seed,
                       skip_bad=choices.skip_bad, split_files=choices.split_files)


def _imagenet(where: str, choices: "Choices") -> Data:
    from allmlp.data.imagenet import open_imagenet

    return open_imagenet(where, choices)


def _imagenet21k(where: str, choices: "Choices") -> Data:
    from allmlp.data.imagenet import open_imagenet21k

    return open_imagenet21k(where, choices)


def _parquet(where: str, choices: "Choices") -> Data:
    from allmlp.data.parquet import open_parquet

    return open_parquet(where, choices)


def _shards(where: str, choices: "Choices") -> Data:
    from allmlp.data.webdataset import open_shards

    return open_shards(where, choices)


def _vtab(where: str, choices: "Choices") -> Data:
    from allmlp.data.vtab import open_vtab

    return open_vtab(where, choices)


def _masks(kind: str) -> "Open":
    def open_one(where: str, choices: "Choices") -> Data:
        from allmlp.data.masks import open_masks

        return open_masks(kind, where, choices)

    return open_one


def _variant(kind: str) -> "Open":
    def open_one(where: str, choices: "Choices") -> Data:
        from allmlp.data.imagenet_variants import open_variant

        return open_variant(kind, where, choices)

    return open_one


Open = Callable[[str, "Choices"], Data]
TORCHVISION = ("aircraft", "caltech101", "cars", "cifar10", "cifar100", "country211", "dtd", "eurosat", "flowers102",
               "food101", "gtsrb", "pcam", "pets", "sst2", "stl10", "sun397", "svhn")
MASKS = ("masks", "voc", "pet-masks", "ade20k")  # images with a class for every pixel
IMAGENET_VARIANTS = ("imagenet-v2", "imagenet-a", "imagenet-r", "imagenet-sketch", "imagenet-c")
AT_HAND: dict[str, Open] = {"digits": _digits, "digit-scenes": _scenes, "digit-masks": _digit_masks}  # no download
SOURCES: dict[str, Open] = {**AT_HAND, **dict.fromkeys(TORCHVISION, _torchvision)}  # by name
KINDS: dict[str, Open] = {  # by what stands before the colon
    "folder": _folder, "imagenet": _imagenet, "imagenet21k": _imagenet21k, "hf": _parquet, "shards": _shards,
    "vtab": _vtab,
    **{kind: _variant(kind) for kind in IMAGENET_VARIANTS},
    **{kind: _masks(kind) for kind in MASKS},
}  # fmt: skip


def open_data(
    source: str,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    skip_bad: bool = False,
    split_files: Mapping[str, Sequence[str]] | None = None,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> Data:
    """The data set that `source` means: one of `SOURCES`, something with the prefix of one of `KINDS`, or a path.

    The other arguments are those of `assemble.Choices`; a fraction and a seed have no effect on a source with splits of
    its own. `data_dir`: see `data_folder`. Raises `UnknownName` for what is neither a name nor a
    path, `BadData` for data that cannot be used, `CannotDownload` for what is not there.
    """
    from allmlp.data.assemble import Choices

    kind, where = kind_of(source)
    choices = Choices(val_fraction, seed, skip_bad, split_files,
                      data_folder(data_dir), download)
    return (SOURCES[where] if kind == "name" else KINDS[kind])(where, choices)


def data_folder(given: str | os.PathLike | None = None) -> Path:
    """Where named data sets lie: `given`, else $ALLMLP_DATA, else ./data."""
    return Path(given or os.environ.get(DATA_DIR) or "data").expanduser()


def kind_of(source: str) -> tuple[str, str]:
    """What `source` is, "name" or one of `KINDS`, and the rest of it. Raises `UnknownName` and `BadData`."""
    if source in SOURCES:
        return "name", source
    kind, colon, where = source.partition(":")
    if colon and kind in KINDS:
        if not where:
            raise BadData(f"{source!r}: nothing stands after the colon")
        return kind, where
    if not source.strip():
        raise BadData("no data given; accepted: a folder of images, or a name such as digits or cifar10")
    path = Path(source).expanduser()
    if source.startswith(("http://", "https://", "pipe:")) or source.endswith(".tar"):
        return "shards", source
    if source.endswith(".parquet"):
        return "hf", source
    if not path.exists():
        raise _unknown(source, path)
    return (_inside(path) if path.is_dir() else "folder"), source


def canonical(source: str) -> str:
    """`source`, so that it means the same in another working folder: paths made absolute."""
    kind, where = kind_of(source)
    path = Path(where).expanduser()
    local = kind not in ("name", "vtab") and "://" not in where and (path.exists() or kind != "hf")
    where = str(path.resolve()) if local else where
    return where if kind in ("name", "folder") else f"{kind}:{where}"


def short_name(source: str) -> str:
    """`source` as a part of a file's name."""
    _, where = kind_of(source)
    name = Path(where).resolve().name if "://" not in where else where.rpartition("/")[2]
    kept = "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in name.removesuffix(".tar"))
    return kept.strip("-.") or "data"


def _inside(folder: Path) -> str:
    """Which of `KINDS` a folder is, by the names in it: one with images in it is a folder of images, whatever lies
    beside them; img2dataset puts a parquet file beside each of its tars."""
    from allmlp.data.masks import is_masks
    from allmlp.data.tree import is_image

    if (kind := is_masks(folder)) is not None:
        return kind
    if (folder / "ILSVRC2012_img_train.tar").exists():
        return "imagenet"
    endings: set[str] = set()
    for _, _, names in itertools.islice(os.walk(folder), MOST_LOOKED_AT):
        if any(is_image(name) for name in names):
            return "folder"
        endings |= {os.path.splitext(name)[1].lower() for name in names}
    return "shards" if ".tar" in endings else "hf" if ".parquet" in endings else "folder"


def _unknown(source: str, folder: Path) -> UnknownName:
    """The error for a source that does not exist, with names and folders nearby that are spelt alike."""
    near = difflib.get_close_matches(source, SOURCES, cutoff=0.5)
    try:
        beside = [path.name for path in folder.parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        beside = []
    near += [str(folder.parent / name) for name in difflib.get_close_matches(folder.name, beside, cutoff=0.6)]
    accepted = f"accepted: a folder, {', '.join(SOURCES)}, or {', '.join(f'{kind}:…' for kind in KINDS)}"
    choice = f"did you mean {' or '.join(near[:5])}?" if near else accepted
    return UnknownName(f"unknown data {source!r}, no folder and no name of a data set; {choice}")
