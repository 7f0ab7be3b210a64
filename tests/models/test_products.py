"""Linear layers at inference through oneDNN, with GELU in the same pass."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from allmlp.models import products
from allmlp.models.layers import Mlp, activate
from allmlp.models.model import build
from allmlp.models.products import linear, over_tokens
from allmlp.models.variants import create_model

LIMIT = {torch.float32: 2e-6, torch.bfloat16: 2**-7}  # of the largest entry: rounding of sums, and of the result
bf16 = pytest.mark.skipif(not products.ONEDNN_HAS_BF16, reason="oneDNN has no bfloat16 on this processor")


@pytest.fixture(autouse=True)
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", True)
    monkeypatch.setattr(products, "LEAST_SUMMED", 0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The GELU of every product that went through oneDNN."""
    seen = []

    def spy(x, weight, bias, gelu=""):
        seen.append(gelu)
        return product(x, weight, bias, gelu)

    product = products.product
    monkeypatch.setattr(products, "product", spy)
    return seen


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=bf16)])
@pytest.mark.parametrize("activation", ["tanh", "erf", "relu", None])
@pytest.mark.parametrize("shape", [(300,), (7, 300), (2, 5, 300), (2, 300, 5)])
def test_what_comes_out_is_that_of_float64(dtype, activation, shape, calls) -> None:
    torch.manual_seed(0)
    layer, then = nn.Linear(300, 130).to(dtype), None if activation is None else activate(activation)
    x = torch.randn(shape).to(dtype)
    x = x if shape[-1] == 300 else x.transpose(1, 2)  # token mixing gives it transposed tensors
    y = linear(layer, x, then)
    exact = nn.Linear(300, 130, dtype=torch.float64)
    exact.load_state_dict({name: tensor.double() for name, tensor in layer.state_dict().items()})
    wanted = exact(x.double()) if then is None else then(exact(x.double()))
    gelu = {"tanh": "tanh", "erf": "none"}.get(str(activation), "")
    assert calls == [gelu]
    assert y.dtype == dtype
    assert y.shape == wanted.shape
    assert (y - wanted).abs().max() <= LIMIT[dtype] * wanted.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=bf16)])
@pytest.mark.parametrize("bias", [True, False])
def test_mixing_tokens_as_they_lie_is_mixing_them_transposed(dtype, bias) -> None:
    torch.manual_seed(0)
    layer, x_BSC = nn.Linear(150, 130, bias=bias).to(dtype), torch.randn(3, 150, 70).to(dtype)
    wanted = torch.einsum("ts,bsc->btc", layer.weight.double(), x_BSC.double())
    wanted = wanted + layer.bias.double()[:, None] if bias else wanted
    assert (over_tokens(layer, x_BSC) - wanted).abs().max() <= LIMIT[dtype] * wanted.abs().max()
    assert over_tokens(layer, x_BSC).is_contiguous()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=bf16)])
@pytest.mark.parametrize("activation", ["tanh", "erf", "relu"])
def test_an_mlp_over_tokens_gives_what_it_gives_for_each_channel_and_turns_nothing(dtype, activation) -> None:
    torch.manual_seed(0)
    mlp, x_BSC = Mlp(150, 130, activation, turned=True).to(dtype), torch.randn(3, 150, 70).to(dtype)
    weights = {name: tensor.double() for name, tensor in mlp.state_dict().items()}
    hidden = torch.einsum("fs,bsc->bfc", weights["fc1.weight"], x_BSC.double()) + weights["fc1.bias"][:, None]
    wanted = torch.einsum("sf,bfc->bsc", weights["fc2.weight"], activate(activation)(hidden))
    wanted = wanted + weights["fc2.bias"][:, None]
    mixed_BSC = mlp(x_BSC.transpose(1, 2)).transpose(1, 2)
    assert (mixed_BSC - wanted).abs().max() <= 2 * LIMIT[dtype] * wanted.abs().max()  # rounded twice
    assert mixed_BSC.is_contiguous()


@torch.no_grad()
@pytest.mark.parametrize("stem", ["patches", "convolutions"])
@pytest.mark.parametrize("name", ["mixer_s32_224", "resmlp_12_224", "gmlp_ti16_224"])
def test_tokens_lie_one_after_the_other_in_the_whole_network(name: str, stem: str) -> None:
    """Were they views of a map, each sum and each norm would read them across."""
    config = create_model(name, num_classes=7, image_size=(64, 64)).config
    model = build(config.with_(stem={"kind": stem}, depth=2)).eval()
    _, outputs = model.forward_intermediates(torch.randn(2, 3, 64, 64), ["stem", "blocks.0", "blocks.1"])
    assert all(tokens_BSC.is_contiguous() for tokens_BSC in outputs.values())


