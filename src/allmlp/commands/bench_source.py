"""What `allmlp bench` measures: the network that a MODEL stands for, and the data that its accuracy is measured on."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from allmlp.commands.source import open_source, reopened, source_of
from allmlp.data.dataset import Data
from allmlp.errors import AllMLPError

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


def run_data(name: str, quick: bool) -> Data | None:
    """The data that a run learnt from, split as it was then; None where it is not there any more, or `quick`."""
    from allmlp.train import run_folder

    folder = Path(name) if os.path.isdir(name) else Path(name).parent
    if quick or not (folder / "run.json").exists():
        return None
    try:
        return reopened(run_folder.read_run(folder).get("source") or {}, run_folder.read_split(folder))
    except (AllMLPError, KeyError):
        return None
