"""Token mixing on another grid, for any block that says what the axes of its parameters count (`token_axes`).

Two rules. K_h, K_w: how many times more rows and columns the new grid has.

**Blocks** (MLP-Mixer, App. C; K_h and K_w whole numbers). The image is cut into K_h x K_w parts of the old size, and
each is mixed by the old weights, alone: block-diagonal matrices, with K_h·K_w times the hidden units. Tokens are in
raster order, so a block is not a run of tokens: the token at (row, column) belongs to block
(row div old rows)·K_w + (column div old columns) and is the token (row mod old rows, column mod old columns) of it.
Pooled features and logits are then exactly the mean over the parts.

**Interpolation** (any size). New tokens are brought to the old grid, mixed there by the old weights, and the result is
brought to the new grid: W becomes `to_new W to_old`, where each end has tokens; hidden units keep their number, and
biases along tokens are interpolated. Since the rows of both maps sum to 1, tokens that are all alike give the hidden
units that they gave before: no factor is left over from the other number of terms.
"""

from collections.abc import Mapping

import torch

from allmlp.models.layers import Axis
from allmlp.models.resize.resampling import GridMaps, along

Parameters = Mapping[str, torch.Tensor]
TokenAxes = Mapping[str, tuple[Axis, ...]]


def repeat_in_blocks(
    parameters: Parameters, axes: TokenAxes, old: tuple[int, int], copies: tuple[int, int]
) -> dict[str, torch.Tensor]:
    """The parameters of `copies` (down, across) blocks side by side, each on a grid `old` of its own."""
    return {
        name: _repeated(tensor, [_places(axis, size, old, copies)
                                 for axis, size in zip(axes[name], tensor.shape, strict=True)])
        for name, tensor in parameters.items()
    }  # fmt: skip


def _repeated(tensor: torch.Tensor, places: list[tuple[torch.Tensor, torch.Tensor | None]]) -> torch.Tensor:
    """Entries taken from the old tensor; zero where the two axes belong to different blocks."""
    for axis, (index, _) in enumerate(places):
        tensor = tensor.index_select(axis, index.to(tensor.device))
    blocks = [block for _, block in places if block is not None]
    if len(blocks) == 2:
        apart = blocks[0][:, None] != blocks[1]
        tensor = tensor.masked_fill(apart.to(tensor.device), 0)
    return tensor


def _places(
    axis: Axis, size: int, old: tuple[int, int], copies: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """For each place on the new axis: which old place it repeats, and the block that it belongs to (None: to all)."""
    if axis == "channels":
        return torch.arange(size), None
    if axis in ("tokens in", "tokens out"):
        row, column = torch.meshgrid(*(torch.arange(side * times) for side, times in zip(old, copies, strict=True)),
                                     indexing="ij")
        index = row % old[0] * old[1] + column % old[1]
        block = row // old[0] * copies[1] + column // old[1]
        return index.flatten(), block.flatten()
    # Hidden units: one block's after another's. Gated ones: all values, then all gates.
    count, halves = copies[0] * copies[1], 2 if axis == "halves of hidden" else 1
    index = torch.arange(size).view(halves, 1, -1).expand(-1, count, -1)
    block = torch.arange(count).view(1, -1, 1).expand_as(index)
    return index.flatten(), block.flatten()


def interpolate(parameters: Parameters, axes: TokenAxes, maps: GridMaps) -> dict[str, torch.Tensor]:
    """The parameters with the old mixing between `maps`; computed in float64, returned in the dtype they had."""
    resampled = {}
    for name, tensor in parameters.items():
        new = tensor.double()
        for number, axis in enumerate(axes[name]):
            if axis == "tokens in":
                new = along(new, number, maps.to_old.T)
            elif axis == "tokens out":
                new = along(new, number, maps.to_new)
        resampled[name] = new.to(tensor.dtype).contiguous()
    return resampled
