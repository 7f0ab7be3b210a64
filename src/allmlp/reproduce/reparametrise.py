"""The same network for shuffled patches: weights permuted so that it gives on them what it gave on the original.

Of a network without positions (Mixer, ResMLP, gMLP), for images whose pixel i inside every patch comes from `pixels[i]`
and whose patch t comes from `patches[t]`: the stem's kernel takes its pixels in that order; whatever of token mixing
has an axis of tokens takes it in the order of the patches. Norms and channel mixing treat each token alike, and the
mean over tokens knows no order. So training on such shuffled images is training on the original ones, from another draw
of the same random start (MLP-Mixer, section 3.4).
"""

import copy

import numpy as np
import torch

from allmlp.models.model import Model


@torch.no_grad()
def reparametrised(model: Model, patches: np.ndarray, pixels: np.ndarray) -> Model:
    """A copy of `model` whose logits on images permuted by `data.permute.in_patches(patches, pixels, …)` are those of
    `model` on the images themselves, up to rounding. Orders as from `data.permute.draw_orders`."""
    changed = copy.deepcopy(model)
    state = changed.state_dict()
    order = {"tokens in": torch.from_numpy(patches), "tokens out": torch.from_numpy(patches)}
    kernel = state["stem.proj.weight"]
    kernel.copy_(kernel.flatten(2)[:, :, torch.from_numpy(pixels)].view_as(kernel))
    for number, block in enumerate(model.config.layers):
        for name, axes in block.token_axes.items():
            tensor = state[f"blocks.{number}.{name}"]
            for axis, kind in enumerate(axes):
                if kind in order:
                    tensor.copy_(tensor.index_select(axis, order[kind]))
    return changed
