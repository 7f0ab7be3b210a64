"""Any torch network as a predictor: one of ours, or one of timm's to compare with."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from allmlp.models.model import Output
from allmlp.preprocess import OtherSizes, Preprocess, to_network_input

Task = Literal["classification", "segmentation"]

MAX_BATCH = 256  # larger requests are computed in parts, to bound memory

Forward = Callable[[torch.Tensor], torch.Tensor]
"""Normalised images `(B, 3, H, W)` to logits or features `(B, K)`."""


class NetworkPredictor:
    """Runs `network` as it stands, in evaluation mode, on the device where it is.

    `forward`: what is computed in place of its logits, such as `pooled(network)`.
    """

    def __init__(self, network: nn.Module, preprocess: Preprocess, classes: Sequence[str] | None,
                 output: Output = "softmax", forward: Forward | None = None, max_batch: int = MAX_BATCH):
        self.network, self.preprocess = network, preprocess
        self.classes = None if classes is None else tuple(classes)
        self.output: Output = output
        self.forward: Forward = network if forward is None else forward
        self.max_batch = max_batch
        self.task: Task = "classification"
        self.other_sizes: OtherSizes = "windows"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 `(N, H, W, 3)` to float32 `(N, K)`; `(N, K, H, W)` where `task` is "segmentation"."""
        if not len(images):  # which some of timm's networks cannot take
            return self(np.zeros((1, *images.shape[1:]), np.uint8))[:0]
        device = next(self.network.parameters()).device
        in_training = [module for module in self.network.modules() if module.training]
        if in_training:  # asked first: `eval` of a network that is so already takes a tenth of a small network's time
            self.network.eval()
        try:
            with torch.inference_mode():
                parts = [
                    self.forward(to_network_input(images[i : i + self.max_batch], self.preprocess, str(device)))
                    for i in range(0, len(images), self.max_batch)
                ]
                return torch.cat(parts).float().cpu().numpy()
        finally:
            for module in in_training:
                module.training = True


def pooled(network: Any) -> Forward:
    """The features that go into the head, `(B, C)`; of our networks and of timm's, which have the same two methods."""
    def forward(images: torch.Tensor) -> torch.Tensor:
        return network.forward_head(network.forward_features(images), pre_logits=True)

    return forward
