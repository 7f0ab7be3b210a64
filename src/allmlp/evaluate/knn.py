"""k nearest neighbours among the features of the training images: no weights are learnt, nothing is tuned.

Source: eval_knn.py of DINO (arXiv 2104.14294; after Wu et al., arXiv 1805.01978): features of length 1, the k training
images of highest cosine similarity s, each voting for its class with weight exp(s / T); k = 20, T = 0.07. Neighbours
and votes are scikit-learn's.
"""

import functools
from typing import Any

import numpy as np

from allmlp.backends import Predictor
from allmlp.data.dataset import ImageDataset
from allmlp.errors import BadSetting
from allmlp.evaluate.frozen import Classify, OnFeatures, training_features

NEIGHBOURS = 20
TEMPERATURE = 0.07
NO_VOTE = 1e-12  # the share of a class that nobody votes for, as a logit must be finite


def knn_predictor(features: Predictor, train: ImageDataset, neighbours: int = NEIGHBOURS,
                  temperature: float = TEMPERATURE, workers: int = 0) -> OnFeatures:
    """A predictor whose logits are the logarithms of the classes' shares of the votes.

    `features` as from `backends.load_features`. Raises `BadSetting` for more neighbours than training images, and what
    `training_features` does.
    """
    if not 1 <= neighbours <= len(train):
        raise BadSetting(f"{neighbours} neighbours: there are {len(train)} training images; give 1 to that many")
    bank, labels = training_features(features, train, workers)
    classify = knn_classifier(bank, labels, len(train.classes), neighbours, temperature)
    return OnFeatures(features, classify, tuple(train.classes))


def knn_classifier(bank: np.ndarray, labels: np.ndarray, num_classes: int, neighbours: int = NEIGHBOURS,
                   temperature: float = TEMPERATURE) -> Classify:
    """The same from features that are there: of training images, `(N, C)`, N at least `neighbours`, and their classes
    `(N,)`."""
    from sklearn.neighbors import KNeighborsClassifier

    weigh: Any = functools.partial(_weights, temperature=temperature)  # scikit-learn's stubs know only names
    votes = KNeighborsClassifier(neighbours, algorithm="brute", metric="cosine", weights=weigh).fit(bank, labels)

    def classify(x: np.ndarray) -> np.ndarray:
        shares = np.full((len(x), num_classes), NO_VOTE)
        shares[:, votes.classes_] += votes.predict_proba(x)
        return np.log(shares)

    return classify


def _weights(distances: np.ndarray, temperature: float) -> np.ndarray:
    """scikit-learn's cosine distance is 1 - s; a factor that all share does not change the vote."""
    return np.exp(-distances / temperature)
