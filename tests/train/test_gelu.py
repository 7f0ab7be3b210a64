"""GELUs that train through the engine."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from allmlp.models.layers import Mlp
from allmlp.train import gelu
from allmlp.train.gelu import EngineGelu, through_engine

pytest.importorskip("allmlp_native", reason="the engine is not built: make native")

LARGE = (2, 400, 701)  # more than LEAST_BYTES in both precisions, and no multiple of a vector
LIMIT = {torch.float32: 1e-5, torch.bfloat16: 2**-6}  # of 1 + |x|: rounding, in bfloat16 of value and of two factors


@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("transposed", [False, True])
def test_value_and_gradient_are_those_of_float64(dtype: torch.dtype, transposed: bool) -> None:
    torch.manual_seed(0)
    x = (2 * torch.randn(LARGE)).to(dtype).requires_grad_()
    coefficients = torch.randn(LARGE).to(dtype)
    out = EngineGelu("tanh")(x.transpose(1, 2) if transposed else x)
    assert "TanhGelu" in type(out.grad_fn).__name__
    out.backward(coefficients.transpose(1, 2) if transposed else coefficients)
    x64 = x.detach().double().requires_grad_()
    out64 = F.gelu(x64, approximate="tanh")
    out64.backward(coefficients.double())
    assert x.grad is not None
    assert x64.grad is not None
    scale = LIMIT[dtype] * (1 + x64.detach().abs())
    assert ((out.transpose(1, 2) if transposed else out) - out64).abs().lt(scale).all()
    assert (x.grad - x64.grad).abs().lt(2 * scale).all()


def test_a_network_keeps_its_names_and_answers() -> None:
    plain = nn.Sequential(Mlp(48, 96, "tanh"), Mlp(48, 96, "tanh"))
    changed = copy.deepcopy(plain)
    through_engine(changed)
    assert sum(isinstance(module, EngineGelu) for module in changed.modules()) == 2
    assert repr(changed).replace("EngineGelu", "GELU") == repr(plain)
    assert list(changed.state_dict()) == list(plain.state_dict())
    x = torch.randn(5, 48)
    with torch.no_grad():
        assert torch.equal(changed(x), plain(x))


def test_only_the_tanh_form_changes_and_only_where_the_engine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    erf = nn.Sequential(nn.GELU())
    through_engine(erf)
    assert type(erf[0]) is nn.GELU
    monkeypatch.setattr(gelu, "_engine", lambda: None)
    tanh = nn.Sequential(nn.GELU("tanh"))
    through_engine(tanh)
    assert type(tanh[0]) is nn.GELU


def test_small_tensors_are_pytorchs() -> None:
    x = torch.randn(7, requires_grad=True)
    assert torch.equal(EngineGelu("tanh")(x), F.gelu(x, approximate="tanh"))


@pytest.mark.slow
def test_a_compiled_gelu_learns_the_same() -> None:
    torch.manual_seed(0)
    layer, x = EngineGelu("tanh"), torch.randn(LARGE)
    gradients = []

    def double(taken: torch.Tensor) -> torch.Tensor:
        return layer(taken * 2)

    for function in (double, torch.compile(double, fullgraph=True)):
        taken = x.clone().requires_grad_()
        out = function(taken)
        out.square().sum().backward()
        gradients.append((out.detach(), taken.grad))
    for plain, compiled in zip(*gradients, strict=True):
        assert torch.equal(plain, compiled)
