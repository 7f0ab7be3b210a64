"""Where in an image the evidence for a class lies: class-activation maps that are exact.

An all-MLP network ends in a norm, the mean over tokens and one linear head. Mean and head commute, so the logit of
class k is, with tokens x_s after the norm, head weights w_k and bias b_k,

    logit_k = b_k + mean over s of (w_k · x_s)

and w_k · x_s at the token's place is the map (CAM, Zhou et al., arXiv 1512.04150): its mean is the logit without the
bias, with nothing approximated. But a token of an all-MLP network has read the whole image, so that the map says where
evidence is kept, not which pixels it came from; `inspection.occlusion` asks the pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from allmlp.errors import BadSetting
from allmlp.models.model import Model
from allmlp.preprocess import to_network_input


def why_not_exact(model: Model) -> str | None:
    """Why a network has no exact class-activation maps; None: it has."""
    if model.config.global_pool != "avg":
        return "its tokens are not averaged before the head"
    if not isinstance(model.head, nn.Linear):
        return "it has no linear head"
    if model.config.in_channels not in (1, 3):
        return f"it takes {model.config.in_channels} channels, which an image file does not have"
    return None


def class_activation_maps(model: Model, image: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The maps of `classes`, float32 `(len(classes), rows, columns)`, and all logits `(K,)`.

    `image`: uint8 `(H, W, 3)` of the network's size. The mean of a map is its logit less the head's bias. Raises
    `BadSetting` for a network without exact maps, `BadData` for another image.
    """
    if reason := why_not_exact(model):
        raise BadSetting(f"no exact class-activation maps: {reason}")
    assert isinstance(model.head, nn.Linear)
    device = str(next(model.parameters()).device)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            tokens_BSC = model.forward_features(to_network_input(image[None], model.preprocess, device))
            logits_BK = model.forward_head(tokens_BSC)
            maps_BSK = tokens_BSC @ model.head.weight[list(classes)].T
            maps_BKrc = model.to_grid(maps_BSK)
    finally:
        model.train(was_training)
    return maps_BKrc[0].float().cpu().numpy(), logits_BK[0].float().cpu().numpy()
