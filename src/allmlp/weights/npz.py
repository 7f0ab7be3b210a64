"""numpy's `.npz`: a zip of `.npy` files, each a short text header and raw numbers.

Object arrays, which numpy would unpickle, are told by their dtype and never read. The header is matched against what
numpy writes instead of being evaluated as Python, as numpy does.
"""

import re
import zipfile
from functools import partial

import numpy as np
import torch

from allmlp.errors import BadCheckpoint
from allmlp.weights.archive import read_member
from allmlp.weights.stored import FLOATS, MAX_AXES, StoredTensor, from_bytes

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000  # numpy's own limit
HEADER = re.compile(r"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), 'shape': \(([\d, ]{0,200})\),? ?\}\s*")
DTYPES = {"f2": "float16", "f4": "float32", "f8": "float64", "V2": "bfloat16"}  # V2: bfloat16 as jax's tools save it


def stored_tensors(archive: zipfile.ZipFile) -> dict[str, StoredTensor]:
    """Name to tensor; reads the headers only. Raises `BadCheckpoint`."""
    tensors = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename:
            raise BadCheckpoint(f"member {name[:100]!r} is not an array (.npy)")
        tensors[name] = _stored_tensor(archive, member)
    return tensors


def _stored_tensor(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> StoredTensor:
    start = read_member(archive, member, at_most=12 + MAX_HEADER_BYTES)
    length_bytes = {1: 2, 2: 4, 3: 4}.get(start[6]) if len(start) >= 12 and start[:6] == MAGIC else None
    if length_bytes is None:
        raise BadCheckpoint(f"member {member.filename[:100]!r} is not a numpy array")
    data_at = 8 + length_bytes + int.from_bytes(start[8 : 8 + length_bytes], "little")
    header = HEADER.fullmatch(start[8 + length_bytes : data_at].decode("latin-1"))
    if data_at > len(start) or header is None:
        raise BadCheckpoint(f"member {member.filename[:100]!r} does not say that it is a plain array of numbers")
    descr, fortran_order, axes = header.groups()
    shape = tuple(int(size) for size in axes.replace(",", " ").split())
    dtype = DTYPES.get(descr[1:], descr)
    stored = StoredTensor(shape, dtype, partial(_read, archive, member, data_at, descr, fortran_order == "True", shape))
    if dtype in FLOATS and (
        len(shape) > MAX_AXES or stored.numel * FLOATS[dtype].itemsize != member.file_size - data_at
    ):
        raise BadCheckpoint(f"member {member.filename[:100]!r} says {dtype} {shape} but holds "
                            f"{member.file_size - data_at} bytes")
    return stored


def _read(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    data_at: int,
    descr: str,
    fortran_order: bool,
    shape: tuple[int, ...],
) -> torch.Tensor:
    data = read_member(archive, member)[data_at:]
    if descr.startswith(">"):
        data = np.frombuffer(data, descr).astype("<" + descr[1:]).tobytes()
    flat = from_bytes(data, DTYPES[descr[1:]])
    return flat.view(shape[::-1]).permute(*reversed(range(len(shape)))) if fortran_order else flat.view(shape)
