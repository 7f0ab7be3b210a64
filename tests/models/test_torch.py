"""The networks under PyTorch's own machinery: torch.compile, torch.export, bfloat16, activation checkpointing."""

import pytest
import torch
from torch.nn import functional as F

from allmlp.models.model import build
from allmlp.testing import randomise

# Compilers fuse and reorder float32 operations; relative to the largest value.
COMPILED = 1e-5
# bfloat16 has 8 significant bits: a rounding is off by up to 0.4 %, and errors of random signs add up through three
# blocks. Root mean square over all logits, relative to theirs; at most 0.01 over 20 seeds of each family.
BF16 = 0.02


def relative_rms(x: torch.Tensor, reference: torch.Tensor) -> float:
    return ((x - reference).square().mean() / reference.square().mean()).sqrt().item()


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_torch_compile_takes_the_whole_network_in_one_graph(config, images, backend):
    torch._dynamo.reset()
    model = build(config.with_(depth=len(config.blocks)))
    randomise(model)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    expected = model(images)
    answer = compiled(images)
    assert (answer - expected).abs().max() <= COMPILED * expected.abs().max()
    gradient, expected_gradient = (
        torch.autograd.grad(logits.square().sum(), model.stem.proj.weight)[0] for logits in (answer, expected)
    )
    assert (gradient - expected_gradient).abs().max() <= COMPILED * expected_gradient.abs().max()


def test_torch_export_keeps_the_batch_free(model, images):
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (images,), dynamic_shapes={"images_BCHW": {0: batch}})
    for count in (1, 2, 5):
        some = torch.randn(count, *images.shape[1:])
        with torch.no_grad():
            expected = model(some)
            assert (program.module()(some) - expected).abs().max() <= COMPILED * expected.abs().max()


def test_bfloat16_weights_answer_nearly_as_float32(model, images):
    with torch.no_grad():
        expected = model(images)
        answer = model.bfloat16()(images.bfloat16())
    assert answer.dtype == torch.bfloat16
    assert relative_rms(answer.float(), expected) < BF16


def test_bfloat16_autocast_answers_nearly_as_float32_and_gives_float32_gradients(model, images):
    expected = model(images).detach()
    with torch.autocast("cpu", torch.bfloat16):
        answer = model(images)
    assert 0 < relative_rms(answer.float(), expected) < BF16
    F.cross_entropy(answer.float(), torch.tensor([0, 1])).backward()
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_checkpointed_activations_give_the_same_gradients_bit_for_bit(config, images, rate):
    model = build(config.with_(stochastic_depth=config.stochastic_depth.with_(rate=rate))).train()
    randomise(model)
    gradients = []
    for checkpointing in (False, True):
        model.set_grad_checkpointing(checkpointing)
        model.zero_grad()
        torch.manual_seed(3)  # of the dropped branches
        F.cross_entropy(model(images), torch.tensor([0, 1])).backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    assert all(gradient.equal(gradients[0][name]) for name, gradient in gradients[1].items())


def test_checkpointing_recomputes_each_block_once(config, model, images):
    calls = []
    for index, block in enumerate(model.blocks):
        block.register_forward_pre_hook(lambda *_, index=index: calls.append(index))
    model.train().set_grad_checkpointing()
    model(images).sum().backward()
    assert calls == [0, 1, 2, 2, 1, 0]
    calls.clear()
    model.eval()(images)
    assert calls == [0, 1, 2]
