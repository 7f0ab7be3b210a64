"""How a network is computed and distributed: with what is chosen here the same result comes sooner, or fits.

DDP: every process holds the whole network and takes the mean of all gradients. FSDP2 (`fully_shard`): every process
holds a part of each parameter, of its moments and of its average, and gathers a block's weights while it computes it.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from allmlp.errors import BadSetting
from allmlp.models.model import Model
from allmlp.recipe import Recipe
from allmlp.train.distributed import Processes
from allmlp.train.ema import Ema
from allmlp.train.gelu import through_engine
from allmlp.train.memory import keep_freed_memory
from allmlp.train.products import through_onednn


@dataclass(frozen=True)
class Engine:
    """What changes time and memory but, by intent, no result.

    `sharding`: "fsdp" spreads parameters and moments over the processes. `compile`: each block through torch.compile.
    `activation_checkpointing`: blocks are computed again in the backward pass instead of kept.
    """

    sharding: Literal["none", "fsdp"] = "none"
    compile: bool = False
    activation_checkpointing: bool = False

    def check(self, recipe: Recipe, processes: Processes) -> None:
        """Raises `BadSetting` for what does not go together."""
        if self.sharding == "fsdp" and not processes.joined:
            raise BadSetting("sharding 'fsdp' spreads a network over processes, and this is one; start several with "
                             "--devices N or torchrun")
        if self.sharding == "fsdp" and recipe.dino is not None:
            raise BadSetting("dino keeps its teacher whole in every process, which sharding 'fsdp' cannot follow; "
                             "leave --sharding out")


PLAIN = Engine()


def distribute(model: Model, ema: Ema | None, engine: Engine, processes: Processes) -> nn.Module:
    """Prepare `model` and its average in place; returns what to call in training. Before the optimizer is built."""
    model.set_grad_checkpointing(engine.activation_checkpointing)
    if next(model.parameters()).device.type == "cpu":
        keep_freed_memory()
        through_engine(model)
    if engine.sharding == "none":
        through_onednn(model)
    if engine.compile:
        for block in model.blocks:
            block.compile()  # block by block: minutes less to wait, and it goes with all of the following
    if engine.sharding == "fsdp":
        for network in (model, ema.model) if ema else (model,):
            _shard(network, processes)
        return model
    if processes.joined:
        return DistributedDataParallel(model, gradient_as_bucket_view=True)
    return model


def _shard(network: Model, processes: Processes) -> None:
    mesh = init_device_mesh(next(network.parameters()).device.type, (processes.count,))
    for block in network.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


@contextlib.contextmanager
def synchronising(network: nn.Module, now: bool) -> Iterator[None]:
    """Whether the backward passes inside exchange gradients: once for a batch is enough, with its last part."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(now)
    if isinstance(network, DistributedDataParallel) and not now:
        with network.no_sync():
            yield
    else:
        yield


def whole(network: Model) -> Model:
    """`network` itself, or a copy with whole parameters where they are sharded. All processes must ask together."""
    if not any(isinstance(parameter, DTensor) for parameter in network.parameters()):
        return network
    with torch.device("meta"):
        copy = Model(network.config, network.preprocess, network.classes, network.output)
    copy.load_state_dict({name: gathered(tensor) for name, tensor in network.state_dict().items()}, assign=True)
    return copy.eval()


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor whole, wherever its parts are. All processes must ask together."""
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()


def spread_as(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, the same in all processes, as this process's part of it, if that is how `like` is held."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
