"""Which file is it? By content, never by name; then its tensors become a network, step by step, memory last."""

import contextlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import safetensors
import torch

from allmlp.errors import BadCheckpoint, BadSetting, printable
from allmlp.files import CHECKSUM, load_tensors, open_regular, read_metadata, read_start
from allmlp.models.model import Model, build_on_meta
from allmlp.weights import facebook, google, npz, pth, timm
from allmlp.weights.archive import open_archive
from allmlp.weights.infer import family_preprocess, infer_config
from allmlp.weights.layout import check_names, check_shapes, find_layout, our_shapes, squeeze
from allmlp.weights.stored import FLOATS, StoredTensor, check_expansion

LAYOUTS = (google.CURRENT, google.LEGACY, facebook.RESMLP, timm.MIXER, timm.RESMLP, timm.GMLP)
READABLE = "allmlp and timm .safetensors, timm and Facebook .pth, Google .npz"

Container = Literal["zip", "pickle", "safetensors"]

MAX_REASON = 1_000  # characters; up to 5 names of tensors
MAX_TENSORS = 20_000  # of a safetensors file; the deepest published network has 436
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, OverflowError, NotImplementedError,
          struct.error, safetensors.SafetensorError)


def is_foreign(path: str | os.PathLike) -> bool:
    """Whether a file is a zip, a pickle, or a safetensors file that allmlp did not write. Raises `BadCheckpoint`."""
    return _container(path) != "safetensors" or "allmlp" not in read_metadata(path)


def load_foreign(path: str | os.PathLike, image_size: int | Sequence[int] | None = None) -> Model:
    """The network of a file that allmlp did not write: float32, on the CPU, in evaluation mode.

    `image_size`: pixels, (height, width) or one number; needed where the shapes leave it open. Preprocessing is that of
    the family's published weights. Raises `BadCheckpoint` in one line for a file that is not regular, damaged, a bomb,
    of another network, or holds a number that is not finite. A symbolic link is followed (the Hub's cache consists of
    them) to a regular file only. Nothing in the file is run.
    """
    with _one_line(path), _open_tensors(path) as tensors:
        return _network(tensors, os.path.getsize(path), image_size)


def read_tensors(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """The floating point tensors of a .safetensors or .pth of any network, by name: float32, on the CPU.

    Counters and other whole numbers are left out. Raises `BadCheckpoint` as `load_foreign` does; nothing is run.
    """
    with _one_line(path), _open_tensors(path) as stored:
        floats = {name: tensor for name, tensor in stored.items() if tensor.dtype in FLOATS}
        check_expansion(4 * sum(tensor.numel for tensor in floats.values()), os.path.getsize(path), "its tensors")
        return {name: tensor.read().to(torch.float32) for name, tensor in floats.items()}


@contextlib.contextmanager
def _one_line(path: str | os.PathLike) -> Iterator[None]:
    """Whatever is wrong with the file, as a `BadCheckpoint` of one line."""
    try:
        yield
        return
    except BadCheckpoint as error:
        reason = str(error).removeprefix(f"{path}: ")
    except DAMAGE as error:
        reason = f"damaged or truncated ({str(error)[:200] or type(error).__name__}); copy it again"
    raise BadCheckpoint(f"{path}: {printable(reason, MAX_REASON)}")


def _container(path: str | os.PathLike) -> Container:
    """By the first bytes; safetensors has a length of eight bytes, then JSON. Raises `BadCheckpoint` for all else."""
    start, size = read_start(path)
    if start[8:] == b"{":  # first, since the length before it may have the bytes of a zip or a pickle
        return "safetensors"
    if start[:2] == b"PK":
        return "zip"
    if start[:1] == b"\x80":
        return "pickle"
    raise BadCheckpoint(f"{path}: not a file of weights, or truncated ({size} bytes); readable are {READABLE}")


@contextlib.contextmanager
def _open_tensors(path: str | os.PathLike) -> Iterator[dict[str, StoredTensor]]:
    """The tensors of a file, to be read while it is open."""
    container = _container(path)
    with contextlib.ExitStack() as stack:
        if container == "safetensors":
            if CHECKSUM in read_metadata(path):  # written by `write_timm`
                load_tensors(path)
            file = stack.enter_context(safetensors.safe_open(path, framework="pt"))
            tensors = _safetensors(file)
        else:
            file = stack.enter_context(open_regular(path))
            if container == "zip":
                archive = stack.enter_context(open_archive(file.fileno()))
                tensors = (pth if pth.is_pth(archive) else npz).stored_tensors(archive)
            elif file.read(len(pth.LEGACY_START)) == pth.LEGACY_START:
                file.seek(0)
                tensors = pth.legacy_stored_tensors(file)
            else:
                raise BadCheckpoint("a Python pickle, which could run code when opened, and is refused; readable are "
                                    f"{READABLE}")
        yield _unwrapped(tensors)


def _safetensors(file) -> dict[str, StoredTensor]:
    names = file.keys()
    if len(names) > MAX_TENSORS:
        raise BadCheckpoint(f"{len(names)} tensors; no network that allmlp knows has more than {MAX_TENSORS}")
    words = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}

    def read(name: str) -> torch.Tensor:
        return file.get_tensor(name).clone()  # a copy: else the weights would change with the file

    tensors = {}
    for name in names:
        view = file.get_slice(name)
        dtype = str(view.get_dtype())
        tensors[name] = StoredTensor(tuple(view.get_shape()), words.get(dtype, dtype), partial(read, name))
    return tensors


def _unwrapped(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The tensors without what trainers put before their names: at most a tree in a tree and two wrappers."""
    found = dict(tensors)
    for tree in ("opt/target/", "params/"):  # big_vision's checkpoints: what stands beside is the optimizer's
        if any(name.startswith(tree) for name in found):
            found = {name.removeprefix(tree): tensor for name, tensor in found.items() if name.startswith(tree)}
    for _ in range(2):
        for wrapper in ("module.", "_orig_mod."):  # DistributedDataParallel, torch.compile
            if found and all(name.startswith(wrapper) for name in found):
                found = {name.removeprefix(wrapper): tensor for name, tensor in found.items()}
    return found


def _network(tensors: Mapping[str, StoredTensor], file_bytes: int, image_size: int | Sequence[int] | None) -> Model:
    layout = find_layout(LAYOUTS, tensors)
    tensors = squeeze(layout, tensors)
    names = check_names(layout, tensors)
    check_expansion(4 * sum(tensor.numel for tensor in tensors.values()), file_bytes, "its tensors")
    depth = sum(name.endswith("mlp_channels.fc1.bias") for name, _ in names.values())
    config = infer_config(layout, our_shapes(names, tensors), depth, image_size)
    try:
        model = build_on_meta(config, family_preprocess(config))
    except BadSetting as error:
        raise BadCheckpoint(str(error)) from None
    check_shapes(layout, names, tensors, model.state_dict())

    state = {}
    for name, (ours, axes) in names.items():
        state[ours] = axes.read(tensors[name].read()).to(torch.float32).contiguous()
        if not torch.isfinite(state[ours]).all():
            raise BadCheckpoint(f"{name} holds numbers that are not finite (NaN or infinity)")
    model.load_state_dict(state, assign=True)
    return model.eval()
