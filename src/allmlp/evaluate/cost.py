"""What a network costs to run: images per second, latency, peak memory, parameters and multiply-adds.

    measure_cost(partial(load_predictor, "runs/photos"))
    measure_costs({"ours": partial(create_model, "mixer_b16_224"), "theirs": partial(timm.create_model, "resnet50")})

Every contender lives in a process of its own, which makes the network itself: its peak memory is its own, and nothing
that was done before in the calling process shows in it. Several contenders take turns, a slice of time each, in rounds
whose order is reversed every other time, so that a busy machine is busy for all of them.

- images per second: of a slice, images over seconds; the median over rounds, with the slowest and the fastest round;
  the best of all batch sizes, as in MLP-Mixer, section 3, where it is images per second and core of a TPUv3
- latency: of single images, one after another, in all rounds: the median and the 90th percentile
- peak memory: the most that the process ever held in memory (resident: VmHWM of Linux, elsewhere getrusage's
  ru_maxrss), with the interpreter, torch and the weights, until it was done with a batch size, the smallest first.
  `idle_memory_mib` is the same before the network was made. On Linux, ru_maxrss would not do: a process inherits it
  from the one that starts it.
- multiply-adds: those of matrix products and convolutions for one image, as PyTorch counts them

A network's time is that of its forward pass on normalised images, a predictor's also that of normalising uint8 ones.
"""

import pickle
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Union

from allmlp.backends import Predictor
from allmlp.errors import BadSetting, printable
from allmlp.values import Value

if TYPE_CHECKING:
    from torch import nn

Make = Callable[[], Union["nn.Module", Predictor]]
"""Makes a network or a predictor in another process: what pickle can name, such as a `functools.partial` of a function
of a module. A network itself will do, too; it is copied there."""

ROUNDS, SECONDS = 5, 0.5


class Speed(Value):
    """Images per second in batches of `batch_size`: the median round, the slowest and the fastest."""

    batch_size: int
    images_per_second: float
    slowest: float
    fastest: float
    peak_memory_mib: float | None


class Cost(Value):
    """What a network costs. Parameters and multiply-adds (of one image) are None for what is no PyTorch network, the
    memory for one that is not on the CPU."""

    images_per_second: float  # at the best of the batch sizes
    batch_size: int  # this best one
    latency_ms_p50: float  # of one image
    latency_ms_p90: float
    peak_memory_mib: float | None  # with the largest batch size
    idle_memory_mib: float | None  # before the network was made
    parameters: int | None
    macs: int | None
    threads: int
    rounds: int
    speeds: tuple[Speed, ...]  # of each batch size, the smallest first


def measure_cost(make: Make, image_size: tuple[int, int] | None = None, batch_sizes: Sequence[int] = (32,),
                 threads: int = 1, rounds: int = ROUNDS, seconds: float = SECONDS) -> Cost:
    """The cost of one network; see `measure_costs`."""
    return measure_costs({"the network": make}, image_size, batch_sizes, threads, rounds, seconds)["the network"]


def measure_costs(contenders: Mapping[str, Make], image_size: tuple[int, int] | None = None,
                  batch_sizes: Sequence[int] = (32,), threads: int = 1, rounds: int = ROUNDS,
                  seconds: float = SECONDS) -> dict[str, Cost]:
    """The cost of each contender, with random images of `image_size` (height, width).

    None takes the size that a predictor or one of our networks has itself. A round gives each contender `seconds` for
    each batch size and for single images. Raises `BadSetting` for numbers that cannot be, and for what cannot be made
    or run, by name.
    """
    sizes = sorted(set(batch_sizes))
    if not sizes or min(*sizes, threads, rounds) < 1 or not 0 < seconds < 3600:
        raise BadSetting(f"batch sizes {list(batch_sizes)}, {threads} threads, {rounds} rounds of {seconds:g} seconds: "
                         "expected at least one size, and positive numbers")
    with ExitStack() as stack:
        running = {}
        for name, make in contenders.items():  # one after the other, or they would disturb each other's start
            running[name] = stack.enter_context(Contender(name, make, image_size, threads))
            running[name].facts["memory"] = {size: running[name].ask(size, 0)["memory"] for size in (1, *sizes)}
        for number in range(rounds):
            turn = list(running.values())
            for size in dict.fromkeys((1, *sizes)):
                for contender in turn if number % 2 == 0 else reversed(turn):
                    contender.slices.setdefault(size, []).append(contender.ask(size, seconds)["seconds"])
        return {name: _cost(contender, sizes, threads, rounds) for name, contender in running.items()}


def _cost(contender: "Contender", sizes: Sequence[int], threads: int, rounds: int) -> Cost:
    speeds = []
    for size in sizes:
        rates = [size * len(times) / sum(times) for times in contender.slices[size]]
        speeds.append(Speed(batch_size=size, images_per_second=statistics.median(rates), slowest=min(rates),
                            fastest=max(rates), peak_memory_mib=contender.facts["memory"][size]))
    best = max(speeds, key=lambda speed: speed.images_per_second)
    singles = sorted(1000 * time for times in contender.slices[1] for time in times)
    return Cost(
        images_per_second=best.images_per_second, batch_size=best.batch_size,
        latency_ms_p50=statistics.median(singles), latency_ms_p90=singles[len(singles) * 9 // 10],
        peak_memory_mib=speeds[-1].peak_memory_mib, idle_memory_mib=contender.facts["idle"],
        parameters=contender.facts["parameters"], macs=contender.facts["macs"],
        threads=threads, rounds=rounds, speeds=tuple(speeds),
    )


class Contender:
    """A process with a network in it, that runs batches when it is asked to; ends with the `with` block."""

    def __init__(self, name: str, make: Make, image_size: tuple[int, int] | None, threads: int):
        try:
            task = pickle.dumps((make, image_size, threads))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise BadSetting(f"{name}: cannot be made in another process ({printable(error, 120)}); give a function of "
                             "a module, with functools.partial for its arguments") from None
        self.name, self.slices = name, dict[int, list[list[float]]]()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from allmlp.evaluate.cost_process import serve; serve()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        try:
            self._send(len(task).to_bytes(8, "little") + task)
            self.facts = self._answer()
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> "Contender":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, batch_size: int, seconds: float) -> dict[str, Any]:
        """Have it run batches for so long; for 0 seconds two, to warm up. "seconds" of each, "memory" so far."""
        self._send(pickle.dumps((batch_size, seconds)))
        return self._answer()

    def _send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(message)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; the answer that does not come says so

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            answer = pickle.load(self._process.stdout)  # from a process of our own
        except EOFError:
            self._log.seek(0)
            said = self._log.read().decode(errors="replace").strip().splitlines()[-1:] or ["killed, perhaps for memory"]
            raise BadSetting(f"{self.name}: its process ended: {printable(said[0])}") from None
        if "error" in answer:
            raise BadSetting(f"{self.name}: {answer['error']}")
        return answer

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()
