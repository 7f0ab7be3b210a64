"""What `torch.save` pickles, read without running or importing anything.

Python's own unpickler calls whatever a file names. torch's `weights_only` unpickler calls torch functions and a few
builtins only, but these can be made to take any amount of memory: `bytearray(10**12)` is allowed, and a tensor larger
than its storage enlarges it. So this is an interpreter of its own: of the opcodes that `torch.save` writes
(protocol 2), with inert values for the few names that weights files contain, and with bounds on bytes and operations.
Anything else is refused (`BadCheckpoint`) by name.
"""

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from allmlp.errors import BadCheckpoint
from allmlp.weights.stored import MAX_AXES

MAX_PICKLE_BYTES = 4 << 20  # a training checkpoint of the deepest network takes 0.3 MB
MAX_OPERATIONS = 1_000_000  # each makes at most one object of some 100 bytes
MAX_NAME_BYTES = 200

STORAGES = {  # torch's class of storage: our word for its dtype, bytes of one number
    "FloatStorage": ("float32", 4), "DoubleStorage": ("float64", 8), "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2), "LongStorage": ("int64", 8), "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2), "CharStorage": ("int8", 1), "ByteStorage": ("uint8", 1), "BoolStorage": ("bool", 1),
}  # fmt: skip
INERT = {"argparse.Namespace"}  # settings that timm and DeiT save with their checkpoints; read over
KNOWN = INERT | {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"}


@dataclass(frozen=True)
class Name:
    """A name from a module, as the file gives it; never imported."""

    text: str


@dataclass(frozen=True)
class Storage:
    """A run of `numel` numbers that lies elsewhere in the file under `key`."""

    key: str
    dtype: str
    itemsize: int
    numel: int


@dataclass(frozen=True)
class View:
    """A tensor: numbers of a storage by offset and strides (in numbers), all inside the storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class _Machine:
    """Pickle's virtual machine: a stack, the stacks below each mark, and the memo."""

    file: BinaryIO
    storages: dict[str, Storage]
    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    bytes_left: int = MAX_PICKLE_BYTES

    def read(self, size: int) -> bytes:
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise BadCheckpoint(f"its pickle is longer than {MAX_PICKLE_BYTES} bytes")
        data = self.file.read(size)
        if len(data) != size:
            raise BadCheckpoint("its pickle is truncated")
        return data

    def number(self, code: str) -> int:
        return struct.unpack(code, self.read(struct.calcsize(code)))[0]

    def line(self) -> str:
        text = b""
        while (byte := self.read(1)) != b"\n":
            text += byte
            if len(text) > MAX_NAME_BYTES:
                raise BadCheckpoint("its pickle is damaged: an endless name")
        return text.decode("utf-8")

    def pop_to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items


def read_pickle(file: BinaryIO, storages: dict[str, Storage] | None = None) -> Any:
    """The next pickle of an open file: dict, list, tuple, str, numbers, `View`, and inert values.

    `storages` receives every storage that is named, by its key. The file then stands behind the pickle. Raises
    `BadCheckpoint` for anything that `torch.save` does not write for tensors.
    """
    machine = _Machine(file, {} if storages is None else storages)
    try:
        for _ in range(MAX_OPERATIONS):
            code = machine.read(1)
            if code == pickle.STOP:
                return machine.stack.pop()
            if code in VALUES:
                value = VALUES[code](machine)  # may replace the stack, so before looking at it
                machine.stack.append(value)
            elif code in ACTIONS:
                ACTIONS[code](machine)
            else:
                raise BadCheckpoint(f"its pickle contains opcode {code!r}, which torch.save does not write")
    except (IndexError, KeyError, TypeError, ValueError):
        raise BadCheckpoint("its pickle is damaged") from None
    raise BadCheckpoint(f"its pickle has more than {MAX_OPERATIONS} operations")


def _name(machine: _Machine) -> Name:
    text = f"{machine.line()}.{machine.line()}"
    if text not in KNOWN and text.removeprefix("torch.") not in STORAGES:
        raise BadCheckpoint(f"its pickle asks for {text}, which no weights need and which could run code (nothing was "
                            "run); save model.state_dict() alone")
    return Name(text)


def _storage(machine: _Machine) -> Storage:
    """The persistent id ("storage", class, key, device, numel[, None])."""
    tag, kind, key, _device, numel, *view = machine.stack.pop()
    dtype, itemsize = STORAGES[kind.text.removeprefix("torch.")] if isinstance(kind, Name) else ("", 0)
    if tag != "storage" or type(key) is not str or type(numel) is not int or numel < 0 or not dtype or any(view):
        raise BadCheckpoint("its pickle is damaged: a storage that makes no sense")
    storage = Storage(key, dtype, itemsize, numel)
    if machine.storages.setdefault(key, storage) != storage:
        raise BadCheckpoint(f"its storage {key[:100]!r} is described in two ways")
    return storage


def _view(storage: Any, offset: Any, shape: Any, strides: Any, *_gradient: Any) -> View:
    if not isinstance(storage, Storage) or not _sizes(shape) or not _sizes(strides) or not _sizes((offset,)):
        raise BadCheckpoint("its pickle is damaged: a tensor that makes no sense")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=False))
    if len(shape) != len(strides) or (0 not in shape and last >= storage.numel):
        raise BadCheckpoint(f"a tensor {shape} reaches outside its storage of {storage.numel} numbers")
    return View(storage, offset, shape, strides)


