"""What `allmlp bench` measures: the network that a MODEL stands for, and the data that its accuracy is measured on."""

import argparse
import os
from typing import TYPE_CHECKING

from allmlp.backends import manifest as manifests
from allmlp.backends import native
from allmlp.commands.source import open_source, source_of
from allmlp.data.dataset import Data

if TYPE_CHECKING:
    from allmlp.models.model import Model


def opened_network(name: str, image_size: tuple[int, int] | None) -> tuple["Model", bool]:
    """The network, and whether its weights are fresh: those of a name of `allmlp models` without a tag are."""
    from allmlp import checkpoint
    from allmlp.models.variants import VARIANTS, create_model

    if name in VARIANTS and not os.path.exists(name):
        return create_model(name, image_size=image_size, seed=0).eval(), True
    return checkpoint.load_at(name, image_size), False


def size_of_logits(model: "Model") -> int:
    """How many numbers the network says of an image."""
    height, width = model.config.image_size
    return model.num_classes * (1 if model.config.segment is None else height * width)


def size_of_export(name: str) -> tuple[tuple[int, int], int]:
    """The image size of an exported folder or a file for the engine, and how many numbers it says of an image."""
    if manifests.is_export(name):
        manifest = manifests.read(name)
        height, width = size = manifest.preprocess.image_size
        return size, manifest.num_classes * (1 if manifest.other_sizes is None else height * width)
    model = native.load(name, threads=1).model
    return model.image_size, model.num_classes


def opened_data(options: argparse.Namespace) -> Data:
    """The data that was asked for. Raises what opening does."""
    return open_source(options, source_of(options))
