"""Tar shards as WebDataset and img2dataset write them: data as large as one likes, in few large files.

`samples.py` says what is one sample and where its label stands, `labels.py` what a label means. Names of the classes:
`classes.json` (a list) or `classes.txt` (a line each) beside the shards.

Shards are read in place, wherever they are: what lies where is found out once and kept (`index.py`), then each image is
one read of so many bytes. Shards on a web server are fetched whole into a bounded cache when they are needed, and the
order of an epoch goes through them so that each is needed once (`remote.py`, `order.py`).
"""

import json
import re
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from allmlp.data.assemble import Choices, assemble
from allmlp.data.dataset import SPLITS, Data
from allmlp.data.faults import counted, listed
from allmlp.data.index import MAX_INDEX_BYTES, Index, index_of, kept_index, read_index, save_index
from allmlp.data.labels import encode_labels
from allmlp.data.packed import PackedImages
from allmlp.data.remote import cache_folder, check_address, fetched, fetched_small
from allmlp.data.samples import scan_shard
from allmlp.data.texts import Texts
from allmlp.data.tree import SPLIT_FOLDERS
from allmlp.errors import BadData, CannotDownload

MAX_SHARDS = 1_000_000
INDEX_ENDING = ".index"  # of a file beside a shard
MAX_CLASSES_BYTES = 1 << 26  # of a list of classes
CLASS_FILES = ("classes.json", "classes.txt")
CAPTIONS = 0.5  # more different texts than this share of the images are captions and not classes
SPLIT_START = re.compile(r"(train|training|val|valid|validation|test|testing)(?![a-z])", re.IGNORECASE)


def open_shards(where: str, choices: Choices) -> Data:
    """The data set in the shards that `where` means: a folder, a file, a pattern with `*` or `{000..011}`, or such an
    address.

    The splits are told by the names of the files or of their folder (`val-000.tar`, `val/000.tar`); without, a
    validation part is drawn. `choices.skip_bad` also goes on where a shard is damaged, with what comes before.
    """
    shards = expand(where)
    named = [(split_of(shard) or "train", shard) for shard in shards]
    notes: list[str] = []
    by_split = {split: [shard for own, shard in named if own == split]
                for split in SPLITS if any(own == split for own, _ in named)}
    indices = {split: [_index(shard, choices.skip_bad, notes) for shard in own] for split, own in by_split.items()}
    every = [index for own in indices.values() for index in own]
    values = [json.loads(text) for index in every for text in index.labels]
    names = Texts.joined([index.names for index in every])
    classes = _class_names(shards[0])
    if classes is None:
        _refuse_captions(where, values)
    files = [shard for own in by_split.values() for shard in own]
    ends = np.cumsum([len(index) for index in every])
    classes, labels = encode_labels(
        values, classes, where, lambda i: f"{files[int(np.searchsorted(ends, i, side='right'))]}/{names[i]}")
    splits, start = {}, 0
    for split, own in indices.items():
        count = sum(map(len, own))
        splits[split] = packed(by_split[split], own, labels[start : start + count], classes)
        start += count
    return assemble(where, splits, notes, choices)


def packed(files: Sequence[str], indices: Sequence[Index], labels: np.ndarray, classes: Sequence[str]) -> PackedImages:
    """The images of several files, one after the other."""
    places = [np.stack([np.full(len(index), number), index.offsets, index.sizes], 1)
              for number, index in enumerate(indices)]
    return PackedImages(tuple(files), np.concatenate(places), labels, classes,
                        Texts.joined([index.names for index in indices]))


# --- which shards ----------------------------------------------------------------------------------------------------


def expand(where: str) -> list[str]:
    """The files or addresses that `where` stands for, sorted within each pattern. Raises `BadData` for none."""
    shards: list[str] = []
    for pattern in _braces(where):
        if "://" in pattern or pattern.startswith("pipe:"):
            check_address(pattern)
            shards.append(pattern)
            continue
        path = Path(pattern).expanduser()
        if path.is_dir():
            shards += sorted(map(str, path.glob("*.tar"))) or sorted(map(str, path.glob("*/*.tar")))
        else:
            shards += [str(path)] if path.is_file() else sorted(glob(str(path)))
    if not shards:
        raise BadData(f"{where}: no shards there; give a folder with .tar files, or a pattern such as 'path/*.tar', "
                      "'path/{000..011}.tar' or 'https://host/{000..011}.tar' in quotes")
    return list(dict.fromkeys(shards))


