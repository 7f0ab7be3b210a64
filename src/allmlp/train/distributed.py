"""Several processes that train one network together, and the few things that they say to each other.

Started by torchrun or by `--devices N` (`commands.launch`), each knows its place from the environment. Gradients are
for PyTorch's engine (`engine.py`); what is here is small and goes over the CPU (gloo), beside the devices' own
traffic: the loss, requests to stop, metrics, and errors. An error of the user's in one process ends all of them: the
first process raises it, the others leave without a word and with the same exit code. A process that vanishes
(`kill -9`, a machine that is gone) ends the others too.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist

from allmlp.backends.pytorch import choose_device
from allmlp.errors import AllMLPError, BadSetting, TrainingStopped

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)  # for a process that says nothing: it may be writing, measuring or compiling
LAST_WORD_SECONDS = 2.0  # the others wait so long before they leave, as a launcher ends all with the first that goes


class Processes:
    """This process and those that train with it; alone as it is. As a context: leaves the group at the end."""

    def __init__(self, rank: int = 0, count: int = 1, local_rank: int = 0, joined: bool = False):
        self.rank, self.count, self.local_rank, self.joined = rank, count, local_rank, joined

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device for this process: of several GPUs of a machine, one each. Raises `BadSetting`."""
        device = choose_device(name)
        if not self.joined or device.type == "cpu":
            return device
        if device.type != "cuda" or device.index is not None:
            raise BadSetting(f"device {name!r} is one device; several processes take 'cuda' (one each) or 'cpu'")
        if self.local_rank >= torch.cuda.device_count():
            raise BadSetting(f"{self.count} processes want a GPU each, and process {self.local_rank} of this machine "
                             f"has none: {torch.cuda.device_count()} there; start fewer, or give --device cpu")
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def agreed(self, make: Callable[[], T]) -> T:
        """`make()`, in every process; goes on when all are through. An error in one ends all."""
        if not self.joined:
            return make()
        made, error = None, None
        try:
            made = make()
        except (AllMLPError, MemoryError, OSError) as caught:
            error = caught
        if self.highest(error is not None):
            errors: list[Any] = [None] * self.count
            dist.all_gather_object(errors, error and (type(error), str(error)))
            kind, text = next(found for found in errors if found)
            self._leave(kind(text))
        return made  # pyright: ignore[reportReturnType]  (without an error it was made)

    def in_turn(self, make: Callable[[], T]) -> T:
        """`make()` in the first process, then in the others: what it downloads or prepares is there for them."""
        if not self.joined:
            return make()
        made = [self.agreed(make)] if self.first else [self.agreed(lambda: None)]
        return self.agreed(lambda: made[0] if self.first else make())  # pyright: ignore[reportReturnType]

    def only_first(self, make: Callable[[], object]) -> None:
        """`make()` in the first process alone; the others wait."""
        self.agreed(lambda: make() if self.first else None)

    def from_first(self, value: T) -> T:
        """The first process's value, a plain one."""
        if not self.joined:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def sum(self, number: float) -> float:
        """The sum over all processes, the same in each."""
        return self._reduce(number, dist.ReduceOp.SUM) if self.joined else number

    def highest(self, number: int) -> int:
        """The highest of all processes' numbers."""
        return int(self._reduce(number, dist.ReduceOp.MAX)) if self.joined else number

    def gather(self, array: T) -> list[T]:
        """The arrays (or other values) of all processes, in the first one; in the others an empty list."""
        if not self.joined:
            return [array]
        gathered: list[Any] | None = [None] * self.count if self.first else None
        dist.gather_object(array, gathered, dst=0)
        return gathered or []

    def _reduce(self, number: float, operation: Any) -> float:
        box = torch.tensor([number], dtype=torch.float64)
        dist.all_reduce(box, operation)
        return box.item()

    def _leave(self, error: Exception) -> None:
        if self.first:
            raise error
        time.sleep(LAST_WORD_SECONDS)
        sys.exit(1 if isinstance(error, TrainingStopped) else 2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Leave the group; what its engine says of a process that vanished becomes one line."""
        if not self.joined:
            return
        if error is None:
            with contextlib.suppress(RuntimeError):  # another process may have been quicker
                dist.destroy_process_group()
            self.joined = False
        elif isinstance(error, RuntimeError) and _is_lost(error):
            self._leave(TrainingStopped("another process of this training is gone (ended, killed, or its machine is "
                                        "out of reach), so this one stops too; what was saved last stands, go on with "
                                        "--resume"))


ALONE = Processes()


def join(device: str) -> Processes:
    """The processes that the environment speaks of (RANK, WORLD_SIZE, LOCAL_RANK, …, as torchrun sets them).

    `device`: what the user asked for; with "cpu" nothing is done on GPUs. Raises `BadSetting` where the others cannot
    be reached.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Processes()
    if "ALLMLP_RENDEZVOUS" in os.environ:  # started by commands.launch
        threading.Thread(target=_end_with_parent, daemon=True).start()
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "cpu:gloo,cuda:nccl" if device != "cpu" and torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, init_method=os.environ.get("ALLMLP_RENDEZVOUS", "env://"), rank=rank,
                                world_size=count, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise BadSetting(f"process {rank} of {count} cannot reach the others: {' '.join(str(error).split())[:200]}; "
                         "check MASTER_ADDR and MASTER_PORT, or torchrun's --rdzv-endpoint") from None
    return Processes(rank, count, int(os.environ.get("LOCAL_RANK", "0")), joined=True)


def _end_with_parent() -> None:
    """Standard input is a pipe from the process that started this one, and ends with it."""
    os.read(0, 1)
    os._exit(1)


def _is_lost(error: RuntimeError) -> bool:
    """Whether this is what PyTorch's engines say when a process is gone."""
    return isinstance(error, dist.DistError) or any(
        word in str(error) for word in ("gloo", "Connection closed", "Connection reset", "NCCL", "Broken pipe"))
