"""A network as a table of its layers: shapes, parameters and multiply-adds, for a terminal."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from allmlp.inspection.flops import by_part, measured_macs_by_module, on_meta
from allmlp.models.model import ModelConfig


@dataclass(frozen=True)
class Row:
    """A layer that owns parameters or multiplies. `times`: how many blocks have one like it (the first is named)."""

    name: str
    kind: str
    output: tuple[int, ...]  # shape for one image: (tokens, channels); inside token mixing (channels, hidden)
    parameters: int  # of one
    macs: int  # of one, for one image
    times: int = 1


def rows(config: ModelConfig) -> list[Row]:
    """Every layer of the network, repeated blocks once. Nothing is computed, so the largest network costs no memory.

    `parameters * times` and `macs * times` add up to those of the whole network.
    """
    model = on_meta(config).eval()
    names = [name for name, _ in model.named_modules() if name not in ("", "blocks")]  # all that have an output
    images = torch.zeros(1, config.in_channels, *config.image_size, device="meta")
    with torch.no_grad():
        _, outputs = model.forward_intermediates(images, names)
    macs = measured_macs_by_module(model)

    table = []
    for name in names:
        module = model.get_submodule(name)
        parameters = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        own_macs = macs.get(name, 0) - sum(macs.get(f"{name}.{child}", 0) for child, _ in module.named_children())
        times = _times(name, config)
        if times and (parameters or own_macs):
            table.append(Row(name, type(module).__name__, tuple(outputs[name].shape[1:]), parameters, own_macs, times))
    return table


def summary(config: ModelConfig) -> str:
    """The table as text, below what goes into the network and above its totals; ends without a newline."""
    table = rows(config)
    parameters = sum(row.parameters * row.times for row in table)
    macs = sum(row.macs * row.times for row in table)
    parts = ", ".join(f"{part} {100 * count / macs:.1f} %" for part, count in by_part(config).items())
    return "\n".join([
        f"images {_x(config.image_size)} x {config.in_channels}, patches {_x(config.patch_size)}, {_x(config.grid)} = "
        f"{math.prod(config.grid)} tokens, width {config.width}, depth {config.depth}, {config.num_classes} classes",
        *_aligned([
            ("layer", "kind", "output", "parameters", "MACs", ""),
            *((row.name, row.kind, _x(row.output), f"{row.parameters:,}", f"{row.macs:,}",
               f"x {row.times}" if row.times > 1 else "") for row in table),
        ]),
        f"{parameters:,} parameters ({4 * parameters / 2**20:,.4g} MiB in float32)",
        f"{macs:,} MACs per image ({2 * macs / 1e9:,.4g} GFLOPs): {parts}",
    ])


def _times(name: str, config: ModelConfig) -> int:
    """How many blocks are like the one that `name` lies in; 0 where an earlier block stands for it."""
    top, _, rest = name.partition(".")
    if top != "blocks":
        return 1
    places = config.places
    index = int(rest.partition(".")[0])
    return places.count(places[index]) if places.index(places[index]) == index else 0


def _aligned(cells: list[tuple[str, ...]]) -> list[str]:
    """Lines of a table: the first two columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in cells
    ]


def _x(sizes: Iterable[int]) -> str:
    return " x ".join(map(str, sizes))
