"""What `allmlp bench` measures: the network that a MODEL stands for, and the data that its accuracy is measured on."""

import argparse
import os
from typing import TYPE_CHECKING

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


def opened_data(options: argparse.Namespace) -> Data:
    """The data that was asked for. Raises what opening does."""
    return open_source(options, source_of(options))
