"""Matrix products of a training step through oneDNN, where those of PyTorch's other library are slow.

PyTorch computes float32 products on x86-64 with Intel's MKL, which on AMD's processors stays well below what they can
do. oneDNN, which comes with every PyTorch, takes the same step of Mixer-S/16 in about nine tenths of the time there
(docs/log.md). The gradient of the weights stays with MKL, where that one is the faster. bfloat16 products are oneDNN's
anyway.

What is added up is the same, in another order: results differ by float rounding, as between two processors.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from allmlp.models import products
from allmlp.models.products import AsLinear, compiled_product, exporting, product

LEAST_WEIGHTS = 1 << 14  # below so many in a layer, what the call takes is more than what it saves


class _Linear(torch.autograd.Function):
    """`x W^T + b` for x `(..., in)`, W `(out, in)`, b `(out,)` or None."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        x = x.contiguous()  # what token mixing gives is transposed: copied once, for both passes
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        gradient = gradients[0].contiguous()
        x, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        of_x = _product(gradient, weight.t(), None) if ctx.needs_input_grad[0] else None
        of_weight = rows.t() @ x.reshape(-1, x.shape[-1]) if ctx.needs_input_grad[1] else None
        of_bias = rows.sum(0) if ctx.has_bias and ctx.needs_input_grad[2] else None
        return of_x, of_weight, of_bias


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if torch.compiler.is_compiling():
        return compiled_product(x, weight, bias, "")
    return product(x, weight, bias)


class OneDNNLinear(nn.Linear, AsLinear):
    """`nn.Linear`, whose float32 training steps on the CPU go through oneDNN; all else as ever."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        ours = (torch.is_grad_enabled() and input.dtype == self.weight.dtype == torch.float32
                and input.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
                and not exporting())
        return _Linear.apply(input, self.weight, self.bias) if ours else super().forward(input)  # pyright: ignore


def through_onednn(network: nn.Module) -> None:
    """Let the linear layers of `network` train through oneDNN, in place, where that is faster; it stays what it was
    to look at, to save and to evaluate."""
    if not products.ONEDNN_IS_FASTER:
        return
    for module in network.modules():
        if type(module) is nn.Linear and module.weight.numel() >= LEAST_WEIGHTS:
            module.__class__ = OneDNNLinear

