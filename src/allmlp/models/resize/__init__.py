"""The same network for images of another size, other patches, channels or classes, with the weights it has.

`tokens.py` (token mixing on another grid), `stem.py` (patches and channels), `head.py` (classes) say what is exact;
docs/numerics.md says what the rest costs, measured.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch

from allmlp.errors import BadSetting, unknown_name
from allmlp.models.config import ModelConfig, height_width
from allmlp.models.init import seeded
from allmlp.models.layers import IdentityConfig
from allmlp.models.model import Model, build_on_meta, check_model, one_name_per_class
from allmlp.models.resize.head import change_classes
from allmlp.models.resize.resampling import Kernel, grid_maps
from allmlp.models.resize.stem import change_channels, resample_patch
from allmlp.models.resize.tokens import interpolate, repeat_in_blocks
from allmlp.models.stems import PatchStem
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
    check_model(model, "resize")
    generator, classes = seeded(seed), one_name_per_class(classes, num_classes)
    if all(value is None for value in (image_size, patch_size, num_classes, in_channels, classes)):
        raise BadSetting("resize: nothing to change; give image_size, patch_size, in_channels, num_classes or classes")
    if method not in get_args(Method):
        raise unknown_name("method of resizing", str(method), get_args(Method))
    old = model.config
    config = old.with_(
        image_size=old.image_size if image_size is None else height_width("image_size", image_size),
        patch_size=old.patch_size if patch_size is None else height_width("patch_size", patch_size),
        in_channels=old.in_channels if in_channels is None else in_channels,
    )
    copies = _copies(old, config, method)
    if copies:
        config = config.with_(blocks=tuple(block.beside(math.prod(copies)) for block in old.blocks))
    channels = 1 if config.in_channels == 1 else 3
    new = build_on_meta(config, model.preprocess.with_(image_size=config.image_size, channels=channels), model.classes,
                        model.output)
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    if config.grid != old.grid:
        _change_grid(state, old, config, method, copies)
    _change_stem(state, old, config, model.preprocess)
    new.load_state_dict(state, assign=True)

    if num_classes is None:
        num_classes = config.num_classes if classes is None else len(classes)
    if num_classes != config.num_classes or (classes is not None and classes != model.classes):
        change_classes(new, num_classes, classes, generator)
    return new.train(model.training)


def _copies(old: ModelConfig, new: ModelConfig, method: Method) -> tuple[int, int] | None:
    """How many old grids stand (below, beside) each other in the new one by the rule of blocks; None for others."""
    if method != "block" or new.grid == old.grid:
        return None
    copies = (new.grid[0] // old.grid[0], new.grid[1] // old.grid[1])
    if (old.grid[0] * copies[0], old.grid[1] * copies[1]) != new.grid:
        raise BadSetting(f"method 'block' takes the grid of {_x(old.grid)} tokens to whole multiples of it, not to "
                         f"{_x(new.grid)}; take method 'auto'")
    return copies


def _change_grid(
    state: dict[str, torch.Tensor], old: ModelConfig, new: ModelConfig, method: Method, copies: tuple[int, int] | None
) -> None:
    """Bring the token mixing in `state` to the grid of `new`."""
    if old.global_pool == "class_mlp":
        raise BadSetting(f"resize knows no rule that brings class-MLP pooling from {_x(old.grid)} to {_x(new.grid)} "
                         "tokens; train it at the image size and patch size that you need")
    rule = INTERPOLATIONS.get(AUTO if method == "auto" else method)
    for number, (place, there) in enumerate(zip(old.places, new.places, strict=True)):
        axes = {f"blocks.{number}.{name}": axes for name, axes in place.layer.token_axes.items()}
        tokens = {name: state[name] for name in axes}
        if rule:
            state |= interpolate(tokens, axes, grid_maps(place.grid, there.grid, *rule))
        elif copies:
            state |= repeat_in_blocks(tokens, axes, place.grid, copies)


def _change_stem(state: dict[str, torch.Tensor], old: ModelConfig, config: ModelConfig, preprocess: Preprocess) -> None:
    if (config.patch_size, config.in_channels) == (old.patch_size, old.in_channels):
        return
    if old.stem.with_(norm=IdentityConfig()) != PatchStem():
        raise BadSetting("resize brings patches without overlap to another patch_size or in_channels, and this "
                         f"network's stem is {old.stem}; train it with those that you need")
    weight, bias = state["stem.proj.weight"], state["stem.proj.bias"]
    kernel, shift = resample_patch(weight.double(), config.patch_size), bias.double()
    if config.in_channels != old.in_channels:
        kernel, shift = change_channels(kernel, shift, config.in_channels, preprocess)
    state["stem.proj.weight"], state["stem.proj.bias"] = kernel.to(weight.dtype).contiguous(), shift.to(bias.dtype)


def _x(grid: tuple[int, int]) -> str:
    return f"{grid[0]} x {grid[1]}"
