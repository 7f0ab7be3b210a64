"""Randomness without state: every draw follows from a key of plain numbers and words.

The order of an epoch is drawn from (seed, "order", epoch), the augmentation of an image from (seed, "image", epoch,
index), that of a batch from (seed, "batch", step). Nothing remembers how often it was asked, so results are the same
for any number of workers, and a run resumed at any step goes on exactly, with no generator to store.
"""

import hashlib

import numpy as np


def derived_seed(*key: int | str) -> int:
    """A number in [0, 2^63) that follows from `key`; keys that differ at all give unrelated numbers.

    torch's generator on the CPU uses the lower 32 bits only: two of some 10^5 images may share their draw, harmlessly.
    """
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*key: int | str) -> np.random.Generator:
    """A numpy generator at the beginning of the stream that belongs to `key`."""
    return np.random.default_rng(derived_seed(*key))
