"""Files: reading safetensors without trust, writing anything without loss.

Nothing is ever unpickled. Writing is atomic: temporary file, fsync, rename, so that a crash or a full disk leaves
what stood there before.
"""

import contextlib
import os
import platform
import secrets
import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from allmlp.errors import BadCheckpoint, CannotWrite

if TYPE_CHECKING:
    import torch

MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit; a header is read whole before anything else



def save_tensors(tensors: "Mapping[str, torch.Tensor]", path: str | os.PathLike, metadata: dict[str, str]) -> None:
    """Write tensors and metadata as one safetensors file, atomically. Raises `CannotWrite`."""
    import safetensors.torch

    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: safetensors.torch.save_file(contiguous, temporary, metadata))


def load_tensors(path: str | os.PathLike, device: str = "cpu") -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    """All tensors and the metadata of a safetensors file. Raises `BadCheckpoint`."""
    import safetensors.torch

    metadata = read_metadata(path)
    try:
        return safetensors.torch.load_file(path, device=device), metadata
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise BadCheckpoint(f"{path}: cannot be read as safetensors ({_short(error)}); "
                            "it may be truncated: copy it again") from None


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a file of weights for reading. Raises `BadCheckpoint` for anything but a regular file; a pipe never waits.

    A symbolic link is followed, to a regular file only: the Hub's cache consists of links, and reading writes nothing.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise BadCheckpoint(f"{path}: cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadCheckpoint(f"{path}: not a regular file (a folder, a pipe or a device); give a file of weights")
    return os.fdopen(descriptor, "rb")


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The metadata of a safetensors file; reads the header only. Raises `BadCheckpoint` for anything else."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(9)
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


def write_text_atomically(path: str | os.PathLike, text: str) -> None:
    """The same for a text file in UTF-8."""
    def write(temporary: str) -> None:
        Path(temporary).write_text(text, encoding="utf-8")

    write_atomically(path, write)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _short(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200]
