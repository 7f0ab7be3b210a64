"""Networks by name with their published weights: what `allmlp.create_model` and `allmlp.list_models` are.

`models.variants` has the networks, `catalogue.py` the weights, `resize` other sizes; this puts them together.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allmlp.errors import BadCheckpoint, BadSetting, UnknownName, printable
from allmlp.models import variants
from allmlp.models.init import seeded
from allmlp.models.model import Model, one_name_per_class, with_config
from allmlp.models.resize import resize
from allmlp.models.variants import model_config
from allmlp.weights.catalogue import Published, find_published, list_published
from allmlp.weights.download import fetch
from allmlp.weights.formats import load_foreign
from allmlp.weights.hub import is_hub_name
from allmlp.weights.labels import words
from allmlp.weights.lost import same_shape


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """Names of all networks, or with `pretrained` of all published weights, that match a shell pattern."""
    return [row.name for row in list_published(pattern)] if pretrained else variants.list_models(pattern)


def create_model(
    name: str,
    pretrained: bool = False,
    *,
    num_classes: int | None = None,
    image_size: int | Sequence[int] | None = None,
    patch_size: int | Sequence[int] | None = None,
    in_channels: int | None = None,
    activation: str | None = None,
    stochastic_depth: float | None = None,
    drop_rate: float | None = None,
    global_pool: str | None = None,
    classes: Sequence[str] | None = None,
    seed: int | None = None,
    cache_dir: str | Path | None = None,
    img_size: int | Sequence[int] | None = None,
    in_chans: int | None = None,
    drop_path_rate: float | None = None,
) -> Model:
    """A named network in evaluation mode, float32 on the CPU, with fresh or with published weights.

    `name`: a network, "mixer_b16_224", or weights, "mixer_b16_224.goog_in1k" (without a tag: the network's default
    ones). With weights come their classes, preprocessing and GELU, also when `pretrained` is false. `pretrained`
    downloads them once (`cache_dir`, else `$ALLMLP_HOME`, else torch.hub's folder or the Hub's cache).

    Sizes are pixels, (height, width) or one number. Weights are brought to another image size, patch size, number of
    channels or classes by `resize`; the head stays where the classes do. `num_classes` 0 means no head; `activation`,
    `drop_rate` and `global_pool` are those of `models.variants.model_config`; `seed` fixes what starts afresh (None:
    torch's global generator). `img_size`, `in_chans` and `drop_path_rate` are timm's words for `image_size`,
    `in_channels` and `stochastic_depth`.

    Raises `UnknownName` (with the nearest names), `BadSetting`, and with `pretrained` `CannotDownload` and
    `BadCheckpoint`.
    """
    if not isinstance(name, str):
        raise UnknownName(f"create_model: {printable(repr(name), 80)} is no name; `allmlp models` lists them")
    if is_hub_name(name):
        raise UnknownName(f"{name}: create_model builds networks by name; allmlp.load({name!r}) takes one from the Hub")
    image_size = _one_of("image_size", image_size, "img_size", img_size)
    in_channels = _one_of("in_channels", in_channels, "in_chans", in_chans)
    stochastic_depth = _one_of("stochastic_depth", stochastic_depth, "drop_path_rate", drop_path_rate)
    sizes = {"num_classes": num_classes, "image_size": image_size, "patch_size": patch_size,
             "in_channels": in_channels, "classes": classes}  # fmt: skip
    settings = {"stochastic_depth": stochastic_depth, "drop_rate": drop_rate, "global_pool": global_pool}
    if not pretrained and "." not in name:
        return variants.create_model(name, **sizes, **settings, activation=activation, seed=seed)

    row = find_published(name)
    if activation and (activation == "swiglu") != (row.gelu is None):
        raise BadSetting(f"activation {activation!r}: the weights of {row.name} are of a network "
                         f"{'with gates (swiglu)' if row.gelu is None else 'without gates (tanh or erf)'}")
    activation = activation or row.gelu
    if pretrained:
        one_name_per_class(classes, num_classes)
        model_config(row.network, num_classes=num_classes, image_size=image_size, patch_size=patch_size,
                     in_channels=in_channels, activation=activation, **settings)  # refuses before anything is fetched
        seeded(seed)
        model = load_published(row, cache_dir)
        config = model_config(row.network, num_classes=model.num_classes, activation=activation, **settings)
        return _resized(with_config(model, config), seed, **sizes)
    if num_classes is None and classes is None:
        sizes["num_classes"] = row.num_classes
    model = variants.create_model(row.network, **sizes, **settings, activation=activation, seed=seed)
    model.preprocess = row.preprocess.with_(image_size=model.config.image_size, channels=model.preprocess.channels)
    if classes is None and model.num_classes == row.num_classes:
        model.classes = class_names(row)
    return model


def load_published(row: Published, cache_dir: str | Path | None = None) -> Model:
    """The network of published weights as they are, with class names. Raises `CannotDownload` and `BadCheckpoint`."""
    path = fetch(row, cache_dir)
    try:
        found = load_foreign(path, row.preprocess.image_size)
        if not row.num_classes:
            found.reset_classifier(0)
        config = model_config(row.network, num_classes=row.num_classes, activation=row.gelu)
        if not same_shape(found.config, config) or found.num_classes != row.num_classes:
            raise BadCheckpoint(f"{path}: another network than {row.name}, or with {found.num_classes} classes, not "
                                f"{row.num_classes}")
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{error}; delete the file, and it will be downloaded again") from None
    model = with_config(found, config)
    model.preprocess, model.classes = row.preprocess, class_names(row)
    return model


def class_names(row: Published) -> tuple[str, ...] | None:
    return None if row.labels is None else words(row.labels)


def _resized(model: Model, seed: int | None, **sizes: Any) -> Model:
    asked = {name: value for name, value in sizes.items() if value is not None}
    return resize(model, **asked, seed=seed) if asked else model


def _one_of(ours: str, value: Any, timms: str, other: Any) -> Any:
    if value is not None and other is not None:
        raise BadSetting(f"{ours} and {timms} are two words for the same: give one of them")
    return value if other is None else other
