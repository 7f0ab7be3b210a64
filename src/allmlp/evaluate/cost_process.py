"""The process in which `cost.py` measures one network: it makes it, and runs batches as it is told to."""

import functools
import os
import pickle
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from allmlp.errors import AllMLPError, BadSetting, printable
from allmlp.models.model import Model

Run = Callable[[int], object]
"""Runs one batch of so many images to the end."""

WARM_UP = 2  # batches


def serve() -> None:
    """Answer the questions of `cost.Contender` until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints shall not be taken for an answer
    questions = sys.stdin.buffer

    def answer(content: dict[str, Any]) -> None:
        pickle.dump(content, answers)
        answers.flush()

    try:
        task = questions.read(int.from_bytes(questions.read(8), "little"))
        make, image_size, threads = pickle.loads(task)  # from the process that started this one
        torch.set_num_threads(threads)
        idle = peak_memory_mib()
        run, facts = prepare(make() if not isinstance(make, nn.Module) else make, image_size)
        on_cpu = facts.pop("on_cpu")
        answer({**facts, "idle": idle if on_cpu else None})
        while True:
            batch_size, seconds = pickle.load(questions)
            times = timed(run, batch_size, seconds)
            answer({"seconds": times, "memory": peak_memory_mib() if on_cpu else None})
    except EOFError:
        return  # there are no more questions
    except AllMLPError as error:
        answer({"error": str(error)})
    except Exception as error:  # whatever a network of somebody else's may raise
        text = str(error).strip().partition("\n")[0]
        answer({"error": f"cannot be made or run: {type(error).__name__}: {printable(text)}"})


def prepare(made: Any, image_size: tuple[int, int] | None) -> tuple[Run, dict[str, Any]]:
    """How a network or predictor runs a batch, and its parameters and multiply-adds."""
    own = getattr(made, "preprocess", None)
    size = image_size or (own.image_size if own else None)
    if size is None:
        raise BadSetting("its image size is not known; give image_size")
    network = made if isinstance(made, nn.Module) else getattr(made, "model", getattr(made, "network", None))

    @functools.lru_cache(maxsize=1)
    def uint8(count: int) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)

    def predict(count: int) -> object:
        return made(uint8(count))

    if not isinstance(network, nn.Module):  # another backend's, which runs on the CPU
        return predict, {"parameters": None, "macs": None, "on_cpu": True}
    module = network.eval()
    like = next(module.parameters(), torch.empty(0))
    channels = module.config.in_channels if isinstance(module, Model) else 3

    @functools.lru_cache(maxsize=1)
    def normalised(count: int) -> torch.Tensor:
        return torch.randn(count, channels, *size, dtype=like.dtype).to(like.device)

    def forward(count: int) -> torch.Tensor:
        with torch.inference_mode():
            return module(normalised(count)).cpu()  # which waits for a GPU to be done

    facts = {"parameters": sum(parameter.numel() for parameter in module.parameters()),
             "macs": macs(module, normalised(1)), "on_cpu": like.device.type == "cpu"}
    return forward if made is module else predict, facts


def macs(network: nn.Module, image: torch.Tensor) -> int:
    """Multiply-adds of matrix products and convolutions; attention as the two products that it is."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(image)
    return counter.get_total_flops() // 2


def timed(run: Run, batch_size: int, seconds: float) -> list[float]:
    """Seconds of each batch, for as long as asked; 0 is to warm up."""
    times: list[float] = []
    while sum(times) < seconds or len(times) < (1 if seconds else WARM_UP):
        start = time.perf_counter()
        run(batch_size)
        times.append(time.perf_counter() - start)
    return times


def peak_memory_mib() -> float:
    """The most that this process ever held in memory."""
    if platform.system() == "Linux":
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 / (1024 if platform.system() == "Darwin" else 1)
