"""What a network costs: parameters and multiply-adds for one image.

Counted are the linear maps, as everywhere in the field. One MAC is a multiplication and an addition, so FLOPs are
2 x MACs; thop, timm's `gmacs` and the "FLOPs" of the ResMLP paper are MACs. Norms, activations, gates, residual sums
and pooling are elementwise and left out (timm's figures, which count some of them, are up to 0.4 % larger).

A linear map from m to n values that is applied r times costs r·m·n. With S tokens of C channels, patches of P pixels
with I input channels, and K classes:

    stem             S·(I·P)·C                       each patch's pixels to C channels
    MLP-Mixer block  C·(S·D_S + D_S·S)               token mixing: one MLP for each of C channels
                     S·(C·D_C + D_C·C)               channel mixing: one MLP for each of S tokens
    gmixer block     3/4 of that                     gating halves what the second linear of each MLP sees
    ResMLP block     C·S·S;  S·2·C·D_C               one linear map along tokens; the MLP
    gMLP block       (D/2)·S·S;  S·(C·D + D/2·C)     the gate's map along tokens; the two linears around it
    attention        2·S·S·C + 4·S·C·C;  S·2·C·D_C   tokens with tokens; queries, keys, values, output; the MLP
    convolution      S·k·k·C;  S·2·C·D_C             C times the first where it is not depthwise; zeros beyond the edge
                                                     count, as PyTorch counts them
    patch merging    S·C·C'                          under channel mixing
    class-MLP        2·(C·(S + 1) + 8·C·C)           pooling by layers (models/class_mlp.py); the mean is not counted
    head             C·K                             S times that without pooling

(MLP-Mixer sections 2-3, ResMLP section 2, gMLP section 2; the blocks' own lines are their configs' `macs`.)
"""

import math

import torch
from torch.utils.flop_counter import FlopCounterMode

from allmlp.models import class_mlp
from allmlp.models.model import Model, ModelConfig


def count_parameters(config: ModelConfig) -> int:
    """Numbers that training changes. The network is built without memory, so the largest costs nothing either."""
    return sum(parameter.numel() for parameter in on_meta(config).parameters())


def count_macs(config: ModelConfig) -> int:
    """Multiply-adds of the linear maps for one image; FLOPs are twice that."""
    return sum(by_part(config).values())


def by_part(config: ModelConfig) -> dict[str, int]:
    """Multiply-adds for one image of the stem, of all blocks' token mixing and channel mixing, of pooling where it has
    any, and of the head."""
    blocks = [layer.macs(width, math.prod(grid)) for layer, width, grid in config.places]
    pooling = {}
    if config.global_pool == "class_mlp":
        pooling = {"pooling": class_mlp.macs(config.out_width, math.prod(config.out_grid))}
    return {
        "stem": config.stem.macs(config),
        "token mixing": sum(block.token_mixing for block in blocks),
        "channel mixing": sum(block.channel_mixing for block in blocks),
        **pooling,
        "head": _head(config),
    }


def _head(config: ModelConfig) -> int:
    if config.segment is not None:
        return config.segment.macs(config)
    return config.out_width * config.num_classes * (1 if config.global_pool else math.prod(config.out_grid))


def measure_macs(model: Model) -> int:
    """Multiply-adds that PyTorch itself counts in a forward pass of one image: matrix products and convolutions.

    Runs where the model is; on the meta device (`on_meta`) nothing is computed.
    """
    return measured_macs_by_module(model)[""]


def measured_macs_by_module(model: Model) -> dict[str, int]:
    """The same for every submodule that has any, by its name in `named_modules()`; "" is the whole network."""
    like = next(model.parameters())
    image = torch.zeros(1, model.config.in_channels, *model.config.image_size, dtype=like.dtype, device=like.device)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(image)
    finally:
        model.train(was_training)
    root = type(model).__name__  # the counter's names start with the class
    return {
        name.removeprefix(root).removeprefix("."): sum(operators.values()) // 2
        for name, operators in counter.get_flop_counts().items()
        if name.split(".")[0] == root
    }


def on_meta(config: ModelConfig) -> Model:
    """The network without memory for its weights: shapes only."""
    with torch.device("meta"):
        return Model(config)
