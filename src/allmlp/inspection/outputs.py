"""What comes out of the layers of any network, ours or timm's, taken by hooks while it runs.

Activations may be "tokens" `(N, S, C)` (ours, ViTs; a class token in front where there is one), images of features
`(N, C, H, W)` (convolutions), or one vector for each image `(N, K)`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import nn

from allmlp.errors import BadSetting, unknown_name

Detail = Literal["blocks", "all"]
SILENT = (nn.Identity, nn.Dropout, nn.Sequential, nn.ModuleList)  # pass on what comes in


def layer_names(network: nn.Module, detail: Detail = "blocks") -> list[str]:
    """Names of the layers worth looking at, from the first to the last.

    "blocks": the stem, each residual block, and the last norm. "all": inside the blocks too, every layer that computes
    something: norms, linear maps and convolutions, activations. The head is in neither.
    """
    blocks = block_names(network)
    names: list[str] = []
    for name, module in network.named_modules():
        leaf = not any(True for _ in module.children())
        if not name or name in blocks or not leaf or _is_head(name) or _silent(module):
            continue
        if not any(name.startswith(f"{block}.") for block in blocks):
            if detail == "all" or _ends_a_part(name, network):
                names.append(name)
        elif detail == "all":
            names.append(name)
    for block in blocks:  # each after what is inside it
        inside = [index for index, name in enumerate(names) if name.startswith(f"{block}.")]
        names.insert(inside[-1] + 1 if inside else _place(network, names, block), block)
    return names


def _place(network: nn.Module, names: list[str], block: str) -> int:
    """Where `block` stands among `names`, all in the order of the network's modules."""
    order = {name: index for index, (name, _) in enumerate(network.named_modules())}
    return sum(order[name] < order[block] for name in names)


def block_names(network: nn.Module) -> list[str]:
    """The residual blocks: what is numbered inside `blocks` (ours, ViTs), or inside `layer1`, … or `stages` (ResNets).

    Raises `BadSetting` for a network that has none of these."""
    found = []
    for name, module in network.named_modules():
        parent, _, last = name.rpartition(".")
        top = name.split(".")[0]
        if last.isdigit() and (parent == "blocks" or (parent == top and top.removeprefix("layer").isdigit())
                               or (top == "stages" and parent.endswith("blocks"))):
            found.append((name, module))
    if not found:
        raise BadSetting(f"{type(network).__name__}: no numbered blocks in `blocks`, `layer1` or `stages`; "
                         "name the layers yourself")
    return [name for name, _ in found]


def _ends_a_part(name: str, network: nn.Module) -> bool:
    """Whether an outer layer is the last of its part: of `stem.proj` and `stem.norm` the latter."""
    top = name.split(".")[0]
    inside = [other for other, module in network.named_modules() if other.startswith(f"{top}.")
              and not any(True for _ in module.children()) and not isinstance(module, SILENT)]
    return not inside or name == inside[-1]


def _is_head(name: str) -> bool:
    return name.split(".")[0] in ("head", "fc", "classifier", "head_drop", "global_pool")


def _silent(module: nn.Module) -> bool:
    return isinstance(module, SILENT) or type(module).__name__ == "DropPath"


@contextlib.contextmanager
def hooked(network: nn.Module, hooks: dict[str, Callable]) -> Iterator[None]:
    """Forward hooks on submodules by name, for a while. Raises `UnknownName` for a name that is none."""
    modules = dict(network.named_modules())
    handles = []
    try:
        for name, hook in hooks.items():
            if name not in modules:
                raise unknown_name("layer", name, (known for known in modules if known))
            handles.append(modules[name].register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def layer_outputs(network: nn.Module, images: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """What the submodules `names` give for normalised `images` `(N, 3, H, W)`, by name, detached; in evaluation mode.

    Of a submodule that runs several times, the last. Raises `UnknownName` for a name that is none, `BadSetting` for a
    submodule that does not run.
    """
    found: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable:
        def hook(_module, _inputs, output):
            found[name] = output.detach().clone()  # a copy: the next layer may work in place

        return hook

    with evaluating(network), torch.no_grad(), hooked(network, {name: keep(name) for name in names}):
        network(images)
    if silent := [name for name in names if name not in found]:
        raise BadSetting(f"layer {silent[0]!r} does not run when the network does; choose another")
    return {name: found[name] for name in names}


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, for a while."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def as_tokens(output: torch.Tensor, skip: int = 0) -> torch.Tensor:
    """An activation as tokens `(N, S, C)` in raster order; `skip`: how many in front are no patches (class tokens).

    Raises `BadSetting` for an activation without positions.
    """
    if output.ndim == 4:
        return output.flatten(2).transpose(1, 2)
    if output.ndim == 3:
        return output[:, skip:]
    raise BadSetting(f"an activation of shape {tuple(output.shape)} has no positions; choose a layer before "
                     "the pooling")
