from pathlib import Path

import numpy as np
import pytest

from allmlp.data.digits import ArrayImages
from allmlp.errors import BadData
from allmlp.evaluate.among import Among
from allmlp.evaluate.corruption import ALEXNET_PERCENT, corruption_table, lines, measure_corruptions
from allmlp.preprocess import Preprocess

SAME = 1e-9
CLASSES = ("a", "b", "c", "d")


class FirstPixels:
    """Logits without a network: the first four bytes of an image."""

    preprocess, classes, output = Preprocess(image_size=(2, 3)), CLASSES, "softmax"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), 18)[:, :4].astype(np.float32)


def test_the_mean_corruption_error_is_that_of_the_papers_equation():
    draws = np.random.default_rng(0)
    errors = {name: {str(s): float(draws.uniform(0, 100)) for s in range(1, 6)} for name in ALEXNET_PERCENT}
    found = corruption_table({**errors, "speckle_noise": {str(s): 50.0 for s in range(1, 6)}})
    relative = [100 * sum(own.values()) / (5 * ALEXNET_PERCENT[name]) for name, own in errors.items()]
    assert found.mean_percent == pytest.approx(sum(relative) / 15, abs=SAME)
    assert found.corruptions[-1].error_percent is None
    assert lines(found)[-1] == f"mean corruption error (mCE) {found.mean_percent:.2f} % of AlexNet's"


def test_alexnet_itself_has_a_hundred():
    found = corruption_table({name: {str(s): error for s in range(1, 6)} for name, error in ALEXNET_PERCENT.items()})
    assert found.mean_percent == pytest.approx(100, abs=SAME)


def test_without_all_severities_of_all_corruptions_it_is_no_mce():
    found = corruption_table({"fog": {"1": 10.0, "3": 20.0}, "snow": {str(s): 40.0 for s in range(1, 6)}})
    assert found.mean_percent is None
    assert found.present_percent == pytest.approx(100 * 40 / ALEXNET_PERCENT["snow"], abs=SAME)
    assert lines(found)[-1].startswith("mean of the 1 of 15 corruptions with all severities: ")
    assert lines(corruption_table({"fog": {"1": 10.0}}))[-1].endswith("with all severities")


def test_each_severity_is_measured_on_its_own_images():
    draws = np.random.default_rng(1)
    images = {severity: draws.integers(0, 256, (20, 2, 3, 3), dtype=np.uint8) for severity in "13"}
    labels = np.arange(20) % 4
    found = measure_corruptions(FirstPixels(), {"fog": {severity: Path(severity) for severity in "13"}},
                                lambda path: ArrayImages(images[path.name], labels, CLASSES, [str(i) for i in labels]))
    for severity in "13":
        wrong = [int(pixels.reshape(-1)[:4].astype(int).argmax()) != label
                 for pixels, label in zip(images[severity], labels, strict=True)]
        assert found.corruptions[0].severities[severity] == pytest.approx(100 * np.mean(wrong), abs=SAME)


def test_a_network_among_some_of_its_classes_has_their_outputs_by_name():
    pixels = np.random.default_rng(2).integers(0, 256, (5, 2, 3, 3), dtype=np.uint8)
    few = Among(FirstPixels(), ("c", "a"))
    assert few.classes == ("c", "a")
    assert np.array_equal(few(pixels), pixels.reshape(5, 18)[:, [2, 0]])
    with pytest.raises(BadData, match="classes that the model does not know: 'x'"):
        Among(FirstPixels(), ("a", "x"))

    class Nameless(FirstPixels):
        classes = None

    with pytest.raises(BadData, match="the network has no class names"):
        Among(Nameless(), ("a",))
