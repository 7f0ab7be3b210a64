"""Any torch network as a predictor."""

import numpy as np
import pytest
from torch import nn

from allmlp.backends.network import NetworkPredictor
from allmlp.preprocess import Preprocess


@pytest.mark.parametrize("trained", [[], [0, 1, 2, 3], [1], [0, 2]])
def test_it_predicts_in_evaluation_mode_and_leaves_every_part_in_its_own(trained: list[int]) -> None:
    """Also where only some parts are in training mode, as in fine-tuning with a frozen rest."""
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8 * 8 * 3, 3))
    parts = list(network.modules())
    for number, part in enumerate(parts):
        part.training = number in trained
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    predictor = NetworkPredictor(network, Preprocess(image_size=(8, 8)), None)
    first = predictor(images)
    assert np.array_equal(first, predictor(images))  # no dropout
    assert [number for number, part in enumerate(parts) if part.training] == trained
