"""Skip ratios: what a residual block passes on unchanged against what it adds (Raghu et al., arXiv 2108.08810,
section 5).

Of z + f(z), the ratio of lengths |z| / |f(z)| for each token: above 1 the block passes on more than it adds.
Measured by hooks in our blocks and timm's transformers and mixers, where whatever is added comes out of a module called
`drop_path…`, and in timm's ResNets, where it comes out of the last norm, before the shortcut is added to it.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from allmlp.errors import BadSetting
from allmlp.inspection.outputs import as_tokens, block_names, evaluating


class Branch(NamedTuple):
    """`name`: the block's, and which of its branches, "blocks.3 (2)"; `ratio`: for each token, class tokens too, the
    mean over the images."""

    name: str
    ratio: np.ndarray


def skip_ratios(network: nn.Module, images: torch.Tensor) -> list[Branch]:
    """|z| / |f(z)| of each residual branch, from first to last, for normalised `images` `(N, 3, H, W)`.

    Raises `BadSetting` for a network whose blocks are of another make.
    """
    found: list[Branch] = []
    handles = []
    for name in block_names(network):
        handles += _watch(name, network.get_submodule(name), found)
    try:
        with evaluating(network), torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _watch(name: str, block: nn.Module, found: list[Branch]) -> list:
    """Hooks on one block that add its branches to `found`."""
    z: list[torch.Tensor] = []  # what the next branch is added to
    before = block.register_forward_pre_hook(lambda _module, inputs: z.append(inputs[0].clone()))
    drops = [module for child, module in block.named_children()
             if child.startswith("drop_path") and not child[len("drop_path"):].strip("0123456789")]
    if drops:
        count = [0]

        def add(_module, _inputs, branch: torch.Tensor) -> None:
            count[0] += 1
            found.append(Branch(f"{name} ({count[0]})", _ratio(z[-1], branch)))
            z.append(z[-1] + branch)

        return [before, *(drop.register_forward_hook(add) for drop in dict.fromkeys(drops))]

    last = next((child for child in ("bn3", "bn2") if hasattr(block, child)), None)
    if last is None or not hasattr(block, "downsample"):
        before.remove()
        raise BadSetting(f"block {name!r} ({type(block).__name__}): its residual branches are not known; skip ratios "
                         "are for our networks, and timm's transformers, mixers and ResNets")
    branch: list[torch.Tensor] = []
    handles = [before, block.get_submodule(last).register_forward_hook(lambda _m, _i, out: branch.append(out.clone()))]
    if isinstance(block.downsample, nn.Module):
        handles.append(block.downsample.register_forward_hook(lambda _m, _i, out: z.append(out.clone())))
    handles.append(block.register_forward_hook(
        lambda _m, _i, _o: found.append(Branch(f"{name} (1)", _ratio(z[-1], branch[-1])))))
    return handles


def _ratio(z: torch.Tensor, branch: torch.Tensor) -> np.ndarray:
    kept, added = (as_tokens(x).norm(dim=-1) for x in (z, branch))
    return (kept / added.clamp_min(torch.finfo(added.dtype).tiny)).mean(0).numpy()
