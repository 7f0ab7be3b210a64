"""How many CPU threads training uses."""

import torch

from allmlp.inspection.flops import count_macs
from allmlp.models.config import ModelConfig

SMALL_MACS = 50_000_000  # for one image; below this a second thread costs more in waiting than it saves in work


def set_threads(asked: int | None, config: ModelConfig | None) -> int:
    """Set torch's threads to what was asked for, else to 1 for a network known to be small, else leave torch's choice.

    Returns their number.
    """
    if asked:
        torch.set_num_threads(asked)
    elif config is not None and count_macs(config) < SMALL_MACS:
        torch.set_num_threads(1)
    return torch.get_num_threads()