def _braces(pattern: str) -> Iterator[str]:
    """`a{00..02}b` and `{x,y}` written out, as a shell does."""
    if (found := re.search(r"\{([^{}]*)\}", pattern)) is None:
        yield pattern
        return
    inside = found[1]
    if bounds := re.fullmatch(r"(\d+)\.\.(\d+)", inside):
        first, last = int(bounds[1]), int(bounds[2])
        if not 0 <= last - first < MAX_SHARDS:
            raise BadData(f"{pattern}: {{{inside}}} counts up, to at most {MAX_SHARDS:,} shards")
        choices: Iterator[str] | list[str] = (f"{number:0{len(bounds[1])}d}" for number in range(first, last + 1))
    else:
        choices = inside.split(",")
    for choice in choices:
        yield from _braces(pattern[: found.start()] + choice + pattern[found.end() :])


def split_of(shard: str) -> str | None:
    """The split that a file's name begins with ("val-000.tar"), or else that its folder is called by."""
    path = Path(urlsplit(shard).path if "://" in shard else shard)
    if found := SPLIT_START.match(path.name):
        return SPLIT_FOLDERS[found[1].lower()]
    return SPLIT_FOLDERS.get(path.parent.name.lower())


# --- what lies in a shard --------------------------------------------------------------------------------------------


def _index(shard: str, skip_bad: bool, notes: list[str]) -> Index:
    try:
        if "://" in shard:
            index = _remote_index(shard)
        else:
            index = kept_index(Path(shard), "shard", lambda: scan_shard(Path(shard), shard))
    except CannotDownload as error:
        if not skip_bad:
            raise
        notes.append(str(error))
        return index_of(())
    wrong = [*index.remarks, *([index.damage] if index.damage else [])]
    if wrong and not skip_bad:
        more = f" ({len(wrong) - 1} more in this shard)" if len(wrong) > 1 else ""
        raise BadData(f"{wrong[0]}{more}; --skip-bad goes on without")
    if wrong:
        notes.append(f"{shard}: left out {counted(len(index.remarks), 'member')}: {listed(wrong)}")
    return index


def _remote_index(url: str) -> Index:
    """From the file beside the shard if there is one, as `allmlp shard` writes it; else the shard is fetched for it. It
    is kept: the shard itself may leave the cache."""
    anchor = cache_folder()
    anchor.mkdir(parents=True, exist_ok=True)

    def build() -> Index:
        content = fetched_small(f"{url}{INDEX_ENDING}", MAX_INDEX_BYTES)
        if content is None:
            return scan_shard(fetched(url), url)
        index = read_index(content, f"{url}{INDEX_ENDING}")
        try:
            for text in index.labels:
                json.loads(text)
        except (ValueError, RecursionError):
            raise BadData(f"{url}{INDEX_ENDING}: not an index of a shard (a label that is no JSON)") from None
        return index

    return kept_index(anchor, "shard", build, identity=url)


def write_index_beside(shard: Path) -> None:
    """So that who reads the shard from afar need not fetch it to know what is in it."""
    save_index(scan_shard(shard, shard.name), f"{shard}{INDEX_ENDING}")


def _refuse_captions(where: str, values: Sequence[Any]) -> None:
    texts = {value for value in values if isinstance(value, str)}
    if len(texts) > max(CAPTIONS * len(values), 10):
        raise BadData(f"{where}: {len(texts):,} different labels for {len(values):,} images, so these texts are "
                      "captions and no classes; put a .cls or a 'label' in the .json of each sample")


def _class_names(shard: str) -> list[str] | None:
    """The list beside the shard, or beside its folder, if there is one."""
    if "://" in shard:
        return None
    for folder in (Path(shard).parent, Path(shard).parent.parent):
        for name in CLASS_FILES:
            path = folder / name
            if path.is_file() and path.stat().st_size <= MAX_CLASSES_BYTES:
                try:
                    text = path.read_text(encoding="utf-8-sig")
                    names = json.loads(text) if name.endswith(".json") else text.split("\n")
                except (ValueError, RecursionError, OSError) as error:
                    raise BadData(f"{path}: cannot be read: {error}") from None
                names = [line for line in names if line] if name.endswith(".txt") else names
                if not isinstance(names, list) or not all(isinstance(line, str) and line for line in names):
                    raise BadData(f"{path}: expected a list of the names of the classes")
                return [line.rstrip("\r") for line in names]
    return None
