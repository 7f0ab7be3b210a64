"""ImageNet-C: the mean corruption error (mCE), in percent of AlexNet's.

    CE_c = (sum over the severities s of E_s,c) / (sum over s of AlexNet's E_s,c),   mCE = the mean of 15 CE_c

with top-1 errors E (arXiv 1903.12261, equation 1). AlexNet's errors, means over the five severities, are those that
the authors publish with the data. Four further corruptions of the published set are measured and not part of the mean.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from allmlp.backends import Predictor
from allmlp.data.dataset import ImageDataset
from allmlp.evaluate.dataset import evaluate_dataset
from allmlp.evaluate.scores import mean
from allmlp.values import Value

ALEXNET_PERCENT = {
    "gaussian_noise": 88.6428, "shot_noise": 89.4468, "impulse_noise": 92.2640, "defocus_blur": 81.9880,
    "glass_blur": 82.6268, "motion_blur": 78.5948, "zoom_blur": 79.8360, "snow": 86.6816, "frost": 82.6572,
    "fog": 81.9324, "brightness": 56.4592, "contrast": 85.3204, "elastic_transform": 64.6056, "pixelate": 71.7840,
    "jpeg_compression": 60.6500,
}  # fmt: skip
NUM_SEVERITIES = 5


class Corruption(Value):
    """Top-1 errors by severity, "1" to "5"; `error_percent` is of AlexNet's, None for a further corruption or where a
    severity is missing."""

    name: str
    severities: dict[str, float]
    error_percent: float | None


class CorruptionTable(Value):
    """`mean_percent` is mCE, None unless all 15 are there with all severities; `present_percent` the mean of those."""

    corruptions: tuple[Corruption, ...]
    mean_percent: float | None
    present_percent: float | None


def corruption_table(errors: Mapping[str, Mapping[str, float]]) -> CorruptionTable:
    """From top-1 errors in percent, of each corruption by severity."""
    found = []
    for name, severities in errors.items():
        complete = name in ALEXNET_PERCENT and len(severities) == NUM_SEVERITIES
        relative = 100 * sum(severities.values()) / (NUM_SEVERITIES * ALEXNET_PERCENT[name]) if complete else None
        found.append(Corruption(name=name, severities=dict(severities), error_percent=relative))
    present = [one.error_percent for one in found if one.error_percent is not None]
    return CorruptionTable(corruptions=tuple(found), present_percent=mean(present),
                           mean_percent=mean(present) if len(present) == len(ALEXNET_PERCENT) else None)


def measure_corruptions(
    predictor: Predictor, folders: Mapping[str, Mapping[str, Path]], open_part: Callable[[Path], ImageDataset],
    workers: int = 0, progress: Callable[[str], None] | None = None,
) -> CorruptionTable:
    """Each severity of each corruption, one after the other: all logits together would be 15 GB."""
    errors: dict[str, dict[str, float]] = {}
    for name, severities in folders.items():
        for severity, folder in severities.items():
            if progress is not None:
                progress(f"{name} {severity}")
            score = evaluate_dataset(predictor, open_part(folder), workers).score_percent
            errors.setdefault(name, {})[severity] = 100 - (score or 0.0)
    return corruption_table(errors)


def lines(found: CorruptionTable) -> list[str]:
    """For a terminal."""
    text = [f"{'corruption':18}  top-1 error by severity, %             of AlexNet's, %"]
    for one in found.corruptions:
        errors = " ".join(f"{one.severities[name]:7.2f}" if name in one.severities else "      –"
                          for name in map(str, range(1, NUM_SEVERITIES + 1)))
        text.append(f"{one.name:18}  {errors}{'–' if one.error_percent is None else f'{one.error_percent:.2f}':>16}")
    if found.mean_percent is not None:
        return [*text, f"mean corruption error (mCE) {found.mean_percent:.2f} % of AlexNet's"]
    count = sum(one.error_percent is not None for one in found.corruptions)
    said = "" if found.present_percent is None else f": {found.present_percent:.2f} % of AlexNet's (not mCE)"
    return [*text, f"mean of the {count} of {len(ALEXNET_PERCENT)} corruptions with all severities{said}"]
