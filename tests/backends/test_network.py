"""Any torch network as a predictor."""

import numpy as np
import pytest
import torch
from torch import nn

from allmlp.backends.network import NetworkPredictor
from allmlp.backends.pytorch import choose_device
from allmlp.errors import BadSetting
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


def test_a_processor_that_the_machine_does_not_have_is_refused_with_those_it_has(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(BadSetting, match="'cuda:2' is not available here; accepted: auto, cuda:0, cuda:1, cpu"):
        choose_device("cuda:2")
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cuda") == torch.device("cuda")
