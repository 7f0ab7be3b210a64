"""Linear few-shot accuracy: least squares in closed form on the frozen features of a few images of each class.

Source: big_vision's `evaluators/fewshot_lsr.py` and `configs/common_fewshot.py`, which follow Google's networks.
Features are brought to mean 0 and deviation 1 of the support images (the deviation + 1e-5), and get a constant, 100, so
that the bias is hardly held back. Targets Y are +1 for the class and -1 for the others. With λ = 2^10, whatever the
number N of support images, the weights of the D features are

    W = (XᵀX + λ)⁻¹ XᵀY = Xᵀ (XXᵀ + λ)⁻¹ Y

of which the side with the smaller matrix is taken, through its eigenvectors: so all λ cost little more than one.
The images are the first N of each class in an order drawn from a seed, three of them; shots are 1, 5, 10 and 25.

The code of 2021 (scenic, vmoe, uncertainty-baselines) tries λ = 2^-10 … 2^19 and takes the one of best mean rank over
its data sets, by their *test* images. Which of the two the MLP-Mixer paper used is not published; by its date, the
older. `choose_l2` looks at further training images instead; `best_by_rank` is the older rule, of any accuracies.

We differ in the draw (`seeds.py` in place of numpy's generator of a seed), in float64 for float32, and in the images'
preprocessing, which is the network's own (theirs: squashed to 256 pixels, the central 224).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from allmlp.backends import Predictor
from allmlp.data.dataset import ImageDataset
from allmlp.data.seeds import generator
from allmlp.errors import BadData, BadSetting
from allmlp.evaluate.frozen import training_features
from allmlp.evaluate.predict import predict_dataset
from allmlp.evaluate.probabilities import check_class_numbers
from allmlp.evaluate.scores import mean
from allmlp.values import Value

BIAS = 100.0
L2 = 2.0**10
GRID = tuple(2.0**exponent for exponent in range(-10, 20))
SHOTS = (1, 5, 10, 25)
SEEDS = 3
LEAST_DEVIATION = 1e-5
HELD_OUT = 20  # images of each class, after those of the support, that a λ is chosen on


class FewShot(Value):
    """Accuracies with `shots` images of each class, one per seed (0, 1, …); the deviation is None for one seed."""

    shots: int
    l2: float
    accuracies_percent: tuple[float, ...]
    mean_percent: float
    deviation_percent: float | None


@dataclass(frozen=True, eq=False)
class Solved:
    """The least squares of one support set, for any λ: W = left · diag(1 / (eigenvalues + λ)) · right."""

    mean: np.ndarray  # (D,)
    deviation: np.ndarray  # (D,)
    bias: float
    eigenvalues: np.ndarray  # (R,)
    left: np.ndarray  # (D + 1, R)
    right: np.ndarray  # (R, K)

    def logits(self, features: np.ndarray, l2: float) -> np.ndarray:
        """Features `(M, D)` to float64 `(M, K)`, about +1 for the class and -1 for the others."""
        weight = (self.left / (self.eigenvalues + l2)) @ self.right
        return self.standard(features) @ weight

    def standard(self, features: np.ndarray) -> np.ndarray:
        """float64 `(M, D + 1)`: standardised, with the constant at the end."""
        x = (features.astype(np.float64) - self.mean) / self.deviation
        return np.pad(x, ((0, 0), (0, 1)), constant_values=self.bias)


def solve(features: np.ndarray, labels: np.ndarray, num_classes: int, bias: float = BIAS) -> Solved:
    """The least squares of `features` `(N, D)` to the classes `labels` `(N,)`; classes without images are all -1.

    Raises `BadData` for no images, for shapes that do not fit, and for features that are not finite.
    """
    check_class_numbers(labels, num_classes)
    if features.ndim != 2 or len(features) != len(labels) or not len(labels):
        raise BadData(f"features {features.shape} with {len(labels)} labels: expected (N, D) with N labels, N at least "
                      "1")
    if bad := int((~np.isfinite(features).all(axis=1)).sum()):
        raise BadData(f"the features of {bad} of {len(features)} images are not finite (NaN or infinite): the weights "
                      "are damaged or training diverged; take an earlier checkpoint")
    wide = features.astype(np.float64)
    frame = Solved(wide.mean(0), wide.std(0) + LEAST_DEVIATION, bias, np.empty(0), np.empty(0), np.empty(0))
    x, y = frame.standard(features), 2.0 * np.eye(num_classes)[labels] - 1
    if len(x) >= x.shape[1]:
        values, vectors = np.linalg.eigh(x.T @ x)
        left, right = vectors, vectors.T @ (x.T @ y)
    else:
        values, vectors = np.linalg.eigh(x @ x.T)
        left, right = x.T @ vectors, vectors.T @ y
    # Rounding makes the zeros among the eigenvalues a little negative, which a small λ would not outweigh.
    return Solved(frame.mean, frame.deviation, bias, values.clip(0), left, right)


def few_shot(features_support: np.ndarray, labels: np.ndarray, features_test: np.ndarray, num_classes: int, *,
             l2: float = L2, bias: float = BIAS) -> np.ndarray:
    """Logits float64 `(M, K)` of `features_test` `(M, D)`, from support images' features `(N, D)` and classes `(N,)`.

    Raises `BadSetting` for an `l2` that is not positive, and what `solve` does.
    """
    check_l2(l2)
    return solve(features_support, labels, num_classes, bias).logits(features_test, l2)


def draw_shots(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Which images are the support: int64 indices, `shots` of each class (all of a class that has fewer), class by
    class. More shots of one seed are the same images and further ones."""
    return np.concatenate([np.empty(0, np.int64), *(order[:shots] for order in _orders(labels, seed))])


