"""A linear probe: logistic regression on the frozen features of the training images.

scikit-learn's, with L-BFGS, on features of mean 0 and deviation 1, to convergence: the same answer each time, with one
number to choose, C (the smaller, the more the weights are held back: it minimises C times the sum of losses plus half
their squared length). DINO's own probe (eval_linear.py) is SGD with momentum 0.9, rate 0.001·batch/256, 100 epochs, on
randomly cropped and flipped images: ours sees each training image once, in evaluation geometry, and so is a little
stricter; the figures are not to be compared with the paper's to a tenth of a point.
"""

import warnings

import numpy as np

from allmlp.backends import Predictor
from allmlp.data.dataset import ImageDataset
from allmlp.errors import BadData, BadSetting
from allmlp.evaluate.frozen import Classify, OnFeatures, training_features

MAX_ITERATIONS = 2_000


def linear_probe(features: Predictor, train: ImageDataset, c: float = 1.0, workers: int = 0) -> OnFeatures:
    """A predictor: a linear layer fitted on the features of `train`, its logits for all classes of the data.

    A class without training images is never predicted. Raises `BadSetting` for C, `BadData` for fewer than two classes
    with images, and what `training_features` does; warns where the optimisation does not end.
    """
    if not c > 0:
        raise BadSetting(f"C {c}: expected a positive number")
    x, labels = training_features(features, train, workers)
    return OnFeatures(features, fit_linear(x, labels, len(train.classes), c), tuple(train.classes))


def fit_linear(x: np.ndarray, labels: np.ndarray, num_classes: int, c: float = 1.0) -> Classify:
    """The linear layer fitted on features `(N, C)` with class numbers `(N,)`; raises and warns like `linear_probe`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if len(present := np.unique(labels)) < 2:
        raise BadData(f"training images of {len(present)} class: a linear probe tells at least two apart")
    scaler = StandardScaler().fit(x)
    fitted = LogisticRegression(C=c, max_iter=MAX_ITERATIONS).fit(scaler.transform(x), labels)
    if fitted.n_iter_.max() >= MAX_ITERATIONS:
        warnings.warn(f"the linear probe did not end in {MAX_ITERATIONS} iterations; give a smaller C", stacklevel=2)
    weight, bias = _all_classes(fitted.coef_, fitted.intercept_)

    def classify(x: np.ndarray) -> np.ndarray:
        found = scaler.transform(x) @ weight.T + bias
        logits = np.full((len(x), num_classes), found.min(initial=0) - 100.0)  # e^-100: never, and yet finite
        logits[:, fitted.classes_] = found
        return logits

    return classify


def _all_classes(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One row a class: of two classes scikit-learn gives the second's log odds only."""
    if len(weight) > 1:
        return weight, bias
    return np.concatenate([np.zeros_like(weight), weight]), np.concatenate([np.zeros_like(bias), bias])
