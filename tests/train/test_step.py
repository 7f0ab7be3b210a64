"""The step of several processes is the step of one."""

import copy

import pytest
import torch

from allmlp.data.loader import Loader
from allmlp.data.place import Share
from allmlp.train.distributed import Processes
from allmlp.train.losses import to_targets
from allmlp.train.objective import build_objective
from allmlp.train.start import starting_model
from allmlp.train.step import gradients

TOLERANCE = 1e-6  # float32 sums in another order, of gradients below 1


@pytest.mark.parametrize("count", [2, 3, 7], ids=["even", "uneven", "more processes than images"])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_mean_of_the_processes_gradients_is_the_gradient_of_the_whole_batch(digits, recipe, count, parts):
    """Also with stochastic depth, and for the last, short batch of 4 images."""
    recipe = recipe.with_(gradient_accumulation=parts, stochastic_depth=0.5)
    model = starting_model(recipe, digits).train()
    objective = build_objective(recipe, digits, model, torch.device("cpu"))

    def gradient(share: Share, processes: Processes):
        network = copy.deepcopy(model)
        *_, batch = Loader(digits.splits["train"], model.preprocess, recipe.augment, 32, 0, share=share).epoch(0)
        images, labels = batch.images[: batch.place.own].float(), batch.labels[: batch.place.own]
        loss = gradients(network, objective, images, to_targets(labels, 10), recipe, 3, batch.place, processes)
        return loss, torch.cat([parameter.grad.flatten() for parameter in network.parameters()])

    loss, whole = gradient(Share(parts=parts), Processes())
    shared = [gradient(Share(rank, count, parts), Processes(rank, count)) for rank in range(count)]
    assert sum(part for part, _ in shared) == pytest.approx(loss, rel=1e-6)
    assert (torch.stack([each for _, each in shared]).mean(0) - whole).abs().max() < TOLERANCE
