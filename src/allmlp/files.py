"""Files: reading safetensors without trust, writing anything without loss.

Nothing is ever unpickled. Writing is atomic: temporary file, fsync, rename, so that a crash or a full disk leaves
what stood there before. The entry "allmlp-crc32" of the metadata is a checksum of all that a file holds, so that a bit
that flips on a disk or on the way is found when the file is read; it takes 0.3 to 0.8 s per GB, at each end.
"""

import contextlib
import json
import os
import platform
import secrets
import stat
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from allmlp.errors import BadCheckpoint, CannotWrite, printable

if TYPE_CHECKING:
    import torch

MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit; a header is read whole before anything else
CHECKSUM = "allmlp-crc32"
EXPORT_MANIFEST = "manifest.json"  # what an exported folder holds
ENGINE_MAGIC, ENGINE_SUFFIX = b"ALLMLPN\n", ".allmlp"  # how a file for the engine begins, and how its name ends


def begins_with(path: str | os.PathLike, start: bytes) -> bool:
    """Whether this is a file, one that can be read, and begins so."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(start)) == start
    except OSError:  # whoever reads all of it will say why
        return False


def save_tensors(tensors: "Mapping[str, torch.Tensor]", path: str | os.PathLike, metadata: dict[str, str]) -> None:
    """Write tensors and metadata as one safetensors file, with their checksum, atomically. Raises `CannotWrite`."""
    import safetensors.torch

    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    sealed = {**metadata, CHECKSUM: checksum(contiguous, metadata)}

    def write(temporary: str) -> None:
        safetensors.torch.save_file(contiguous, temporary, sealed)
        _sort_metadata(temporary)

    write_atomically(path, write)


def load_tensors(path: str | os.PathLike, device: str = "cpu") -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    """All tensors and the metadata of a safetensors file. Raises `BadCheckpoint`, also where the checksum is wrong.

    A file without one, of another program or of an earlier version, is taken as it is.
    """
    import safetensors.torch

    metadata = read_metadata(path)
    try:
        tensors = safetensors.torch.load_file(path, device="cpu")
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise BadCheckpoint(f"{path}: cannot be read as safetensors ({_short(error)}); "
                            "it may be truncated: copy it again") from None
    if CHECKSUM in metadata and metadata[CHECKSUM] != checksum(tensors, metadata):
        raise BadCheckpoint(f"{path}: damaged: what it holds does not have the checksum it was written with; "
                            "copy it again, or take an earlier checkpoint")
    return {name: tensor.to(device) for name, tensor in tensors.items()}, metadata


def checksum(tensors: "Mapping[str, torch.Tensor]", metadata: Mapping[str, str]) -> str:
    """CRC-32, 8 hexadecimal digits, of the metadata and of each tensor's name, dtype, shape and bytes, in their order
    by name. `metadata`: without the checksum itself, or with it, which is then passed over."""
    import torch

    said = sorted((key, value) for key, value in metadata.items() if key != CHECKSUM)
    crc = zlib.crc32(json.dumps(said).encode())
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode(), crc)
        crc = zlib.crc32(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def _sort_metadata(path: str) -> None:
    """Sort the metadata in the header of a file just written, in its place: safetensors writes it in an order of
    chance, and equal networks shall give equal files."""
    with open(path, "r+b") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        assert len(text) == length, "the same entries in another order take the same bytes"
        file.seek(8)
        file.write(text)


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a file of weights for reading. Raises `BadCheckpoint` for anything but a regular file; a pipe never waits.

    A symbolic link is followed, to a regular file only: the Hub's cache consists of links, and reading writes nothing.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise BadCheckpoint(f"{printable(path)}: cannot be read: {_short(error)}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadCheckpoint(f"{path}: not a regular file (a folder, a pipe or a device); give a file of weights")
    return os.fdopen(descriptor, "rb")


def read_start(path: str | os.PathLike) -> tuple[bytes, int]:
    """The first 9 bytes of a file of weights, which tell its kind, and its length. Raises `BadCheckpoint`."""
    with open_regular(path) as file:
        try:
            return file.read(9), os.fstat(file.fileno()).st_size
        except OSError as error:  # a file of the kernel's, such as /proc/self/mem, or a broken disk
            raise BadCheckpoint(f"{path}: cannot be read: {error.strerror or error}") from None


def refuse_link_out(path: Path) -> None:
    """Raises `BadCheckpoint` if `path`, a file that a folder brought along, is a link to somewhere outside the folder.

    Whoever made the folder would choose what is read on this machine. A file that the user names may be a link to
    anywhere. In the Hub's cache, links lead from `snapshots/REVISION/` to `blobs/` beside `snapshots`.
    """
    if not path.is_symlink():
        return
    folder, target = path.parent.resolve(), path.resolve()
    cache = folder.parent.with_name("blobs") if folder.parent.name == "snapshots" else folder
    if folder not in target.parents and cache not in target.parents:
        raise BadCheckpoint(f"{path}: a link that leads out of its folder, to {target}; "
                            "if that is the file you mean, give it by its own name")


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The metadata of a safetensors file; reads the header only. Raises `BadCheckpoint` for anything else."""
    start, size = read_start(path)
    if start[8:] != b"{":  # first, since the length before it may have the bytes of a zip or a pickle
        if start[:2] == b"PK":
            raise BadCheckpoint(f"{path}: a zip archive (.pth or .npz), not an allmlp checkpoint (.safetensors)")
        if start[:1] == b"\x80":
            raise BadCheckpoint(f"{path}: a Python pickle, which could run code when opened and is refused; "
                                "an allmlp checkpoint is a .safetensors file")
    header = struct.unpack("<Q", start[:8])[0] if start[8:] == b"{" else 0
    if not 2 <= header <= min(MAX_HEADER_BYTES, size - 8):
        raise BadCheckpoint(f"{path}: not a safetensors file, or truncated ({size} bytes)")
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise BadCheckpoint(f"{path}: cannot be read as safetensors ({_short(error)}); "
                            "it may be truncated: copy it again") from None


