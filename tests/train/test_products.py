"""Linear layers that train through oneDNN."""

import pytest
import torch
from torch import nn

from allmlp.models.variants import create_model
from allmlp.train.products import OneDNNLinear, through_onednn

LIMIT = 2e-6  # of the largest entry: float32 sums of some hundred products in another order


@pytest.fixture
def amd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allmlp.models.products.ONEDNN_IS_FASTER", True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 300), (2, 5, 300), (2, 300, 5)])
def test_value_and_gradients_are_those_of_float64(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layer = OneDNNLinear(300, 130, bias=bias)
    x = torch.randn(shape, requires_grad=True)
    taken = x if shape[-1] == 300 else x.transpose(1, 2)  # token mixing gives it transposed tensors
    out = layer(taken)
    coefficients = torch.randn_like(out)
    (out * coefficients).sum().backward()

    exact = nn.Linear(300, 130, bias=bias, dtype=torch.float64)
    exact.load_state_dict({name: tensor.double() for name, tensor in layer.state_dict().items()})
    x64 = x.detach().double().requires_grad_()
    out64 = exact(x64 if shape[-1] == 300 else x64.transpose(1, 2))
    (out64 * coefficients.double()).sum().backward()
    pairs = [(out, out64), (x.grad, x64.grad)] + [(p.grad, q.grad) for p, q in
                                                  zip(layer.parameters(), exact.parameters(), strict=True)]
    for ours, wanted in pairs:
        assert ours is not None
        assert wanted is not None
        assert (ours - wanted).abs().max() <= LIMIT * wanted.abs().max()


def test_a_network_keeps_its_names_weights_and_answers(amd: None) -> None:
    plain, changed = create_model("mixer_t4_32", seed=0), create_model("mixer_t4_32", seed=0)
    through_onednn(changed)
    assert any(isinstance(module, OneDNNLinear) for module in changed.modules())
    assert list(changed.state_dict()) == list(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(changed(images), plain(images))


def test_small_layers_and_other_processors_keep_pytorchs_products(amd: None, monkeypatch: pytest.MonkeyPatch) -> None:
    small = create_model("mixer_p2_8", num_classes=10, seed=0)
    through_onednn(small)
    assert not any(isinstance(module, OneDNNLinear) for module in small.modules())
    monkeypatch.setattr("allmlp.models.products.ONEDNN_IS_FASTER", False)
    large = create_model("mixer_t4_32", seed=0)
    through_onednn(large)
    assert not any(isinstance(module, OneDNNLinear) for module in large.modules())


def test_autocast_is_left_alone() -> None:
    layer = OneDNNLinear(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 8)).dtype == torch.bfloat16


@pytest.mark.slow
def test_compiled_layers_learn_the_same() -> None:
    torch.manual_seed(0)
    layer, x = OneDNNLinear(300, 130), torch.randn(4, 300, 5)
    gradients = []

    def mix(taken: torch.Tensor) -> torch.Tensor:
        return layer(taken.transpose(1, 2))

    for network in (mix, torch.compile(mix, fullgraph=True)):
        layer.zero_grad()
        taken = x.clone().requires_grad_()
        network(taken).square().sum().backward()
        gradients.append([taken.grad, layer.weight.grad, layer.bias.grad])
    for plain, compiled in zip(*gradients, strict=True):
        assert (compiled - plain).abs().max() <= 2 * LIMIT * plain.abs().max()
