"""Layers by name, as `--sensitivity` lists them and `--float-layers` takes them; needs no PyTorch.

A layer is what runs as one: `stem`; of block N `blocks.N.tokens`, its token mixing, and `blocks.N.channels`, its
channel mixing, each with both products and the GELU between them. A gMLP block is one layer, `blocks.N`.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from allmlp.errors import BadSetting, printable

STEM = "stem"


def of_block(number: int, gated: bool) -> tuple[str, str]:
    """What mixes tokens and what mixes channels; of gMLP (`gated`) the same twice."""
    name = f"blocks.{number}"
    return (name, name) if gated else (f"{name}.tokens", f"{name}.channels")


def all_layers(gated: Sequence[bool]) -> tuple[str, ...]:
    """The names of a network's layers, in order; `gated`: of each block, whether it is gMLP's."""
    return tuple(dict.fromkeys((STEM, *(name for number, one in enumerate(gated) for name in of_block(number, one)))))


def is_layer(name: str) -> bool:
    """Whether some network has a layer of this name."""
    return re.fullmatch(rf"{STEM}|blocks\.\d{{1,4}}(\.(tokens|channels))?", name, re.ASCII) is not None


def chosen(wanted: Iterable[str], layers: Sequence[str]) -> tuple[str, ...]:
    """Those of `layers` that `wanted` names: each by its name, by its block's (`blocks.3`), or by a pattern
    (`blocks.*.tokens`). Raises `BadSetting` for a name of none."""
    found: set[str] = set()
    for pattern in wanted:
        matching = [name for name in layers if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
        if not matching:
            raise BadSetting(f"layer {printable(pattern, 60)!r}: this network has {', '.join(layers[:3])}, … "
                             f"{layers[-1]}; a whole block (blocks.0) or a pattern ('blocks.*') does too")
        found.update(matching)
    return tuple(name for name in layers if name in found)
