"""The same network for images of another size, other patches, channels or classes, with the weights it has.

`tokens.py` (token mixing on another grid), `stem.py` (patches and channels), `head.py` (classes) say what is exact;
docs/numerics.md says what the rest costs, measured.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch

from allmlp.errors import BadSetting, unknown_name
from allmlp.models.config import ModelConfig
from allmlp.models.model import Model
from allmlp.models.resize.head import change_classes
from allmlp.models.resize.resampling import Kernel, grid_maps
from allmlp.models.resize.stem import change_channels, resample_patch
from allmlp.models.resize.tokens import interpolate, repeat_in_blocks
from allmlp.preprocess import Preprocess

Method = Literal["auto", "block", "nearest", "bilinear", "bicubic", "area", "least_squares"]

# The kernel, and whether its pseudo-inverse stands in place of averages.
INTERPOLATIONS: dict[Method, tuple[Kernel, bool]] = {
    "nearest": ("nearest", False),
    "bilinear": ("bilinear", False),
    "bicubic": ("bicubic", False),
    "area": ("area", False),
    "least_squares": ("bicubic", True),
}
AUTO: Method = "least_squares"  # by measurement: docs/numerics.md


@torch.no_grad()
def resize(
    model: Model,
    image_size: int | Sequence[int] | None = None,
    patch_size: int | Sequence[int] | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    classes: Sequence[str] | None = None,
    method: Method = "auto",
    seed: int | None = None,
) -> Model:
    """A new network with the weights of `model`, which is left as it is.

    `image_size`, `patch_size`: pixels, (height, width) or one number. Preprocessing follows the image size and the
    channels. `method` says how token mixing comes to another grid: "block" (grids that are whole multiples; hidden
    units multiply too), "nearest", "bilinear", "bicubic" or "area" interpolation, "least_squares" (bicubic, with the
    pseudo-inverse in place of averages), or "auto", which takes the last.

    `classes`: names; rows of the head are copied where a name stood before. `num_classes` without names: a fresh head,
    unless the number stays; 0 removes it. `seed` fixes what starts afresh. Sizes that stay change no bit. Raises
    `BadSetting` where nothing is to be changed, for an image that patches do not divide, and for a method that does not
    fit the grids; `UnknownName` for another method.
    """
    if all(value is None for value in (image_size, patch_size, num_classes, in_channels, classes)):
        raise BadSetting("resize: nothing to change; give image_size, patch_size, in_channels, num_classes or classes")
    if method not in get_args(Method):
        raise unknown_name("method of resizing", str(method), get_args(Method))
    old = model.config
    config = old.with_(
        image_size=old.image_size if image_size is None else _pixels("image_size", image_size),
        patch_size=old.patch_size if patch_size is None else _pixels("patch_size", patch_size),
        in_channels=old.in_channels if in_channels is None else in_channels,
    )
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    config = _change_grid(state, old, config, method)
    _change_stem(state, old, config, model.preprocess)
    channels = 1 if config.in_channels == 1 else 3
    with torch.device("meta"):
        new = Model(config, model.preprocess.with_(image_size=config.image_size, channels=channels), model.classes,
                    model.output)
    new.load_state_dict(state, assign=True)

    if num_classes is None:
        num_classes = config.num_classes if classes is None else len(classes)
    if num_classes != config.num_classes or (classes is not None and tuple(classes) != model.classes):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        change_classes(new, num_classes, classes, generator)
    return new.train(model.training)


def _change_grid(state: dict[str, torch.Tensor], old: ModelConfig, config: ModelConfig, method: Method) -> ModelConfig:
    """Bring the token mixing in `state` to the grid of `config`; returns `config` with the hidden units it then has."""
    copies = (config.grid[0] // old.grid[0], config.grid[1] // old.grid[1])
    whole = (old.grid[0] * copies[0], old.grid[1] * copies[1]) == config.grid
    if method == "block" and not whole:
        raise BadSetting(f"method 'block' takes the grid of {_x(old.grid)} tokens to whole multiples of it, not to "
                         f"{_x(config.grid)}; take method 'auto'")
    if config.grid == old.grid:
        return config
    rule = AUTO if method == "auto" else method
    kernel, least_squares = INTERPOLATIONS.get(rule, (None, False))
    maps = grid_maps(old.grid, config.grid, kernel, least_squares) if kernel else None
    for number, block in enumerate(old.layers):
        axes = {f"blocks.{number}.{name}": axes for name, axes in block.token_axes.items()}
        tokens = {name: state[name] for name in axes}
        state |= interpolate(tokens, axes, maps) if maps else repeat_in_blocks(tokens, axes, old.grid, copies)
    return config if maps else config.with_(blocks=tuple(block.beside(math.prod(copies)) for block in old.blocks))


def _change_stem(state: dict[str, torch.Tensor], old: ModelConfig, config: ModelConfig, preprocess: Preprocess) -> None:
    if (config.patch_size, config.in_channels) == (old.patch_size, old.in_channels):
        return
    weight, bias = state["stem.proj.weight"], state["stem.proj.bias"]
    kernel, shift = resample_patch(weight.double(), config.patch_size), bias.double()
    if config.in_channels != old.in_channels:
        kernel, shift = change_channels(kernel, shift, config.in_channels, preprocess)
    state["stem.proj.weight"], state["stem.proj.bias"] = kernel.to(weight.dtype).contiguous(), shift.to(bias.dtype)


def _pixels(what: str, size: int | Sequence[int]) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, Sequence) else ()
    if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
        raise BadSetting(f"{what} {size!r}: give whole pixels, one number or (height, width)")
    return sides[0], sides[1]


def _x(grid: tuple[int, int]) -> str:
    return f"{grid[0]} x {grid[1]}"