def _sizes(value: Any) -> bool:
    return type(value) is tuple and len(value) <= MAX_AXES and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _call(machine: _Machine) -> None:
    """REDUCE: a call, of which only these are known, and none is made."""
    arguments, function = machine.stack.pop(), machine.stack.pop()
    match function:
        case Name("collections.OrderedDict") if arguments == ():
            result = {}
        case Name("torch._utils._rebuild_tensor_v2"):
            result = _view(*arguments)
        case Name("torch._utils._rebuild_parameter") if isinstance(arguments[0], View):
            result = arguments[0]
        case _:
            raise BadCheckpoint("its pickle makes a call that no weights need (it was not made)")
    machine.stack.append(result)


def _new_object(machine: _Machine) -> None:
    _arguments, kind = machine.stack.pop(), machine.stack[-1]
    if not isinstance(kind, Name) or kind.text not in INERT:
        raise BadCheckpoint("its pickle makes an object that no weights need (it was not made)")


def _set_state(machine: _Machine) -> None:
    """BUILD: attributes of an ordered dict (torch's `_metadata`) or of an inert object; read over."""
    machine.stack.pop()
    if not isinstance(machine.stack[-1], dict | Name):
        raise BadCheckpoint("its pickle is damaged: attributes of something that has none")


def _put(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is not dict or len(items) % 2 or not all(type(key) in (str, int) for key in items[::2]):
        raise BadCheckpoint("its pickle is damaged: not a dict, or keys that are neither text nor integers")
    target.update(zip(items[::2], items[1::2], strict=True))


def _extend(machine: _Machine, items: list[Any]) -> None:
    if type(machine.stack[-1]) is not list:
        raise BadCheckpoint("its pickle is damaged: not a list")
    machine.stack[-1].extend(items)


def _take(machine: _Machine, count: int) -> list[Any]:
    if len(machine.stack) < count:
        raise BadCheckpoint("its pickle is damaged: an empty stack")
    items = machine.stack[-count:]
    del machine.stack[-count:]
    return items


def _mark(machine: _Machine) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _protocol(machine: _Machine) -> None:
    if (version := machine.number("<B")) != 2:
        raise BadCheckpoint(f"its pickle has protocol {version}; torch.save writes 2 unless told otherwise")


VALUES: dict[bytes, Callable[[_Machine], Any]] = {
    pickle.NONE: lambda machine: None,
    pickle.NEWTRUE: lambda machine: True,
    pickle.NEWFALSE: lambda machine: False,
    pickle.BININT: lambda machine: machine.number("<i"),
    pickle.BININT1: lambda machine: machine.number("<B"),
    pickle.BININT2: lambda machine: machine.number("<H"),
    pickle.LONG1: lambda machine: int.from_bytes(machine.read(machine.number("<B")), "little", signed=True),
    pickle.BINFLOAT: lambda machine: machine.number(">d"),
    pickle.BINUNICODE: lambda machine: machine.read(machine.number("<I")).decode("utf-8"),
    pickle.EMPTY_DICT: lambda machine: {},
    pickle.EMPTY_LIST: lambda machine: [],
    pickle.EMPTY_TUPLE: lambda machine: (),
    pickle.TUPLE: lambda machine: tuple(machine.pop_to_mark()),
    pickle.TUPLE1: lambda machine: tuple(_take(machine, 1)),
    pickle.TUPLE2: lambda machine: tuple(_take(machine, 2)),
    pickle.TUPLE3: lambda machine: tuple(_take(machine, 3)),
    pickle.BINGET: lambda machine: machine.memo[machine.number("<B")],
    pickle.LONG_BINGET: lambda machine: machine.memo[machine.number("<I")],
    pickle.GLOBAL: _name,
    pickle.BINPERSID: _storage,
}
ACTIONS: dict[bytes, Callable[[_Machine], None]] = {
    pickle.PROTO: _protocol,
    pickle.MARK: _mark,
    pickle.BINPUT: lambda machine: machine.memo.__setitem__(machine.number("<B"), machine.stack[-1]),
    pickle.LONG_BINPUT: lambda machine: machine.memo.__setitem__(machine.number("<I"), machine.stack[-1]),
    pickle.SETITEM: lambda machine: _put(machine, _take(machine, 2)),
    pickle.SETITEMS: lambda machine: _put(machine, machine.pop_to_mark()),
    pickle.APPEND: lambda machine: _extend(machine, _take(machine, 1)),
    pickle.APPENDS: lambda machine: _extend(machine, machine.pop_to_mark()),
    pickle.REDUCE: _call,
    pickle.NEWOBJ: _new_object,
    pickle.BUILD: _set_state,
}
