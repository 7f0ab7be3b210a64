"""Memory that a training step frees, kept for the next one instead of given back to the system.

glibc gets every large tensor from the system and returns it when it is freed, so each of them is a new mapping whose
pages the system clears one after the other: for the 51 MB of a hidden layer of Mixer-S/16 that takes longer than
computing its GELU. A step needs what the last one needed, so what was freed stays with the process.
"""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # glibc's malloc.h: M_TRIM_THRESHOLD and so on
AT_ONCE = 64 << 20  # bytes by which the heap grows


def keep_freed_memory() -> bool:
    """From now on, this process keeps the memory it frees, for itself; returns whether it can (with glibc, on Linux).

    It holds its peak until it ends, or until `malloc_trim` is called.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return all(mallopt(what, value) == 1
               for what, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1), (TOP_PAD, AT_ONCE)))
