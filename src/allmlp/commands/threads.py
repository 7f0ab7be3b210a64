"""How many CPU threads training uses."""

import torch

from allmlp.inspection.flops import count_macs
from allmlp.models.variants import VARIANTS

SMALL_MACS = 50_000_000  # for one image; below this a second thread costs more in waiting than it saves in work


def set_threads(asked: int | None, model: str) -> int:
    """Set torch's threads to what was asked for, else to 1 for a small network, else leave torch's choice.

    Returns their number.
    """
    if asked:
        torch.set_num_threads(asked)
    elif model in VARIANTS and count_macs(VARIANTS[model]) < SMALL_MACS:
        torch.set_num_threads(1)
    return torch.get_num_threads()
