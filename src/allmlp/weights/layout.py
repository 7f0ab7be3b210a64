"""A layout: how one source names the tensors of a network, and how their axes lie.

A table of names serves both directions, so that what can be read can be written, and a missing tensor is reported
under the name that its file would have.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from allmlp.errors import BadCheckpoint
from allmlp.models.layers import Gelu
from allmlp.weights.stored import FLOATS, StoredTensor

Family = Literal["mixer", "resmlp", "gmlp"]


@dataclass(frozen=True)
class Axes:
    """`read` makes our tensor of a source's with `rank` axes; `write` is its inverse. Both also work without memory
    (torch's "meta" device), which is how shapes are worked out."""

    rank: int
    read: Callable[[torch.Tensor], torch.Tensor]
    write: Callable[[torch.Tensor], torch.Tensor]


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


VECTOR, MATRIX, AFFINE, KERNEL = (Axes(rank, _same, _same) for rank in (1, 2, 3, 4))
DENSE = Axes(2, torch.t, torch.t)  # flax: (in, out); torch: (out, in)
HWIO = Axes(4, lambda kernel: kernel.permute(3, 2, 0, 1), lambda kernel: kernel.permute(2, 3, 1, 0))  # ours is OIHW
FLAT_AFFINE = Axes(1, lambda vector: vector.view(1, 1, -1), torch.flatten)

Names = dict[str, tuple[str, Axes]]  # a source's name: our name, the axes


@dataclass(frozen=True)
class Layout:
    """The names of one source. Those of a block follow `block_prefix`, in which "{}" stands for the block's number."""

    source: str
    family: Family
    activation: Gelu
    block_prefix: str
    block: Names
    rest: Names  # stem and last norm
    head: Names
    singletons: bool = False  # axes of length 1 may stand where ours has none
    may_be_gated: bool = False  # the first linear of an MLP may be twice as wide as the second

    def names(self, depth: int, head: bool) -> Names:
        """Every tensor of a network with `depth` blocks, in the order of the source."""
        blocks = {
            self.block_prefix.format(i) + name: (f"blocks.{i}.{ours}", axes)
            for i in range(depth)
            for name, (ours, axes) in self.block.items()
        }
        return {**self.rest, **blocks, **(self.head if head else {})}

    def names_for(self, tensors: Iterable[str]) -> Names:
        """The names that a file with these `tensors` should have: as many blocks as it has numbers of blocks, a head
        where it has a part of one. Numbers have up to 3 digits, which bounds the work for a hostile file."""
        tensors = set(tensors)
        start = re.compile(re.escape(self.block_prefix).replace(re.escape("{}"), "([0-9]{1,3})"))
        depth = len({match[1] for name in tensors if (match := start.match(name))})
        return self.names(max(depth, 1), head=not tensors.isdisjoint(self.head))


def find_layout(layouts: Sequence[Layout], tensors: Mapping[str, StoredTensor]) -> Layout:
    """The layout with the most names in common with a file's. Raises `BadCheckpoint` where no layout knows half."""
    def known(layout: Layout) -> int:
        return len(layout.names_for(tensors).keys() & tensors.keys())

    best = max(layouts, key=known)
    if 2 * known(best) < len(tensors) or not tensors:
        names = ", ".join(name[:60] for name in list(tensors)[:3]) or "none"
        raise BadCheckpoint(f"not a network that allmlp knows (its tensors: {names}, …); it knows "
                            f"{'; '.join(layout.source for layout in layouts)}")
    return best


def squeeze(layout: Layout, tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The tensors without the axes of length 1 that the layout may have too many."""
    if not layout.singletons:
        return dict(tensors)
    names = layout.names_for(tensors)
    return {name: _squeezed(tensor, names[name][1].rank) if name in names else tensor
            for name, tensor in tensors.items()}


def _squeezed(tensor: StoredTensor, rank: int) -> StoredTensor:
    shape = list(tensor.shape)
    while len(shape) > rank and 1 in shape:
        shape.remove(1)
    return StoredTensor(tuple(shape), tensor.dtype, lambda: tensor.read().reshape(shape))


def check_names(layout: Layout, tensors: Mapping[str, StoredTensor]) -> Names:
    """The file's names, after refusing (`BadCheckpoint`) tensors that are missing, unexpected, empty, of another number
    of axes or not floating point."""
    names = layout.names_for(tensors)
    problems = [f"missing {name}" for name in names if name not in tensors]
    problems += [f"unexpected {name[:100]}" for name in tensors if name not in names]
    for name in names.keys() & tensors.keys():
        tensor, rank = tensors[name], names[name][1].rank
        if tensor.dtype not in FLOATS:
            problems.append(f"{name} is {tensor.dtype}, expected floating point")
        elif len(tensor.shape) != rank or tensor.numel == 0:
            problems.append(f"{name} is {tensor.shape}, expected {rank} axes, none of them empty")
    refuse(layout, problems)
    return names


def our_shapes(names: Names, tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[int, ...]]:
    """Our name to the shape that the tensor will have in our network."""
    return {
        ours: tuple(axes.read(torch.empty(tensors[name].shape, device="meta")).shape)
        for name, (ours, axes) in names.items()
    }


def check_shapes(
    layout: Layout, names: Names, tensors: Mapping[str, StoredTensor], expected: Mapping[str, torch.Tensor]
) -> None:
    """Refuse (`BadCheckpoint`) tensors that are not shaped as the network's (`expected`, under our names) are."""
    wanted = {name: tuple(axes.write(expected[ours]).shape) for name, (ours, axes) in names.items()}
    refuse(layout, [f"{name} is {tensors[name].shape}, expected {wanted[name]}"
                    for name in names if tensors[name].shape != wanted[name]])


def refuse(layout: Layout, problems: Sequence[str]) -> None:
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise BadCheckpoint(f"its tensors do not fit {layout.source}: {'; '.join(problems[:5])}{more}")


def to_source(layout: Layout, state: Mapping[str, torch.Tensor], depth: int) -> dict[str, torch.Tensor]:
    """Our state dict under a source's names, with its axes; contiguous, in the source's order."""
    names = layout.names(depth, head="head.weight" in state)
    return {name: axes.write(state[ours].detach()).contiguous() for name, (ours, axes) in names.items()}
