"""torch's `.pth`, in both forms that `torch.save` has written.

- Since torch 1.6 a zip: `NAME/data.pkl`, a pickle that names storages, and one member `NAME/data/KEY` for each.
- Before (timm's first conversions of Google's Mixers are so): five pickles in a row (a magic number, a version, facts
  about the machine, the object, the keys of its storages), then each storage in that order: its length, its numbers.

A state dict may lie in a training checkpoint; averaged weights are preferred to raw ones, as timm does.
"""

import io
import os
import zipfile
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, BinaryIO

import torch

from allmlp.errors import BadCheckpoint
from allmlp.weights.archive import read_member
from allmlp.weights.pickles import MAX_PICKLE_BYTES, Storage, View, read_pickle
from allmlp.weights.stored import StoredTensor, from_bytes

LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # the number 0x1950a86a20f9469cfc6c
LEGACY_VERSION = 1001
CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")


def is_pth(archive: zipfile.ZipFile) -> bool:
    return any(member.filename.endswith("/data.pkl") for member in archive.infolist())


def stored_tensors(archive: zipfile.ZipFile) -> dict[str, StoredTensor]:
    """Name to tensor of a zip `.pth`; reads the pickle only. Raises `BadCheckpoint`."""
    members = {member.filename: member for member in archive.infolist()}
    pickles = [name for name in members if name.endswith("/data.pkl")]
    root = pickles[0].removesuffix("data.pkl")
    if len(pickles) > 1 or root + "constants.pkl" in members:
        raise BadCheckpoint("a TorchScript program or several files in one, not weights; save model.state_dict() alone")
    if root + "byteorder" in members and read_member(archive, members[root + "byteorder"]) != b"little":
        raise BadCheckpoint("its numbers are big-endian, which is not supported")
    if members[pickles[0]].file_size > MAX_PICKLE_BYTES:
        raise BadCheckpoint(f"its pickle is longer than {MAX_PICKLE_BYTES} bytes")
    tree = read_pickle(io.BytesIO(read_member(archive, members[pickles[0]])))

    @lru_cache(maxsize=1)  # the tensors of a flattened network are views of one storage
    def read(storage: Storage) -> bytes:
        return read_member(archive, members[f"{root}data/{storage.key}"])

    def bytes_of(storage: Storage) -> Callable[[], bytes]:
        member = members.get(f"{root}data/{storage.key}")
        if member is None or member.file_size != storage.numel * storage.itemsize:
            raise BadCheckpoint(f"its storage {storage.key[:100]!r} is missing or not {storage.numel} numbers long")
        return partial(read, storage)

    return _state_dict(tree, bytes_of)


def legacy_stored_tensors(file: BinaryIO) -> dict[str, StoredTensor]:
    """Name to tensor of a `.pth` of the older form; `file` stands at its start and must stay open for reading."""
    storages: dict[str, Storage] = {}
    _magic, version, machine = (read_pickle(file) for _ in range(3))
    if version != LEGACY_VERSION or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise BadCheckpoint(f"a .pth of another version than {LEGACY_VERSION}, or not little-endian")
    tree, keys = read_pickle(file, storages), read_pickle(file)
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(storages):
        raise BadCheckpoint("its list of storages is damaged")

    starts, position, size = {}, file.tell(), os.fstat(file.fileno()).st_size
    for key in keys:
        starts[key] = position
        position += 8 + storages[key].numel * storages[key].itemsize
    if position > size:
        raise BadCheckpoint(f"its tensors end at byte {position}, but the file has {size}: truncated; copy it again")

    def bytes_of(storage: Storage) -> Callable[[], bytes]:
        return partial(_read_storage, file, starts[storage.key], storage)

    return _state_dict(tree, bytes_of)


def _read_storage(file: BinaryIO, start: int, storage: Storage) -> bytes:
    file.seek(start)
    length = int.from_bytes(file.read(8), "little")
    if length != storage.numel:
        raise BadCheckpoint(f"its storage {storage.key[:100]!r} has {length} numbers instead of {storage.numel}")
    return file.read(storage.numel * storage.itemsize)


def _state_dict(tree: Any, bytes_of: Callable[[Storage], Callable[[], bytes]]) -> dict[str, StoredTensor]:
    """The tensors of the state dict that an unpickled object is, or contains."""
    if not isinstance(tree, dict):
        raise BadCheckpoint("it holds no state dict (names and tensors)")
    for name in CONTAINERS:
        if isinstance(tree.get(name), dict):
            tree = tree[name]
            break
    strange = [str(name)[:100] for name, value in tree.items() if type(name) is not str or not isinstance(value, View)]
    if strange:
        more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
        raise BadCheckpoint(f"it holds things that are not tensors: {', '.join(strange[:5])}{more}; save "
                            "model.state_dict() alone")
    return {
        name: StoredTensor(view.shape, view.storage.dtype, partial(_read_view, view, bytes_of(view.storage)))
        for name, view in tree.items()
    }


def _read_view(view: View, read: Callable[[], bytes]) -> torch.Tensor:
    """The part of the storage that the view spans, seen by its strides."""
    start, itemsize = view.offset * view.storage.itemsize, view.storage.itemsize
    numbers = 1 + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    data = read()[start : start + numbers * itemsize]
    return from_bytes(data, view.storage.dtype).as_strided(view.shape, view.strides)
