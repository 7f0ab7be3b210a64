"""All-MLP vision models on a CPU, as fast as its instructions allow: the engine of allmlp. Needs numpy only.

A model is one file, written by `allmlp.backends.native.export`:

    model = allmlp_native.Model("model.allmlp", threads=2)
    logits = model(images)          # uint8 (N, H, W, 3) of the network's size -> float32 (N, K)
    logits = model.predict(images)  # a list of RGB images of any sizes

Images are numpy arrays, or memoryviews of bytes in such a shape, for which logits are a memoryview too. Those need no
numpy, which takes most of the time and memory that a small network's first answer does, and is loaded where an array
is met:

    photo = PIL.Image.open("photo.jpg").convert("RGB")
    pixels = memoryview(photo.tobytes()).cast("B", (photo.height, photo.width, 3))
    [logits] = model.predict([pixels]).tolist()
"""

from __future__ import annotations

import math
import operator
import os

from allmlp_native import _engine
from allmlp_native.processors import MOST_BYTES, cores, memory

TYPE_CHECKING = False  # as typing has it, whose import takes longer than all else here; so does that of functools
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Literal, TypeVar

    import numpy as np

    Pixels = TypeVar("Pixels", np.ndarray, memoryview)

__version__ = "0.1.0"
__all__ = ["BadModel", "Model", "TooManyThreads", "kernels", "peak", "tanh_gelu", "tanh_gelus"]

BadModel = _engine.BadModel
TooManyThreads = _engine.TooManyThreads
MOST_THREADS = 256
MOST_SECONDS, MOST_REPEATS = 60, 1000  # of `peak`


def _checked(threads: int) -> int:
    try:
        number = operator.index(threads)  # numpy's whole numbers too
    except TypeError:
        number = 0
    if isinstance(threads, bool) or not 1 <= number <= MOST_THREADS:
        raise ValueError(f"threads must be 1 to {MOST_THREADS}, not {_shown(threads)}")
    return number


def _level(level: str, rows: Callable[[], list[dict[str, Any]]]) -> str:
    if isinstance(level, str) and level == "auto":
        return level
    known = list(dict.fromkeys(row["level"] for row in rows()))
    if not isinstance(level, str) or level not in known:
        raise ValueError(f"no level {_shown(level)}; accepted: auto, {', '.join(known)}")
    return level


def _shown(value: object) -> str:
    try:
        return f"{value!r:.60}"
    except ValueError:  # Python writes no number of more than 4300 digits
        return f"a number of {value.bit_length() if isinstance(value, int) else 'many'} bits"