def few_shot_accuracies(features: np.ndarray, labels: np.ndarray, features_test: np.ndarray, labels_test: np.ndarray,
                        num_classes: int, *, shots: int, seeds: int = SEEDS, l2: float = L2) -> FewShot:
    """The accuracy on the test images for each seed from 0 to `seeds` - 1, each with its own draw of `shots` images of
    each class from the training images. Features `(N, D)` and `(M, D)`, classes `(N,)` and `(M,)`."""
    check_l2(l2)
    if shots < 1 or seeds < 1:
        raise BadSetting(f"{shots} shots with {seeds} seeds: expected at least 1 of each")
    check_class_numbers(labels_test, num_classes)
    if not len(labels_test):
        raise BadData("no test images to measure few-shot accuracy on")
    found = []
    for seed in range(seeds):
        chosen = draw_shots(labels, shots, seed)
        logits = few_shot(features[chosen], labels[chosen], features_test, num_classes, l2=l2)
        found.append(100 * float((logits.argmax(1) == labels_test).mean()))
    deviation = float(np.std(found, ddof=1)) if seeds > 1 else None
    return FewShot(shots=shots, l2=l2, accuracies_percent=tuple(found), mean_percent=mean(found) or 0.0,
                   deviation_percent=deviation)


def evaluate_few_shot(features: Predictor, train: ImageDataset, test: ImageDataset, shots: Sequence[int], *,
                      seeds: int = SEEDS, l2: float | None = L2, workers: int = 0) -> list[FewShot]:
    """One result for each of `shots`, with λ = `l2` or, for None, one that `choose_l2` takes for it.

    `features` as from `backends.load_features`. Raises what `training_features` and the functions here do.
    """
    num_classes = len(train.classes)
    found_train, labels = training_features(features, train, workers)
    if test.labels.ndim != 1:
        raise BadData("few-shot accuracy is for one class per image; the test images have several labels each, or soft "
                      "ones")
    found_test = predict_dataset(features, test, workers=workers)
    return [few_shot_accuracies(
        found_train, labels, found_test, test.labels, num_classes, shots=each, seeds=seeds,
        l2=choose_l2(found_train, labels, num_classes, shots=each, seeds=seeds) if l2 is None else l2,
    ) for each in shots]


def choose_l2(features: np.ndarray, labels: np.ndarray, num_classes: int, *, shots: int, seeds: int = SEEDS,
              grid: Sequence[float] = GRID) -> float:
    """The λ of `grid` with the best accuracy on training images that are not in the support: of each class, the
    `HELD_OUT` that come next in the draw, over all seeds; of equal ones the smallest. No test image is looked at.

    Raises `BadData` where no class has more than `shots` images.
    """
    hits = np.zeros(len(grid))
    for seed in range(seeds):
        orders = _orders(labels, seed)
        support = draw_shots(labels, shots, seed)
        held_out = np.concatenate([np.empty(0, np.int64), *(order[shots : shots + HELD_OUT] for order in orders)])
        if not len(held_out):
            raise BadData(f"no class has more than {shots} training images, and none are left to choose L2 on; give "
                          f"fewer shots, or a number: {L2:g} is the published evaluator's")
        solved = solve(features[support], labels[support], num_classes)
        for number, l2 in enumerate(grid):
            hits[number] += (solved.logits(features[held_out], l2).argmax(1) == labels[held_out]).sum()
    return float(grid[int(hits.argmax())])


def best_by_rank(accuracies: Mapping[str, Sequence[float]], grid: Sequence[float] = GRID) -> float:
    """The λ of best mean rank over data sets, given each one's accuracy for every λ of `grid`: one number for all sets.

    Equal accuracies share their rank; the code of 2021 ranks them as its sort happens to leave them. Of equal mean
    ranks the smallest λ. Raises `BadSetting` for no data set, and for one without an accuracy for each λ.
    """
    from scipy.stats import rankdata

    for name, row in accuracies.items():
        if len(row) != len(grid):
            raise BadSetting(f"{name}: {len(row)} accuracies for the {len(grid)} values of L2")
    if not accuracies:
        raise BadSetting("no data set to rank L2 on")
    return float(grid[int(np.mean([rankdata(row) for row in accuracies.values()], axis=0).argmax())])


def check_l2(l2: float) -> None:
    if not 0 < l2 < np.inf:
        raise BadSetting(f"L2 {l2:g}: expected a positive number; {L2:g} is the published evaluator's")


def _orders(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """The images of each class that has some, in the order they are drawn in; no class changes another's."""
    return [generator(seed, "shots", int(k)).permutation(np.flatnonzero(labels == k)) for k in np.unique(labels)]
