"""GELU's tanh form in a training step through the engine's kernel, where PyTorch's own is slow.

PyTorch computes the tanh form, which Google's Mixers have, two to three times as slowly as the erf form (docs/log.md).
The engine (`allmlp_native`), where it is installed, passes over a tensor as fast as memory gives and takes it: forward
and backward, in float32 and bfloat16. Without it, and for small tensors, PyTorch's is used.

The function is the same: results differ by float rounding, as between two processors.
"""

import importlib
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from allmlp.models.products import exporting

LEAST_BYTES = 1 << 20  # of a tensor; below that it stays in the cache, and there is little to gain


class _TanhGelu(torch.autograd.Function):
    """GELU of x, any shape, in order."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        return _compiled_value(x) if torch.compiler.is_compiling() else _value(x)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: torch.Tensor
    ) -> torch.Tensor:
        gradient = gradients[0].contiguous()
        (x,) = ctx.saved_tensors
        return _compiled_gradient(x, gradient) if torch.compiler.is_compiling() else _gradient(x, gradient)


def _value(x: torch.Tensor) -> torch.Tensor:
    y = torch.empty_like(x)
    _engine().tanh_gelu(_array(x), _array(y), threads=torch.get_num_threads())
    return y


def _gradient(x: torch.Tensor, of_y: torch.Tensor) -> torch.Tensor:
    of_x = torch.empty_like(x)
    _engine().tanh_gelu(_array(x), _array(of_x), _array(of_y), threads=torch.get_num_threads())
    return of_x


def _array(tensor: torch.Tensor) -> Any:
    """The tensor's memory as numpy sees it, which has no bfloat16."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


# What the compiler does not look into, as it would have to write a kernel of its own.
_compiled_value = torch.library.custom_op("allmlp::tanh_gelu", _value, mutates_args=())
_compiled_gradient = torch.library.custom_op("allmlp::tanh_gelu_gradient", _gradient, mutates_args=())
_compiled_value.register_fake(torch.empty_like)
_compiled_gradient.register_fake(lambda x, of_y: torch.empty_like(x))


class EngineGelu(nn.GELU):
    """`nn.GELU` in its tanh form, whose large tensors on the CPU train through the engine; all else as ever."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        ours = (torch.is_grad_enabled() and input.device.type == "cpu"
                and input.dtype in (torch.float32, torch.bfloat16)
                and input.numel() * input.element_size() >= LEAST_BYTES
                and not exporting())
        return _TanhGelu.apply(input) if ours else super().forward(input)  # pyright: ignore


def through_engine(network: nn.Module) -> None:
    """Let the GELUs of `network` in their tanh form train through the engine, in place, where it is installed; they
    stay what they were to look at, to save and to evaluate."""
    if _engine() is None:
        return
    for module in network.modules():
        if type(module) is nn.GELU and module.approximate == "tanh":
            module.__class__ = EngineGelu


def _engine() -> Any:
    """The engine, None where there is none that knows GELU."""
    try:
        engine = importlib.import_module("allmlp_native")
    except ImportError:
        return None
    return engine if hasattr(engine, "tanh_gelu") else None
