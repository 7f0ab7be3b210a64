"""What timm's users ask of a network beside its logits, in timm's words; `Model` hands the questions on to here.

timm's `MlpMixer` (timm/models/mlp_mixer.py) is the pattern for names and meanings, so that code written for it, such as
feature extractors, layer-wise learning rates and `timm.data.create_transform`, takes our networks as they are.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch

from allmlp.errors import BadSetting, unknown_name
from allmlp.models.config import ModelConfig
from allmlp.preprocess import Preprocess, channel_statistics

if TYPE_CHECKING:
    from allmlp.models.model import Model

FeatureFormat = Literal["NCHW", "NLC"]
"""How intermediate tokens come out: as images `(B, C, rows, columns)`, or `(B, S, C)` as they are."""


def outputs_by_name(
    model: "Model", images_BCHW: torch.Tensor, names: Sequence[str]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Tokens after the last norm, and the output of each submodule in `names`. Raises `UnknownName`."""
    modules = {name: module for name, module in model.named_modules() if name not in ("", "blocks")}
    outputs: dict[str, torch.Tensor] = {}
    hooks = []
    for name in names:
        if name not in modules:
            raise unknown_name("layer", name, modules)

    def keep(name: str):
        def hook(_module, _inputs, output):
            outputs[name] = output

        return hook

    try:
        hooks = [modules[name].register_forward_hook(keep(name)) for name in names]
        features = model.forward_features(images_BCHW)
        model.forward_head(features)
    finally:
        for hook in hooks:
            hook.remove()
    return features, {name: outputs[name] for name in names}


def outputs_by_index(
    model: "Model", images_BCHW: torch.Tensor, blocks: Sequence[int], norm: bool, stop_early: bool,
    output_fmt: FeatureFormat,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Tokens `(B, S, C)` after the last norm, and the outputs of `blocks` (numbers), from first to last.

    `norm`: the last norm on each of them too. `stop_early`: leave out the blocks that come after the last one taken;
    the tokens are then those of that block, normalised (in a pyramid as they are, where the norm is for wider ones).
    """
    if output_fmt not in ("NCHW", "NLC"):
        raise BadSetting(f"output_fmt {output_fmt!r}; accepted: NCHW (images of features), NLC (tokens)")
    x_BSC, outputs = model.stem(images_BCHW), []
    for index, block in enumerate(model.blocks):
        if stop_early and index > max(blocks):
            break
        x_BSC = model.run_block(block, x_BSC)
        if index in blocks:
            if norm and x_BSC.shape[2] != model.num_features:
                raise BadSetting(f"norm: the last norm is for {model.num_features} channels, and block {index} has "
                                 f"{x_BSC.shape[2]}; leave norm out")
            tokens_BSC = model.norm(x_BSC) if norm else x_BSC
            outputs.append(model.to_grid(tokens_BSC, index).contiguous() if output_fmt == "NCHW" else tokens_BSC)
    features_BSC = model.norm(x_BSC) if x_BSC.shape[2] == model.num_features else x_BSC
    return features_BSC, outputs


def take_blocks(depth: int, indices: int | Sequence[int] | None) -> list[int]:
    """The numbers of the blocks that `indices` means: None all, a number the last so many, else those (-1 the last).

    Raises `BadSetting` for a block that the network does not have.
    """
    if indices is None:
        return list(range(depth))
    if isinstance(indices, int):
        if not 1 <= indices <= depth:
            raise BadSetting(f"the last {indices} blocks: the network has {depth}; give 1 to {depth}")
        return list(range(depth - indices, depth))
    for index in indices:
        if not -depth <= index < depth:
            raise BadSetting(f"block {index}: the network has blocks 0 to {depth - 1} (-1 is the last)")
    if not indices:
        raise BadSetting("no block is asked for; give indices, or None for all")
    return [index % depth for index in indices]


def feature_info(config: ModelConfig) -> list[dict[str, Any]]:
    """One entry for each block; patches that are not square count by their longer side."""
    after = [*((place.width, place.grid) for place in config.places[1:]), (config.out_width, config.out_grid)]
    return [{"module": f"blocks.{index}", "num_chs": width,
             "reduction": max(config.patch_size[0] * config.grid[0] // rows,
                              config.patch_size[1] * config.grid[1] // columns)}
            for index, (width, (rows, columns)) in enumerate(after)]


def as_timm_config(config: ModelConfig, preprocess: Preprocess) -> dict[str, Any]:
    """What timm calls `pretrained_cfg`: what the weights want, and the names of the first and the last layer.

    timm's crop mode "squash" with a crop ratio of 1 is our "squash".
    """
    mean, std = channel_statistics(preprocess)
    return {
        "num_classes": config.num_classes,
        "input_size": (config.in_channels, *config.image_size),
        "fixed_input_size": True,
        "pool_size": None,
        "interpolation": preprocess.interpolation,
        "crop_pct": 1.0 if preprocess.resize == "squash" else preprocess.crop_ratio,
        "crop_mode": "center" if preprocess.resize == "shorter" else "squash",
        "mean": mean,
        "std": std,
        "first_conv": "stem.proj" if config.stem.kind == "patches" else "stem.layers.0",
        "classifier": "head",
    }
