"""What may stand in a `.pt2` file that we open. PyTorch opens such files with trust, and so runs what they say:

- tensors and example inputs may be pickles, which run anything: here all tensors must be stored plainly, and example
  inputs left out;
- an operation is any name below `torch`, so also one that loads other files: here one of a list;
- sizes are formulas that are evaluated as Python: here whole numbers and plain symbols;
- compiled libraries may lie in the archive: here no file but the known ones.

One file can be two archives: PyTorch looks for the directory where the end of the file says that it begins, Python
right before that end. So PyTorch never sees the file, but an archive written anew from what was checked.
"""

import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

from allmlp.errors import BadCheckpoint, printable

FILES = re.compile(
    r"(archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version|"
    r"models/model\.json|extra/allmlp\.json|data/sample_inputs/model\.pt|"
    r"data/(weights/(weight_\d+|model_weights_config\.json)|constants/(tensor_\d+|model_constants_config\.json)))")
PLAIN = re.compile(r"(weight|tensor)_\d+")
FORMULA = re.compile(r"-?\d+|[su]\d+|Symbol\('[su]\d+', positive=True, integer=True\)")
OPERATIONS = frozenset(re.findall(r"\S+", """
    _assert_tensor_metadata.default _softmax.default _to_copy.default adaptive_avg_pool2d.default add.Tensor add_.Tensor
    addcmul.default addmm.default avg_pool2d.default batch_norm.default bmm.default cat.default chunk.default
    clone.default contiguous.default conv2d.default conv2d.padding detach.default detach_.default div.Tensor
    div_.Tensor dropout.default einsum.default expand.default flatten.using_ints gelu.default hardswish.default
    layer_norm.default lift_fresh_copy.default linear.default matmul.default max_pool2d.default mean.default mean.dim
    mul.Tensor mul_.Tensor pad.default permute.default pixel_unshuffle.default relu.default reshape.default
    roll.default scaled_dot_product_attention.default select.int sigmoid.default silu.default slice.Tensor softmax.int
    split.Tensor split_with_sizes.default squeeze.dim stack.default sub.Tensor sub_.Tensor sum.dim_IntList
    sym_size.int to.dtype transpose.int unbind.int unflatten.int unsqueeze.default view.default
"""))  # of torch.ops.aten
OTHERS = frozenset({"_operator.getitem", "_operator.add", "_operator.mul", "_operator.floordiv"})
FORBIDDEN = frozenset({"as_operator", "as_custom_obj", "as_graph"})
MOST_JSON = 64 << 20


def checked_archive(content: bytes, where: str) -> bytes:
    """An archive of what stands in that one, for PyTorch to open. Raises `BadCheckpoint`, naming what, for a file that
    is no archive of plain tensors and known operations."""
    files: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            problem = next(_strange_entries(archive, len(content)), None)
            if problem is None:
                files = {_below_root(entry): archive.read(entry) for entry in archive.infolist()}
        problem = problem or next(_problems(files), None)
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, OverflowError,
            struct.error) as error:
        problem = f"damaged ({printable(error, 100)})"
    if problem:
        raise BadCheckpoint(f"{where}: refused as unsafe or damaged: {problem}; export the network again from a "
                            "checkpoint that you trust")
    return _written(files)


def _below_root(entry: zipfile.ZipInfo) -> str:
    return entry.filename.partition("/")[2]


def _written(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as written:
        for name, data in files.items():
            written.writestr(zipfile.ZipInfo(f"model/{name}"), data)
    return archive.getvalue()


def _strange_entries(archive: zipfile.ZipFile, total_bytes: int) -> Iterator[str]:
    """What must not be read."""
    names, entries = archive.namelist(), archive.infolist()
    root = names[0].partition("/")[0] + "/" if names else ""
    if len(set(names)) != len(names) or not all(name.startswith(root) for name in names):
        yield "its files are not those of one exported program"
    for entry in entries:
        name = _below_root(entry)
        if not FILES.fullmatch(name):
            yield f"a file {printable(name, 60)!r}"
        if entry.compress_type != zipfile.ZIP_STORED or (name.endswith(".json") and entry.file_size > MOST_JSON):
            yield f"{printable(name, 60)!r} is compressed or too large"
    if sum(max(entry.file_size, entry.compress_size) for entry in entries) > total_bytes:
        yield "its files overlap or lie outside it"


def _problems(files: dict[str, bytes]) -> Iterator[str]:
    if any(data and name.endswith(".pt") for name, data in files.items()):
        yield "example inputs, which are a pickle"
    for part in ("weights", "constants"):
        config = json.loads(files[f"data/{part}/model_{part}_config.json"])["config"]
        for tensor, payload in config.items():
            if payload["use_pickle"] is not False or not PLAIN.fullmatch(payload["path_name"]):
                yield f"tensor {printable(tensor, 60)!r} is a pickle"
    program = json.loads(files["models/model.json"])
    if program["guards_code"]:
        yield "code of its own (guards)"
    yield from _in_graph(program)


def _in_graph(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _in_graph(item)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key == "target" and not _known(item):
            yield f"the operation {printable(item, 80)!r}, which is none of those that allmlp's networks need"
        if key == "expr_str" and not FORMULA.fullmatch(item):
            yield f"the formula {printable(item, 80)!r}"
        if key in FORBIDDEN:
            yield f"an argument of the kind {key!r}"
        if key != "metadata":
            yield from _in_graph(item)


def _known(target: Any) -> bool:
    name = target.removeprefix("torch.ops.aten.")
    return target in OTHERS or (name != target and name in OPERATIONS)
