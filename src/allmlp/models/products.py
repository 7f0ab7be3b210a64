"""Linear layers at inference on a CPU: through oneDNN where PyTorch's other library is slow, GELU in the same pass.

PyTorch computes float32 products on x86-64 with Intel's MKL, which on AMD's processors stays well below what they can
do; and it writes what goes into GELU to memory to read it again. oneDNN, which comes with every PyTorch, does both at
once (results/forward.csv). bfloat16 products are oneDNN's anyway, and GELU and the bias join them on any processor.

Only where nobody can tell but by the clock: results differ by float rounding, as between two processors. Where a
gradient is asked for, where somebody listens (hooks, counters of operations), in exports, in autocast and with weights
of other kinds, the layers are called one after the other, as they stand.
"""

from pathlib import Path

import torch
from torch import nn

LEAST_SUMMED = 8_000_000  # multiply-adds in float32; below, what oneDNN's call takes is more than what it saves


class AsLinear:
    """What a subclass of `nn.Linear` inherits too if it computes just that where no gradient is asked for."""


def linear(layer: nn.Module, x: torch.Tensor, then: nn.Module | None = None) -> torch.Tensor:
    """`then(layer(x))`, or `layer(x)`: a linear layer over the last axis of x `(…, in)`, and an activation.

    In one pass where the layer may be computed by oneDNN, if `then` is a GELU.
    """
    gelu = then.approximate if isinstance(then, nn.GELU) and not _listened(then) else ""
    if not isinstance(layer, nn.Linear) or not _ours(layer, x):
        y = layer(x)
        return y if then is None else then(y)
    if torch.compiler.is_compiling():
        y = compiled_product(x.contiguous(), layer.weight, layer.bias, gelu)
    else:
        y = product(x.contiguous(), layer.weight, layer.bias, gelu)
    return y if then is None or gelu else then(y)


def over_tokens(layer: nn.Module, x_BSC: torch.Tensor) -> torch.Tensor:
    """A linear layer over the tokens of `(B, S, C)`, to `(B, S', C)`: the weights times the tokens as they lie, where
    a transposition there and back can be spared."""
    if not isinstance(layer, nn.Linear) or not _ours(layer, x_BSC):
        return layer(x_BSC.transpose(1, 2)).transpose(1, 2)
    weights = layer.weight.expand(len(x_BSC), -1, -1)
    return weights @ x_BSC if layer.bias is None else torch.baddbmm(layer.bias[:, None], weights, x_BSC)


def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, gelu: str = "") -> torch.Tensor:
    """`x W^T + b` by oneDNN, for x `(…, in)`, W `(out, in)`, b `(out,)` or None; then GELU in the form "tanh" or "none"
    (erf), if one is named."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu" if gelu else "none", [], gelu)


@torch.library.custom_op("allmlp::onednn_linear_gelu", mutates_args=())
def compiled_product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, gelu: str) -> torch.Tensor:
    """The same as one that the compiler does not look into: it takes oneDNN's for constant weights only."""
    return product(x, weight, bias, gelu)


@compiled_product.register_fake
def _(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, gelu: str) -> torch.Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _ours(layer: nn.Linear, x: torch.Tensor) -> bool:
    """Whether what `layer` says may be computed otherwise than by calling it."""
    if torch.is_grad_enabled() or type(x) is not torch.Tensor or type(layer.weight) is not nn.Parameter:
        return False  # also what traces, and what computes for several networks or images at once
    if not (type(layer) is nn.Linear or isinstance(layer, AsLinear)) or _watched() or _listened(layer):
        return False
    if x.device.type != "cpu" or x.dtype != layer.weight.dtype or not x.numel() or torch.is_autocast_enabled("cpu"):
        return False
    if x.dtype == torch.float32:
        return ONEDNN_IS_FASTER and x.numel() * layer.out_features >= LEAST_SUMMED
    return x.dtype == torch.bfloat16 and ONEDNN_HAS_BF16


def _watched() -> bool:
    """Whether somebody writes down, counts or transforms what is computed; the compiler may, and asks nothing else."""
    if torch.compiler.is_compiling() or exporting():
        return exporting()
    transformed = torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue]
    return torch._C._len_torch_dispatch_stack() > 0 or transformed or _listened_everywhere()


def exporting() -> bool:
    """Whether operations are written down, to be run elsewhere."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def _listened_everywhere() -> bool:
    hooks = torch.nn.modules.module
    return bool(hooks._global_forward_hooks or hooks._global_forward_pre_hooks)


def _listened(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _onednn_is_faster() -> bool:
    """Whether float32 products are faster by oneDNN than by what PyTorch takes: where MKL meets a processor of AMD's,
    as Linux tells; elsewhere nothing was measured, and nothing changes."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


ONEDNN_IS_FASTER = _onednn_is_faster()
ONEDNN_HAS_BF16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
