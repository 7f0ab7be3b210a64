"""Images whose pixels are shuffled by one fixed permutation, as in MLP-Mixer's section 3.4.

    patches           the patches change places; inside each the pixels stay
    pixels            the pixels inside every patch change places, in all patches alike; the patches stay
    patches+pixels    both (the paper's "patch + pixel shuffling")
    global            all pixels of the image change places

A permutation says for each pixel of the result where in the image it comes from; its colours stay together.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from allmlp.data.dataset import ImageDataset
from allmlp.data.seeds import generator
from allmlp.errors import BadSetting, unknown_name
from allmlp.preprocess import Preprocess, fit

Shuffle = Literal["patches", "pixels", "patches+pixels", "global"]


def draw_permutation(kind: str, image_size: tuple[int, int], patch_size: tuple[int, int], seed: int) -> np.ndarray:
    """The permutation of a seed, int64 `(H·W,)`, in raster order: pixel i of the result is pixel `[i]` of the image.

    The order of the patches, and that inside them, are the same in every kind that shuffles them. Raises `UnknownName`
    for a kind that is none of `Shuffle`, `BadSetting` for patches that do not divide the image.
    """
    if kind not in get_args(Shuffle):
        raise unknown_name("shuffling", kind, get_args(Shuffle))
    height, width = image_size
    if kind == "global":
        return generator(seed, "shuffle", "global").permutation(height * width)
    patches, pixels = draw_orders(image_size, patch_size, seed)
    return in_patches(patches if "patches" in kind else None, pixels if "pixels" in kind else None, image_size,
                      patch_size)


def draw_orders(image_size: tuple[int, int], patch_size: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of the S patches, int64 `(S,)`, and that of the P pixels in each, int64 `(P,)`."""
    if image_size[0] % patch_size[0] or image_size[1] % patch_size[1]:
        raise BadSetting(f"images of {image_size[0]} x {image_size[1]} pixels do not divide into patches of "
                         f"{patch_size[0]} x {patch_size[1]}")
    in_patch = patch_size[0] * patch_size[1]
    tokens = image_size[0] * image_size[1] // in_patch
    return (generator(seed, "shuffle", "patches").permutation(tokens),
            generator(seed, "shuffle", "pixels").permutation(in_patch))


def in_patches(patches: np.ndarray | None, pixels: np.ndarray | None, image_size: tuple[int, int],
               patch_size: tuple[int, int]) -> np.ndarray:
    """Orders of the patches and of the pixels in each (None: as they are) as a permutation of the image's pixels."""
    (height, width), (patch_height, patch_width) = image_size, patch_size
    grid = (height // patch_height, width // patch_width)
    numbers = np.arange(height * width).reshape(grid[0], patch_height, grid[1], patch_width)
    by_patch = numbers.transpose(0, 2, 1, 3).reshape(grid[0] * grid[1], patch_height * patch_width)
    by_patch = by_patch if patches is None else by_patch[patches]
    by_patch = by_patch if pixels is None else by_patch[:, pixels]
    return by_patch.reshape(*grid, patch_height, patch_width).transpose(0, 2, 1, 3).reshape(-1)


class Permuted:
    """A data set whose images are brought to a network's size and then shuffled by `permutation`."""

    def __init__(self, dataset: ImageDataset, permutation: np.ndarray, preprocess: Preprocess):
        self.dataset, self.permutation, self.preprocess = dataset, permutation, preprocess

    @property
    def classes(self) -> Sequence[str]:
        return self.dataset.classes

    @property
    def labels(self) -> np.ndarray:
        return self.dataset.labels

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> np.ndarray:
        image = fit(self.dataset.image(index), self.preprocess)
        return image.reshape(-1, 3)[self.permutation].reshape(image.shape)

    def name(self, index: int) -> str:
        return self.dataset.name(index)
