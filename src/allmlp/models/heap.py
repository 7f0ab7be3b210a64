"""Memory for activations that stays with the process between calls.

glibc gives a freed block back to the system if it is larger than all that were freed before, 128 KB at first: of a
network that is only called, every activation (600 KB in Mixer-S/16) may be a new mapping, whose pages the system clears
one by one. gMLP-S on one image took 20,000 page faults so, and half as long again (docs/log.md). Once a block near the
largest that glibc lets decide has been freed, all smaller ones are kept.
"""

import torch

LARGEST = 31 << 20  # bytes; glibc's DEFAULT_MMAP_THRESHOLD_MAX is 32 MB


def keep_smaller_blocks() -> None:
    """From now on, with glibc, freed blocks below 31 MB stay with the process, 64 MB of them at most; elsewhere nothing
    changes. The block that tells it is never written to: it takes no memory, and microseconds."""
    torch.empty(LARGEST, dtype=torch.uint8, device="cpu")
