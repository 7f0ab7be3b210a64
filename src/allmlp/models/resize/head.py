"""The head for other classes: rows of classes that keep their name are copied, all others start afresh."""

from collections.abc import Sequence

import torch
from torch import nn

from allmlp.models.model import Model


@torch.no_grad()
def change_classes(
    model: Model, num_classes: int, classes: Sequence[str] | None, generator: torch.Generator | None
) -> None:
    """Give `model`, in place, a head for `num_classes`, by name where both sides have names."""
    old_head, old_classes = model.head, model.classes
    model.reset_classifier(num_classes, classes=classes, generator=generator)
    if isinstance(old_head, nn.Linear) and isinstance(model.head, nn.Linear) and old_classes and classes:
        common = sorted(set(old_classes) & set(classes))
        to = [list(classes).index(name) for name in common]
        source = [old_classes.index(name) for name in common]
        model.head.weight[to] = old_head.weight[source]
        model.head.bias[to] = old_head.bias[source]
