"""What a foreign file cannot say about a network: which networks it cannot hold, and what its reader will assume.

Both follow from reading back: a config that infers to another one has lost something.
"""

import os
from typing import get_args

from allmlp.errors import BadCheckpoint, CannotWrite
from allmlp.models.config import AnyLayer
from allmlp.models.model import Model, ModelConfig
from allmlp.models.stems import PatchStem
from allmlp.weights.infer import family_of, family_preprocess, infer_config
from allmlp.weights.layout import Family, Layout

TRAINING_ONLY = ("layer_scale",)  # of a block: where it starts
COMPUTED = ("activation", "norm", "gate_norm")  # of a block: as a rule no tensor's shape or name depends on these


def same_shape(one: ModelConfig, other: ModelConfig) -> bool:
    """Whether two networks differ in image size, channels, classes and training only."""
    def shape(config: ModelConfig):
        learned = config.global_pool == "class_mlp"
        blocks = [_fields(block) for block in config.layers]
        return config.patch_size, config.stem, config.width, config.depth, learned, blocks

    return shape(one) == shape(other)


def check_writable(model: Model, layout: Layout, path: str | os.PathLike) -> None:
    """Refuse (`CannotWrite`) a network whose tensors or blocks the layout does not have."""
    config, state = model.config, model.state_dict()
    foreign = [f"{block.kind!r} blocks" for block in config.blocks if block.kind not in get_args(Family)]
    if config.global_pool == "class_mlp":
        foreign.append("class-MLP pooling")
    if config.stem != PatchStem():
        foreign.append(f"stem of the kind {str(config.stem)!r}")
    if foreign:
        raise CannotWrite(f"{path}: {layout.source} has no {foreign[0]}; `allmlp.save` writes any network")
    ours = {ours for ours, _ in layout.names(config.depth, head="head.weight" in state).values()}
    family = family_of(config)
    if family != layout.family or ours != state.keys():
        what = "a mixture of blocks or norms" if family == layout.family else f"of the family {family!r}"
        raise CannotWrite(f"{path}: this network is {what}, and {layout.source} has no names for its tensors; "
                          "`allmlp.save` writes any network")
    back = _read_back(model, layout, model.config.image_size)
    if [_fields(block) for block in config.layers] != [_fields(block) for block in back.layers]:
        raise CannotWrite(f"{path}: its blocks are gated or differ from each other, which {layout.source} cannot be; "
                          "`allmlp.save` writes any network")


def what_is_lost(model: Model, layout: Layout) -> list[str]:
    """What whoever reads the file will take for granted and is not so, one line each."""
    config, back = model.config, _read_back(model, layout, model.config.image_size)
    lost = []
    ours, theirs = config.blocks[0], back.blocks[0]
    if ours.activation != theirs.activation:
        lost.append(f"GELU: this network has the {ours.activation} form, {layout.source} the {theirs.activation} form; "
                    "they differ by at most 4.8e-4, and the logits differ a little")
    norms = [(name, getattr(ours, name), getattr(theirs, name)) for name in COMPUTED[1:] if hasattr(ours, name)]
    lost += [f"{name}: {mine} here, {other} with {layout.source}"
             for name, mine, other in [*norms, ("last norm", config.norm, back.norm)] if mine != other]
    try:
        assumed = _read_back(model, layout, image_size=None).image_size
    except BadCheckpoint:
        assumed = None
    if assumed != config.image_size:
        lost.append(f"image size: give image_size={config.image_size} when loading")
    if model.preprocess != family_preprocess(config):
        lost.append("preprocessing: it is not the family's own and is not in the file")
    if model.classes is not None:
        lost.append("class names: they are not in the file")
    if model.output != "softmax":
        lost.append(f"output: {model.output}, which is not in the file")
    return lost


def _read_back(model: Model, layout: Layout, image_size: tuple[int, int] | None) -> ModelConfig:
    """The config that a reader will infer."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return infer_config(layout, shapes, model.config.depth, image_size)


def _fields(block: AnyLayer) -> dict:
    """What shapes and names depend on."""
    fields = {name: value for name, value in block.model_dump().items() if name not in (*COMPUTED, *TRAINING_ONLY)}
    return {**fields, "gated": block.activation == "swiglu"}
