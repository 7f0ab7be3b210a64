"""A tensor that still lies in a file: what is known of it before any of its memory is taken."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from allmlp.errors import BadCheckpoint

FLOATS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}

# Honest files expand by at most 2 (float16 to float32), compressed ones by a little more; deflate's limit is 1032.
MAX_EXPANSION = 20
MAX_TOTAL_BYTES = 16 << 30  # of all weights; Mixer-H/14 at 448 pixels takes 2.4 GB
MAX_AXES = 8


@dataclass(frozen=True)
class StoredTensor:
    """`read()` returns the tensor in its own dtype; it may be called for a dtype in `FLOATS` only."""

    shape: tuple[int, ...]
    dtype: str  # in torch's words where it has one
    read: Callable[[], torch.Tensor]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


def check_expansion(total_bytes: int, file_bytes: int, what: str) -> None:
    """Refuse (`BadCheckpoint`) what would take far more memory than the file is long."""
    if total_bytes > MAX_TOTAL_BYTES:
        limit = f"{MAX_TOTAL_BYTES >> 30} GiB"
        raise BadCheckpoint(f"{what} would take {total_bytes / 2**30:.0f} GiB; the limit is {limit}")
    if total_bytes > MAX_EXPANSION * file_bytes:
        raise BadCheckpoint(f"{what} would take {total_bytes} bytes, more than {MAX_EXPANSION} times the file's "
                            f"{file_bytes}: a bomb, or a damaged file")


def from_bytes(data: bytes, dtype: str) -> torch.Tensor:
    """One axis of little-endian numbers as a tensor with memory of its own."""
    return torch.frombuffer(bytearray(data), dtype=FLOATS[dtype])
