"""Our networks and weights in timm's registry, under names that timm does not have: `allmlp_mixer_b16_224`.

Afterwards `timm.create_model("allmlp_mixer_h14_224", img_size=(192, 256))`, `timm.list_models("allmlp_*")`,
`features_only=True` and whatever is built on them work with all our networks, and `pretrained=True` with all weights of
the catalogue: through `create_model`, so with another image size too, which timm's own Mixers cannot have.
"""

import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from allmlp.models.interface import as_timm_config
from allmlp.models.model import Model
from allmlp.models.variants import VARIANTS, default_preprocess, model_config
from allmlp.weights.catalogue import PUBLISHED, Published
from allmlp.weights.pretrained import create_model

PREFIX = "allmlp_"
MODULE = "allmlp.weights.registry.allmlp"  # timm calls the last part the module: timm.list_models(module="allmlp")


def register_with_timm() -> list[str]:
    """Add every network to timm's registry; returns their names there. Calling it again changes nothing."""
    from timm.models import generate_default_cfgs, is_model, register_model

    names = [f"{PREFIX}{network}" for network in VARIANTS]
    if MODULE not in sys.modules:
        module: Any = types.ModuleType(MODULE, "What timm's registry knows of allmlp.")
        module.default_cfgs = generate_default_cfgs(_configs())
        sys.modules[MODULE] = module
    for network, name in zip(VARIANTS, names, strict=True):
        if not is_model(name):
            register_model(_entry_point(network, name))
    return names


def _configs() -> dict[str, Any]:
    """timm's `pretrained_cfg` of every checkpoint, the defaults first, and of every network without one."""
    published = {f"{PREFIX}{row.name}": _published_config(row) for row in PUBLISHED}
    with_weights = {row.network for row in PUBLISHED}
    fresh = {
        f"{PREFIX}{network}.untrained": as_timm_config(config, default_preprocess(network, config))
        for network, config in VARIANTS.items() if network not in with_weights
    }  # fmt: skip
    return {**published, **fresh}


def _published_config(row: Published) -> dict[str, Any]:
    config = model_config(row.network, num_classes=row.num_classes)
    return {**as_timm_config(config, row.preprocess), "url": row.url, "hf_hub_id": row.hub_id, "license": row.licence,
            "notes": (row.note,)}  # fmt: skip


def _entry_point(network: str, name: str) -> Callable[..., Any]:
    """What timm calls to build a network: builds it by `create_model`, and hands it to timm's own builder."""

    def entry_point(pretrained: bool = False, out_indices: Any = 3, **arguments: Any) -> Any:
        from timm.models import build_model_with_cfg

        source, cache_dir = arguments.get("pretrained_cfg"), arguments.get("cache_dir")
        ours = not arguments.get("pretrained_cfg_overlay") and (source is None or isinstance(source, str))
        tagged = f"{network}.{source}" if ours and source not in (None, "untrained") else network
        return build_model_with_cfg(
            partial(_build, tagged, pretrained and ours, cache_dir),
            name,
            pretrained and not ours,  # timm loads what is not in our catalogue: a file, a folder, another repository
            feature_cfg={"out_indices": out_indices, "feature_cls": "getter"},
            **arguments,
        )

    entry_point.__name__ = entry_point.__qualname__ = name
    entry_point.__module__ = MODULE
    entry_point.__doc__ = f"allmlp's {network}."
    return entry_point


def _build(
    name: str, pretrained: bool, cache_dir: str | None, *, num_classes: int | None = None, in_chans: int | None = None,
    img_size: Any = None, patch_size: Any = None, activation: str | None = None, drop_path_rate: float | None = None,
    drop_rate: float | None = None, global_pool: str | None = None, device: Any = None, dtype: Any = None,
) -> Model:
    """The network, wherever timm wants it; on the meta device without drawing weights."""
    sizes = {"num_classes": num_classes, "in_channels": in_chans, "image_size": img_size, "patch_size": patch_size}
    settings = {"activation": activation, "stochastic_depth": drop_path_rate, "drop_rate": drop_rate,
                "global_pool": global_pool}  # fmt: skip
    if not pretrained and device is not None and torch.device(device).type == "meta":
        config = model_config(name.partition(".")[0], **sizes, **settings)
        with torch.device("meta"):
            return Model(config, default_preprocess(name, config)).to(dtype)
    return create_model(name, pretrained, **sizes, **settings, cache_dir=cache_dir).to(device, dtype)
