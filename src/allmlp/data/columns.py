"""Which columns of a table hold the images and the labels: by what Hugging Face `datasets` wrote, else by name."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from allmlp.data.texts import printable
from allmlp.errors import BadData

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_NAMES = ("image", "img", "images", "picture", "jpg", "png", "webp", "pixel_values")  # where no schema says it
LABEL_NAMES = ("label", "labels", "fine_label", "class", "cls", "target", "coarse_label")


def features_of(schema: "pa.Schema") -> dict[str, Any]:
    """What `datasets` wrote of the columns, or nothing."""
    try:
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = said["info"]["features"]
        return features if isinstance(features, dict) else {}
    except (ValueError, RecursionError, KeyError, TypeError):
        return {}


def _kind(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def image_column(schema: "pa.Schema", features: Mapping[str, Any], where: str) -> str:
    """The column with images, dotted down to the bytes."""
    candidates = {}
    for column in schema:
        if str(column.type) in ("binary", "large_binary"):
            candidates[column.name] = column.name
        elif str(column.type).startswith("struct<") and "bytes" in [part.name for part in column.type]:
            candidates[column.name] = f"{column.name}.bytes"
    first = [name for name in candidates if _kind(features.get(name)) == "Image"]
    name = next((name for name in (*first, *IMAGE_NAMES, *candidates) if name in candidates), None)
    if name is None:
        raise BadData(f"{where}: no column with images among {_listed(schema)}; expected encoded images as bytes")
    return candidates[name]


def label_column(schema: "pa.Schema", features: Mapping[str, Any], where: str) -> str:
    """The column with labels: of class labels that `datasets` names, else of a name that says so."""
    labelled = [name for name in schema.names if class_names(features.get(name)) is not None]
    named = [name for name in LABEL_NAMES if name in schema.names]
    name = next((name for name in (*(name for name in named if name in labelled), *labelled, *named)), None)
    if name is None:
        raise BadData(f"{where}: no column with labels among {_listed(schema)}; expected one called "
                      f"{' or '.join(LABEL_NAMES[:2])}, with numbers, names, or lists of them")
    return name


def class_names(feature: Any) -> list[str] | None:
    """The names in a ClassLabel, or in a list of such."""
    if isinstance(feature, list) and len(feature) == 1:
        return class_names(feature[0])
    if not isinstance(feature, dict):
        return None
    if _kind(feature) in ("Sequence", "List", "LargeList"):
        return class_names(feature.get("feature"))
    names = feature.get("names") if _kind(feature) == "ClassLabel" else None
    return [str(name) for name in names] if isinstance(names, list) else None


def _listed(schema: "pa.Schema") -> str:
    return printable(", ".join(f"{column.name} ({column.type})" for column in schema))[:300]