def test_where_a_gradient_is_asked_for_layers_are_called_as_they_stand(calls) -> None:
    mlp = Mlp(130, 130, "tanh")
    mlp(torch.randn(2, 130)).sum().backward()
    assert mlp.fc1.weight.grad is not None
    assert not calls


@torch.no_grad()
def test_hooks_hear_what_they_would_hear(calls) -> None:
    mlp, x, heard = Mlp(130, 130, "erf"), torch.randn(2, 130), []
    for name in ("fc1", "act"):
        handle = mlp.get_submodule(name).register_forward_hook(lambda module, given, out: heard.append(out))
        mlp(x)
        handle.remove()
    assert (heard[0] - mlp.fc1(x)).abs().max() < 1e-6
    assert (heard[1] - mlp.act(mlp.fc1(x))).abs().max() < 1e-6
    assert calls == ["", "", ""]  # the second layer's each time, and the first one's where only GELU is heard
    with nn.modules.module.register_module_forward_hook(lambda module, given, out: heard.append(module)):
        mlp(x)
    assert heard[2:] == [mlp.fc1, mlp.act, mlp.fc2, mlp]


@torch.no_grad()
def test_operations_are_counted_as_ever(calls) -> None:
    mlp, x = Mlp(130, 200, "tanh"), torch.randn(3, 130)
    with FlopCounterMode(display=False) as counter:
        mlp(x)
    assert counter.get_total_flops() == 2 * 2 * 3 * 130 * 200
    assert not calls


@torch.no_grad()
def test_autocast_small_products_and_other_numbers_are_pytorchs(calls, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(130, 130)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(layer, torch.randn(2, 130)).dtype == torch.bfloat16
    linear(layer.double(), torch.randn(2, 130).double())
    assert linear(layer.float(), torch.randn(0, 130)).shape == (0, 130)
    monkeypatch.setattr(products, "LEAST_SUMMED", 3 * 130 * 130)
    linear(layer, torch.randn(2, 130))
    assert not calls
    linear(layer, torch.randn(3, 130))
    assert calls == [""]
    calls.clear()
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", False)
    linear(layer, torch.randn(2, 130))
    assert not calls


@torch.no_grad()
def test_other_kinds_of_layers_compute_what_they_say(calls) -> None:
    x, layer = torch.randn(2, 130), nn.Linear(130, 130)
    weight, bias = layer.weight.detach().clone(), layer.bias
    nn.utils.parametrize.register_parametrization(layer, "weight", nn.Hardtanh(-0.01, 0.01))
    assert linear(layer, x).equal(nn.functional.linear(x, weight.clamp(-0.01, 0.01), bias))
    whole = torch.func.vmap(lambda row: linear(nn.Linear(130, 130), row), randomness="same")(x)
    assert whole.shape == (2, 130)
    assert not calls


@torch.no_grad()
@pytest.mark.parametrize("name", ["mixer_s32_224", "resmlp_12_224", "gmlp_ti16_224"])
def test_networks_answer_alike_with_and_without(name: str, calls, monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model(name, image_size=(64, 64), num_classes=10, seed=0)
    images = torch.randn(2, 3, 64, 64)
    fused = model(images)
    assert len(calls) >= model.config.depth
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", False)
    assert (fused - model(images)).abs().max() < 1e-5


@torch.no_grad()
def test_exports_know_nothing_of_it(calls) -> None:
    mlp, x = Mlp(130, 130, "tanh").eval(), torch.randn(2, 130)
    graph = str(torch.export.export(mlp, (x,), strict=False).graph)
    assert "gelu" in graph
    assert "onednn" not in graph
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch has given TorchScript up; its users have not
        torch.jit.trace(mlp, x, check_trace=False)
        torch.jit.script(mlp)(x)
    assert not calls


@pytest.mark.slow
@torch.no_grad()
def test_compiled_layers_answer_alike() -> None:
    torch.manual_seed(0)
    mlp, x = Mlp(130, 200, "tanh"), torch.randn(3, 130)
    compiled = torch.compile(mlp, fullgraph=True)
    assert (compiled(x) - mlp(x)).abs().max() < 1e-5
