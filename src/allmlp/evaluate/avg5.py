"""Avg-5, the mean top-1 accuracy of five data sets, each measured with a network that was fine-tuned on it.

Source: MLP-Mixer, Table 3: ImageNet, CIFAR-10, CIFAR-100, Oxford Pets (37 classes; the paper writes 36), Flowers-102.
"""

from collections.abc import Mapping

from allmlp.data import kind_of
from allmlp.evaluate.scores import mean

AVG5 = ("imagenet", "cifar10", "cifar100", "pets", "flowers102")


def name_in_avg5(data: str) -> str | None:
    """Which of the five `data` (as on the command line) is. None: none that can be told by its name, as a folder."""
    kind, where = kind_of(data)
    name = where if kind == "name" else kind
    return name if name in AVG5 else None


def avg5_percent(top1_percent: Mapping[str, float]) -> float | None:
    """The mean over the five, by the names in `AVG5`; None where one is missing: the mean of others is no Avg-5."""
    return mean(top1_percent[name] for name in AVG5) if set(AVG5) <= set(top1_percent) else None
