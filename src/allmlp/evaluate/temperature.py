"""Temperature scaling: all logits divided by one number T, chosen so that probabilities mean what they say.

Source: Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599), section 4.2. T > 0 is the one of
least negative log-likelihood on held-out images. No prediction changes, so neither does the accuracy.
"""

import math

import numpy as np

from allmlp.data.dataset import Data, ImageDataset
from allmlp.data.split import draw_validation
from allmlp.errors import BadData, BadSetting
from allmlp.evaluate.calibration import calibration_error_percent, reliability_table
from allmlp.evaluate.probabilities import BLOCK, LossKind, negative_log_likelihood, top_probability
from allmlp.values import Value

LEAST, MOST = 0.01, 100.0


class Temperature(Value):
    """T, and the images it was not fitted on before and after the division by it."""

    temperature: float
    fitted_on: str  # in words
    fitted_images: int
    measured_images: int
    negative_log_likelihood: tuple[float, float]  # before and after, nats per image
    calibration_error_percent: tuple[float, float]


def fit_temperature(logits: np.ndarray, labels: np.ndarray, loss: LossKind = "softmax") -> float:
    """The T in [0.01, 100] of least negative log-likelihood of `logits` `(N, K)` with classes `(N,)`.

    Near the lower end where all images are right, as surer is then always better. Raises `BadData` without images.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        raise BadData("no images to fit a temperature on")

    def nats(log_temperature: float) -> float:
        return _likelihood(logits, labels, math.exp(log_temperature), loss)

    # Convex in 1/T, so it has one valley in log T too.
    found = minimize_scalar(nats, bounds=(math.log(LEAST), math.log(MOST)), method="bounded", options={"xatol": 1e-9})
    return math.exp(found.x)


def temperature_of(fitted_on: str, held_out: tuple[np.ndarray, np.ndarray], measured: tuple[np.ndarray, np.ndarray],
                   loss: LossKind = "softmax") -> Temperature:
    """Fitted on the logits and classes `held_out`, applied to those of other images, `measured`.

    Raises `BadData` where either has no images.
    """
    logits, labels = measured
    if not len(labels):
        raise BadData("no images to measure a temperature on")
    t = fit_temperature(*held_out, loss)

    def error(by: float) -> float:
        table = reliability_table(top_probability(logits / by, loss), logits.argmax(1) == labels)
        return calibration_error_percent(table) or 0.0

    return Temperature(
        temperature=t, fitted_on=fitted_on, fitted_images=len(held_out[1]), measured_images=len(labels),
        negative_log_likelihood=(_likelihood(logits, labels, 1.0, loss), _likelihood(logits, labels, t, loss)),
        calibration_error_percent=(error(1.0), error(t)),
    )


def images_to_fit(data: Data, split: str) -> ImageDataset | np.ndarray:
    """What a temperature for `split` is fitted on, never test images nor those that it is measured on.

    The val split, or where that is measured, its half bool `(N,)`, drawn by the images' names (Guo et al. halve
    ImageNet's). Raises `BadSetting` where nothing is held out, as of its training images a network is surer than of
    others, and `BadData` for several labels per image.
    """
    if data.multi_label:
        raise BadData(f"--temperature is for one class per image; {data.name} has several labels per image")
    if split == "val":
        images = data.splits["val"]
        labels = images.labels if images.labels.ndim == 1 else images.labels.argmax(1)
        return draw_validation([images.name(i) for i in range(len(images))], labels, 0.5, seed=0)
    if split == "test" and "val" in data.splits:
        return data.splits["val"]
    raise BadSetting(f"--temperature is fitted on validation images, and beside {split} {data.name} has none; hold "
                     "some out as val/, which training then must not have seen")


def _likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float, loss: LossKind) -> float:
    total = sum(float(negative_log_likelihood(logits[i : i + BLOCK] / temperature, labels[i : i + BLOCK], loss).sum())
                for i in range(0, len(labels), BLOCK))
    return total / len(labels)
