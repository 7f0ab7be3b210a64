"""Training inside an experiment is `allmlp train`, for any torch network."""

import math

import numpy as np
import pytest
import torch

from allmlp.backends.network import NetworkPredictor, pooled
from allmlp.data.dataset import Data, Subset
from allmlp.data.digits import open_digits
from allmlp.errors import BadSetting, TrainingStopped
from allmlp.preprocess import Preprocess
from allmlp.recipes import RECIPES
from allmlp.reproduce.baselines import resnet, vit
from allmlp.reproduce.learn import learn
from allmlp.train.loop import run
from allmlp.train.start import starting_model

DIGITS = RECIPES["digits"].with_(expected=None, batch_size=32, schedule=RECIPES["digits"].schedule.for_epochs(2))
PREPROCESS = Preprocess(image_size=(8, 8))


@pytest.fixture(scope="module")
def few() -> Data:
    digits = open_digits()
    return Data("few", digits.classes, {"train": Subset(digits.splits["train"], np.arange(100))})


def test_it_learns_to_the_bit_what_allmlp_train_learns(few: Data, tmp_path):
    recipe = DIGITS.with_(seed=4)
    by_train = run(recipe, few, tmp_path, device="cpu", loggers=()).model
    model = starting_model(recipe, few)
    here = learn(model, recipe, few.splits["train"], preprocess=model.preprocess)
    assert here is not model, "the recipe keeps an average, which is what is to be evaluated"
    for name, tensor in by_train.state_dict().items():
        assert torch.equal(tensor, here.state_dict()[name]), name


def test_the_average_of_a_resnet_has_the_running_statistics_of_the_network(few: Data):
    network = resnet(8, 10, width=4)
    judged = learn(network, DIGITS, few.splits["train"], preprocess=PREPROCESS)
    for (name, kept), buffer in zip(judged.named_buffers(), network.buffers(), strict=True):
        assert torch.equal(kept, buffer), name
    assert int(network.bn1.num_batches_tracked) == 8


@pytest.mark.parametrize("every, seen", [(3, [3, 6, 8]), (None, [8]), (4, [4, 8])])
def test_it_is_watched_every_so_many_steps_and_at_the_end(every, seen: list[int], few: Data):
    steps, modes = [], []

    def watch(step: int, network: torch.nn.Module) -> None:
        steps.append(step)
        modes.append(network.training)

    learn(vit(8, 4, 8, 1, 10), DIGITS.with_(ema_decay=None), few.splits["train"], preprocess=PREPROCESS, every=every,
          watch=watch)
    assert steps == seen
    assert not any(modes)


def test_what_an_experiment_cannot_do_is_refused(few: Data):
    with pytest.raises(BadSetting, match="leave dino and freeze_backbone out"):
        learn(vit(8, 4, 8, 1, 10), DIGITS.with_(freeze_backbone=True), few.splits["train"], preprocess=PREPROCESS)
    network = vit(8, 4, 8, 1, 10)
    with torch.no_grad():
        network.head.bias.fill_(math.inf)
    with pytest.raises(TrainingStopped, match="the loss became nan at step 1"):
        learn(network, DIGITS, few.splits["train"], preprocess=PREPROCESS)


@pytest.mark.parametrize("make", [lambda seed: resnet(32, 10, width=4, seed=seed),
                                  lambda seed: vit(32, 8, 16, 2, 10, seed=seed)], ids=["resnet", "vit"])
def test_baselines_follow_from_their_seed_and_leave_torch_s_generator_alone(make):
    before = torch.get_rng_state()
    one, _, _ = networks = make(1), make(1), make(2)
    assert torch.equal(torch.get_rng_state(), before)
    weights = [torch.cat([parameter.flatten() for parameter in network.parameters()]) for network in networks]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    images = np.random.default_rng(0).integers(256, size=(3, 32, 32, 3), dtype=np.uint8)
    preprocess = Preprocess(image_size=(32, 32))
    logits = NetworkPredictor(one, preprocess, "0123456789")(images)
    features = NetworkPredictor(one, preprocess, None, forward=pooled(one))(images)
    head = one.get_classifier()
    with torch.no_grad():
        expected = head(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)
