"""What is one sample in a tar shard, and where its label stands.

Members next to each other whose names agree up to the first dot are one sample: `000.jpg 000.json 000.txt`. Its image
is the first member with the ending of an image. Its label is, in this order: the field `label`, `labels`, `cls` or
`class` of `.json`; `.cls` (a number or a name); `.txt`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from allmlp.data.image import IMAGE_EXTENSIONS
from allmlp.data.index import Index, index_of
from allmlp.data.packed import MAX_IMAGE_BYTES
from allmlp.data.tar import Member, members
from allmlp.errors import AllMLPError, BadData

LABEL_FIELDS = ("label", "labels", "cls", "class")
MAX_LABEL_BYTES = 1 << 20  # of a member that says the label; img2dataset's .json are some 1,000


def scan_shard(path: Path, name: str) -> Index:
    """What `path`, called `name`, holds: each sample's image and, as JSON, its label."""
    rows: list[tuple[int, int, str, str]] = []
    remarks: list[str] = []
    damage = ""
    with open(path, "rb") as file:
        sample: dict[str, Member] = {}
        key = ""

        def close() -> None:
            if sample:
                try:
                    rows.append(_row(file, key, sample))
                except AllMLPError as error:
                    remarks.append(f"{name}/{key}: {error}")

        try:
            for member in members(file, name):
                folder, slash, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                if stem == "" or "__MACOSX" in folder:  # .DS_Store and the like
                    continue
                if folder + slash + stem != key:
                    close()
                    key, sample = folder + slash + stem, {}
                sample.setdefault(ending.lower(), member)
        except BadData as error:
            damage = str(error)
        close()
    return index_of(rows, remarks, damage)


def _row(file: BinaryIO, key: str, sample: Mapping[str, Member]) -> tuple[int, int, str, str]:
    ending = next((ending for ending in sample if f".{ending.rpartition('.')[2]}" in IMAGE_EXTENSIONS), None)
    if ending is None:
        raise BadData(f"no image, only .{' .'.join(list(sample)[:5])}")
    image = sample[ending]
    if image.unusable:
        raise BadData(f"{image.unusable}, not an image")
    if not 0 < image.size <= MAX_IMAGE_BYTES:
        raise BadData(f"an image of {image.size} bytes; accepted are 1 to {MAX_IMAGE_BYTES}")
    return image.offset, image.size, f"{key}.{ending}", _label(file, sample)


def _label(file: BinaryIO, sample: Mapping[str, Member]) -> str:
    """As JSON."""
    if "json" in sample:
        try:
            found = json.loads(_text(file, sample["json"]))
            for name in LABEL_FIELDS:
                if isinstance(found, dict) and name in found:
                    return json.dumps(found[name])
        except (ValueError, RecursionError):
            raise BadData("its .json is no JSON") from None
    if "cls" in sample:
        text = _text(file, sample["cls"]).strip()
        return json.dumps(int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text)
    if "txt" in sample:
        return json.dumps(_text(file, sample["txt"]).strip())
    raise BadData(f"no label: neither {' or '.join(map(repr, LABEL_FIELDS))} in .json, nor .cls, nor .txt")


def _text(file: BinaryIO, member: Member) -> str:
    if member.unusable or member.size > MAX_LABEL_BYTES:
        raise BadData(f"its .{member.name.rpartition('.')[2]} is {member.unusable or f'{member.size} bytes long'}")
    back = file.tell()
    file.seek(member.offset)
    content = file.read(member.size)
    file.seek(back)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BadData(f"its .{member.name.rpartition('.')[2]} is no UTF-8 text") from None
