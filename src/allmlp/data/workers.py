"""Reading pictures in other processes, or in this one: the same batches, in the same order, with the same errors.

A pool of the standard library, and not torch's DataLoader, which keeps its processes only if it is told of the next
batches behind its back, wraps errors into pages of text, draws from the global random generator, and hangs for ten
seconds when an error's traceback holds it. Tensors travel in shared memory all the same: torch sees to that.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import numpy as np
import torch

from allmlp.data.dataset import ImageDataset
from allmlp.errors import BadSetting

AHEAD = 2  # batches that are asked for in advance, for each process

Read = Callable[[np.ndarray, int, int, int], torch.Tensor]  # (image, epoch, index, copy) -> uint8, of a fixed shape


class Key(NamedTuple):
    """A batch: the epoch, the numbers of its images, and for each of them which copy it is, int64 `(B,)`."""

    epoch: int
    indices: np.ndarray
    copies: np.ndarray


class Workers:
    """`count` processes that read the images of `dataset`; they start at the first call and end with this object.

    With `count` 0 the calling process reads. `dataset` and `read` must be picklable where processes are not forked
    (Windows, macOS, Python 3.14).
    """

    def __init__(self, dataset: ImageDataset, read: Read, count: int):
        if count < 0:
            raise BadSetting(f"workers {count}: expected 0 (read in the main process) or a number of processes")
        self._source, self._count = (dataset, read), count
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, keys: Sequence[Key]) -> Iterator[torch.Tensor]:
        """The batches of `keys`, in order, each stacked to `(B, …)`.

        Raises what the data set raises, when its batch is due, and `BadSetting` if a process was killed.
        """
        return self._read_there(keys) if self._count else self._read_here(keys)

    def _read_here(self, keys: Sequence[Key]) -> Iterator[torch.Tensor]:
        for key in keys:
            # One thread, as in a worker: an image is too little work to share, and on a busy machine sharing it makes
            # it many times slower.
            num_threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                batch = _read(*self._source, key)
            finally:
                torch.set_num_threads(num_threads)
            yield batch

    def _read_there(self, keys: Sequence[Key]) -> Iterator[torch.Tensor]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._count, initializer=_start, initargs=self._source)
        ahead: deque[Future[torch.Tensor]] = deque()
        try:
            for key in keys:
                ahead.append(self._pool.submit(_read_in_worker, key))
                if len(ahead) > AHEAD * self._count:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except BrokenProcessPool:
            raise BadSetting("a process that reads images was killed, most often for want of (shared) memory; "
                             "use fewer workers or smaller batches") from None
        finally:  # also when the caller does not want the rest
            for future in ahead:
                future.cancel()


def _read(dataset: ImageDataset, read: Read, key: Key) -> torch.Tensor:
    # Copies of an image one after another, so that it is decoded once and no other is kept for it.
    positions = np.argsort(key.indices, kind="stable").tolist() if key.copies.any() else range(len(key.indices))
    made: dict[int, torch.Tensor] = {}
    held, image = -1, None
    for position in positions:
        index = int(key.indices[position])
        if image is None or index != held:
            held, image = index, dataset.image(index)
        made[position] = read(image, key.epoch, index, int(key.copies[position]))
    return torch.stack([made[position] for position in range(len(made))])


# --- in a worker -----------------------------------------------------------------------------------------------------

_source: tuple[ImageDataset, Read]  # what this process reads, which is sent to it once and not with each batch


def _start(dataset: ImageDataset, read: Read) -> None:
    global _source
    _source = dataset, read
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which then ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A main process that is killed cannot end its workers; they would wait for batches for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _read_in_worker(key: Key) -> torch.Tensor:
    return _read(*_source, key)