def write_atomically(path: str | os.PathLike, write: Callable[[str], None]) -> None:
    """Call `write(temporary path)`, force it to disk and rename it to `path`.

    Raises `CannotWrite` (full disk, no permission, no folder) with the temporary file removed.
    """
    import safetensors

    path = Path(path)
    check_target(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(str(temporary))
        os.chmod(temporary, 0o666 & ~_umask())  # safetensors creates files that only the owner may read
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        if platform.system() != "Windows":  # the rename itself reaches the disk with its folder
            descriptor = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except (OSError, safetensors.SafetensorError) as error:
        kept = "; the earlier file is untouched" if path.exists() else ""
        raise CannotWrite(f"{path}: cannot be written: {_short(error)}{kept}; free some space or choose another "
                          "place") from None
    finally:
        with contextlib.suppress(OSError):  # there is nothing to remove, or no folder to remove it from
            temporary.unlink()


def check_target(path: str | os.PathLike) -> None:
    """Raises `CannotWrite` for a place that no file of ours may take: a folder, a device or a pipe."""
    if os.path.exists(path) and not os.path.isfile(path):
        what = "a folder" if os.path.isdir(path) else "a device or a pipe, which a file would take the place of"
        raise CannotWrite(f"{path}: {what}; choose another place")


def check_parent(path: str | os.PathLike, named: str | os.PathLike, instead: str = "another place") -> None:
    """Raises `CannotWrite` where nothing can be written into the folder of `path`, which need not be there.

    `named`: what the user called it; `instead`: what to choose."""
    folder = next((each for each in Path(path).absolute().parents if os.path.exists(each)), Path(path))
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise CannotWrite(f"{named}: nothing can be written into {folder}; choose {instead}")


def write_text_atomically(path: str | os.PathLike, text: str) -> None:
    """The same for a text file in UTF-8."""
    def write(temporary: str) -> None:
        Path(temporary).write_text(text, encoding="utf-8")

    write_atomically(path, write)


def write_bytes_atomically(path: str | os.PathLike, content: bytes) -> None:
    """The same for bytes."""
    def write(temporary: str) -> None:
        Path(temporary).write_bytes(content)

    write_atomically(path, write)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _short(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200]
