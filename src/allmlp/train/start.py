"""The network a run starts from."""

import json

import torch

from allmlp import checkpoint
from allmlp.data.dataset import Data
from allmlp.errors import BadSetting
from allmlp.models.config import ModelConfig
from allmlp.models.model import Model, build, with_segment_head
from allmlp.models.resize import resize
from allmlp.models.variants import VARIANTS, default_preprocess, model_config
from allmlp.recipe import Recipe


def starting_model(recipe: Recipe, data: Data) -> Model:
    """The network a recipe starts from: fresh, or the weights of `recipe.init` with a head for the data's classes.

    Weights come to `recipe.image_size` by `resize` with `recipe.init_resize`; the head keeps the rows of classes that
    it knew by name. Stochastic depth, dropout and the start of a fresh head's bias are the recipe's where it says so.
    """
    check_task(recipe, data)
    if recipe.init:
        model = checkpoint.load_at(recipe.init, recipe.image_size, method=recipe.init_resize)
        model = _with_config(model, configured(model.config, recipe))
        if recipe.segmentation is not None:
            head, generator = recipe.segmentation.head, torch.Generator().manual_seed(recipe.seed)
            if model.config.segment != head or model.classes != data.classes:
                model = with_segment_head(model, head, data.classes, generator)
        elif model.classes != data.classes:
            model = resize(model, classes=data.classes, seed=recipe.seed)
    else:
        config = with_head_for_pixels(network_config(recipe, len(data.classes)), recipe)
        generator = torch.Generator().manual_seed(recipe.seed)
        preprocess = default_preprocess(recipe.model, config)
        model = build(configured(config, recipe), preprocess, data.classes, generator).eval()
    changes = {"crop_ratio": recipe.crop_ratio, "interpolation": recipe.interpolation, "resize": recipe.resize}
    changes = {key: value for key, value in changes.items() if value is not None}
    model.preprocess = model.preprocess.with_(**changes) if changes else model.preprocess
    model.output = recipe.loss.kind
    return model


def network_config(recipe: Recipe, num_classes: int | None = None) -> ModelConfig:
    """The network of a recipe without `init`, of the recipe's image size: its own, else the one with its name.

    Raises `UnknownName`, and `BadSetting` for what makes no network.
    """
    if recipe.network is None:
        return model_config(recipe.model, image_size=recipe.image_size, num_classes=num_classes)
    changes = {"num_classes": num_classes, "image_size": recipe.image_size}
    return ModelConfig.from_json(json.dumps(recipe.network)).with_(
        **{name: value for name, value in changes.items() if value is not None})


def network_name(recipe: Recipe) -> str:
    """What a recipe's network is called, with the settings in which it is another than the one with that name."""
    if recipe.network is None or recipe.model not in VARIANTS:
        return recipe.model
    named, own = VARIANTS[recipe.model], network_config(recipe)
    changed = [field for field in ModelConfig.model_fields
               if field not in ("image_size", "num_classes") and getattr(own, field) != getattr(named, field)]
    return f"{recipe.model} with {', '.join(changed)} changed" if changed else recipe.model


def with_head_for_pixels(config: ModelConfig, recipe: Recipe) -> ModelConfig:
    """`config` with the head of a recipe for segmentation; as it is for other recipes."""
    return config if recipe.segmentation is None else config.with_(segment=recipe.segmentation.head, global_pool="")


def check_task(recipe: Recipe, data: Data) -> None:
    """Raises `BadSetting` where the data does not have what the recipe learns."""
    if recipe.segmentation is None and data.task == "segmentation":
        raise BadSetting(f"{data.name} has a mask for each image, and recipe {recipe.name} learns one class for an "
                         "image; set segmentation.dice=1, or take the recipe digit_masks")
    if recipe.segmentation is not None and data.task == "classification":
        raise BadSetting(f"recipe {recipe.name} learns a class for every pixel, and {data.name} has no masks")


def configured(config: ModelConfig, recipe: Recipe) -> ModelConfig:
    """`config` with the recipe's stochastic depth, dropout and start of the head's bias; what it leaves open stays."""
    depth = config.stochastic_depth
    if recipe.stochastic_depth is not None:
        depth = depth.with_(rate=recipe.stochastic_depth)
    if recipe.stochastic_depth_rule is not None:
        depth = depth.with_(rule=recipe.stochastic_depth_rule, rescale=recipe.stochastic_depth_rule == "constant")
    dropout, bias = recipe.dropout, recipe.loss.head_bias_init
    return config.with_(stochastic_depth=depth, drop_rate=config.drop_rate if dropout is None else dropout,
                        head_bias=config.head_bias if bias is None else bias)


def _with_config(model: Model, config: ModelConfig) -> Model:
    """A network of the same weights, whose config differs in nothing that has weights."""
    if config == model.config:
        return model
    with torch.device("meta"):
        changed = Model(config, model.preprocess, model.classes, model.output)
    changed.load_state_dict(model.state_dict(), assign=True)
    return changed.train(model.training)
