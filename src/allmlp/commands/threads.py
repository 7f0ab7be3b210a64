"""How many CPU threads a command uses."""

from collections.abc import Callable

import torch

SMALL_MACS = 50_000_000  # for one image; below this a second thread costs more in waiting than it saves in work


def set_threads(asked: int | None, macs_per_image: Callable[[], int]) -> int:
    """Set torch's threads to what was asked for, else to 1 for a small network, else leave torch's choice.

    Returns their number.
    """
    if asked:
        torch.set_num_threads(asked)
    elif macs_per_image() < SMALL_MACS:
        torch.set_num_threads(1)
    return torch.get_num_threads()
