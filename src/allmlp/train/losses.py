"""Losses on soft targets: mixing images mixes their targets, so targets are always `(B, K)` floats."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from allmlp.data.dataset import several
from allmlp.errors import BadSetting
from allmlp.recipe import Loss

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def to_targets(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Class numbers `(B,)`, several labels `(B, K)` or soft ones `(B, K)` as float32 `(B, K)`; label maps
    `(B, H, W)` as they are."""
    if labels.ndim == 3:
        return labels
    if labels.ndim == 2:
        return labels.float()
    return F.one_hot(labels.long(), num_classes).float()


def build_loss(settings: Loss, labels: np.ndarray, num_classes: int, device: torch.device) -> LossFunction:
    """The loss `(logits (B, K), targets (B, K)) -> scalar`, mean over the batch.

    softmax: cross entropy; smoothing s moves s of each target's mass to the uniform distribution.
    sigmoid: binary cross entropy summed over classes (big_vision, BiT); smoothing moves targets by s towards 1/2.
    `labels` are the training labels, for balanced class weights: softmax weighs class k by N / (K·N_k), sigmoid
    weighs the positives of class k by (N - N_k) / N_k.
    """
    smoothing = settings.label_smoothing
    if several(labels) and settings.kind == "softmax":
        raise BadSetting("these images have several labels each, which softmax cannot learn; set loss.kind=sigmoid")
    weights = None
    if settings.class_weights == "balanced":
        counts = (labels.sum(0) if labels.ndim == 2 else np.bincount(labels, minlength=num_classes)).clip(min=1)
        balanced = len(labels) / (num_classes * counts) if settings.kind == "softmax" else len(labels) / counts - 1
        weights = torch.as_tensor(balanced, dtype=torch.float32, device=device)

    def softmax(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits.float(), targets, weight=weights, label_smoothing=smoothing)

    def sigmoid(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        smooth = targets * (1 - smoothing) + smoothing / 2
        each = F.binary_cross_entropy_with_logits(logits.float(), smooth, pos_weight=weights, reduction="none")
        return each.sum(1).mean()

    return softmax if settings.kind == "softmax" else sigmoid