def _file(path: str | os.PathLike) -> bytes:
    """As the system takes it."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError("path must be a str or os.PathLike, or bytes with what is in a model file, not "
                        f"{type(path).__name__}")
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        name = b""
    if not name or b"\0" in name:
        raise ValueError(f"path {_shown(os.fspath(path))}: no file can have that name; give a file that `allmlp export "
                         "--to native` wrote")
    return name


class Model:
    """A model file, ready to run.

    `path`: of the file, a str or os.PathLike, or as bytes what is in it; `threads`: how many processors may work at
    once, 1 to 256, all that it gets if None; `level`: the instruction set, "auto" or one that `kernels` lists. Calls
    from several Python threads are safe and wait for each other. Raises `BadModel` for a file that is not there, is
    damaged or of another kind, and `ValueError`, which that is too, for a level that doesn't run here or is none, for
    other numbers of threads and for a name that no file has; `TooManyThreads`, which is one, here or in a call, where
    the system gives this process fewer; `MemoryError` for a network that memory does not hold.
    """

    def __init__(self, path: str | os.PathLike | bytes, threads: int | None = None, level: str = "auto"):
        self.threads = min(cores(), MOST_THREADS) if threads is None else _checked(threads)
        self._fitted_by: tuple[str, float, str] | None = None
        if isinstance(path, bytes):
            self._name = ""
            if not path.startswith(_engine.magic):
                raise BadModel(f"{len(path)} bytes that are not what is in a model file: {_shown(path[:16])}; give a "
                               "path as str or os.PathLike, or all bytes of a file")
            self._network = self._opened(_engine.from_bytes, path, level)
        else:
            file = _file(path)
            self._name = f"{os.fsdecode(file)}: "
            self._network = self._opened(_engine.open, file, level)

    def _opened(self, open_: Callable[..., Any], what: bytes, level: str) -> Any:
        there = memory()
        try:
            return open_(what, _level(level, kernels), self.threads, there)
        except BadModel as error:
            raise BadModel(f"{self._name}{error}") from None
        except MemoryError:
            size = len(what) if open_ is _engine.from_bytes else os.stat(what).st_size
            raise MemoryError(f"{self._name}needs more memory than there is; use a machine that has more, or a smaller "
                              f"network (file: {size / 1e9:,.3g} GB; memory: "
                              f"{f'{there / 1e9:,.3g} GB' if there < MOST_BYTES else 'not known'})") from None

    def __call__(self, images: Pixels) -> Pixels:
        """uint8 `(N, H, W, 3)` of the network's size to float32 logits `(N, K)`: arrays, or memoryviews."""
        pixels = _in_order(images)
        if pixels is None or pixels.ndim != 4 or tuple(pixels.shape[1:]) != (*self.image_size, 3):
            raise ValueError(f"expected uint8 (N, {self.image_size[0]}, {self.image_size[1]}, 3), got {_kind(images)}")
        logits = _room(pixels, (len(pixels), self.num_classes), "f")
        if len(pixels):
            self._network.run(pixels, logits)
        return logits

    def predict(self, images: Iterable[Pixels]) -> Pixels:
        """RGB images uint8 `(h, w, 3)` of any sizes, brought to the network's size, to float32 logits `(N, K)`.

        A memoryview where all images are memoryviews, else an array.
        """
        if isinstance(images, memoryview | bytes | bytearray) or getattr(images, "ndim", 4) == 3 or not hasattr(
                images, "__iter__"):
            raise ValueError(f"expected a list of images, got {_kind(images)}; give [image]")
        fitted = [self.fit(image) for image in images]
        shape = (len(fitted), *self.image_size, 3)
        if fitted and all(isinstance(image, memoryview) for image in fitted):
            return self(memoryview(b"".join(fitted)).cast("B", shape))
        import numpy as np

        return self(np.stack(fitted) if fitted else np.zeros(shape, np.uint8))

    def fit(self, image: Pixels) -> Pixels:
        """An RGB image uint8 `(h, w, 3)` of any size to uint8 `(H, W, 3)`, as the network's preprocessing says.

        Raises `BadModel` where that is nothing that can be done.

        Every pixel is that of allmlp's own preprocessing, which is Pillow's (13). An image of the size stays as it is.
        """
        pixels = _in_order(image)
        if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise ValueError(f"an image must be uint8 (H, W, 3), not {_kind(image)}")
        (height, width), (rows, columns) = pixels.shape[:2], self.image_size
        if (height, width) == (rows, columns):
            return pixels
        mode, crop_ratio, interpolation = self._fitting()
        high, wide = _resized(height, width, rows, columns, mode, crop_ratio)
        top, left = round((high - rows) / 2), round((wide - columns) / 2)
        fitted = _room(pixels, (rows, columns, 3), "B")
        _engine.resize(pixels, high, wide, top, left, interpolation, fitted)
        return fitted

    def _fitting(self) -> tuple[str, float, str]:
        """How images are brought to the network's size, as the file says, if that can be."""
        if self._fitted_by:
            return self._fitted_by
        try:
            said = self.about["preprocess"]
            size, mode, crop_ratio, interpolation = (
                said[name] for name in ("image_size", "resize", "crop_ratio", "interpolation"))
            if (tuple(size) == self.image_size and mode in ("shorter", "squash_crop", "squash")
                    and 0.1 <= crop_ratio <= 1 and interpolation in ("nearest", "bilinear", "bicubic")):
                self._fitted_by = mode, crop_ratio, interpolation
                return self._fitted_by
        except (KeyError, TypeError):
            pass
        raise self._bad("what the file says about its preprocessing cannot be")

    def _bad(self, what: str) -> BadModel:
        return BadModel(self._name + what + _engine.copy_again)

    @property
    def about(self) -> dict[str, Any]:
        """What the file says about itself: preprocessing, class names, how logits become probabilities, origin."""
        import json  # here: half of all programs never ask, and it takes some milliseconds

        try:
            about = json.loads(self._network.about)
        except (ValueError, RecursionError):
            about = None
        if not isinstance(about, dict):
            raise self._bad("the description of the model is damaged")
        return about

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._network.image_size

    @property
    def num_classes(self) -> int:
        return self._network.num_classes

    @property
    def precision(self) -> str:
        """"fp32", "bf16" or "int8": the narrowest that a layer has."""
        return self._network.precision

    @property
    def precisions(self) -> list[str]:
        """Of each layer: of the stem, then of every block's over tokens and over channels. The head has fp32."""
        return self._network.precisions

    @property
    def level(self) -> str:
        """The instruction set in use."""
        return self._network.level

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the linear layers for one image."""
        return sum(self._network.multiply_adds.values())

    @property
    def multiply_adds_by_precision(self) -> dict[str, int]:
        """The same by the precisions that layers have; the head has fp32 in every file."""
        return self._network.multiply_adds

    @property
    def memory(self) -> int:
        """Bytes of packed weights and of everything they run in; no call takes more."""
        return self._network.memory


def _in_order(given: Pixels) -> Pixels | None:
    """Bytes row by row, as the engine reads them; None for what is not of bytes."""
    if isinstance(given, memoryview):
        if given.format != "B":
            return None
        return given if given.c_contiguous else memoryview(given.tobytes()).cast("B", given.shape)
    import numpy as np

    array = np.asarray(given)
    return np.ascontiguousarray(array) if array.dtype == np.uint8 else None


def _room(like: Pixels, shape: tuple[int, ...], code: Literal["B", "f"]) -> Pixels:
    """Where bytes or floats will stand: an array, or for a memoryview one."""
    if isinstance(like, memoryview):
        room = memoryview(bytearray(math.prod(shape) * (4 if code == "f" else 1)))
        return room.cast(code, shape) if len(room) else room.cast(code)
    import numpy as np

    return np.empty(shape, code)


def _kind(given: Any) -> str:
    if isinstance(given, bytes | bytearray):
        return f"{type(given).__name__} of {len(given)}"
    if isinstance(given, memoryview):
        return f"a memoryview of {given.format!r} {given.shape}"
    import numpy as np

    array = np.asarray(given)
    return f"{array.dtype} {array.shape}"


def _resized(height: int, width: int, rows: int, columns: int, mode: str, crop_ratio: float) -> tuple[int, int]:
    """(height, width) that an image is resized to before its centre, rows x columns, is cut out."""
    if mode == "squash":
        return rows, columns
    box_rows, box_columns = (math.floor(side / crop_ratio + 1e-6) for side in (rows, columns))
    if mode == "squash_crop":
        return box_rows, box_columns
    if box_columns * height >= box_rows * width:  # "shorter": the image covers the box
        return int(box_columns * height / width), box_columns
    return box_rows, int(box_rows * width / height)


def kernels() -> list[dict[str, Any]]:
    """Every kernel there is, the best first; "here" says whether this processor and operating system can run it."""
    return _engine.kernels()


def peak(precision: str, threads: int = 1, level: str = "auto", seconds: float = 0.02, repeats: int = 5) -> float:
    """Operations per second (two per multiply-add) of multiplications in registers: what can't be exceeded here.

    The best of `repeats` (1 to 1000) bursts of about `seconds` (at most 60), which a call computes without a pause.
    """
    if precision not in ("fp32", "bf16", "int8"):
        raise ValueError(f"no precision {_shown(precision)}; accepted: fp32, bf16, int8")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"seconds must be more than 0 and at most {MOST_SECONDS}, not {_shown(seconds)}")
    if isinstance(repeats, bool) or not isinstance(repeats, int) or not 1 <= repeats <= MOST_REPEATS:
        raise ValueError(f"repeats must be 1 to {MOST_REPEATS}, not {_shown(repeats)}")
    return _engine.peak(precision, _checked(threads), _level(level, kernels), seconds, repeats)


def tanh_gelu(x: np.ndarray, to: np.ndarray, of_y: np.ndarray | None = None, threads: int = 1,
              level: str = "auto") -> None:
    """Write GELU's tanh form of `x` into `to`; with `of_y`, the gradient of y, that of x.

    Arrays of one size, in order, of float32, or of uint16 with the bits of bfloat16; `to` may be one of the others.
    The same number gives the same result wherever it stands and however many `threads` share the work; those of the
    program's OpenMP, where it has GCC's, as PyTorch does. Raises `ValueError` for a level that doesn't run here and
    for arrays that don't fit, `TypeError` for what is no array in order.
    """
    _engine.tanh_gelu(x, of_y, to, threads, _level(level, tanh_gelus))


def tanh_gelus() -> list[dict[str, Any]]:
    """The levels of `tanh_gelu`, the best first, by precision; "here" says whether this processor can run it."""
    return _engine.tanh_gelus()
