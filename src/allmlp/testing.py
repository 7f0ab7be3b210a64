"""Public conformance checks: what a part must do to be one. A new block runs through `check_block` once it is listed.

A check raises `AssertionError` with one line that names the part and what it did not keep.
"""

import math
import typing

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from allmlp.models.blocks import BlockConfig
from allmlp.models.init import InitScheme, initialise
from allmlp.models.layers import DropPath

SAME = 1e-10  # float64 sums of at most some thousand terms, in another order


def check_block(config: BlockConfig, width: int = 12, grid: tuple[int, int] = (3, 5), seed: int = 0) -> None:
    """Check that a block keeps the contract of `allmlp.models.blocks`, in float64 on the CPU.

    JSON there and back gives the same value; every scheme of initialisation reaches every parameter; `(B, S, C)` comes
    out as it went in; each of `branches` drop paths is used once; two passes in evaluation give the same; images do
    not mix; a gradient reaches every parameter; the multiply-adds it states are those that PyTorch counts.
    """
    kind = config.kind
    assert type(config).from_json(config.to_json()) == config, f"{kind}: JSON does not give the same value back"

    drop_paths = [DropPath(rate=0.0, rescale=True) for _ in range(config.branches)]
    block = config.build(width, grid, drop_paths).double()
    _check_start(kind, block)

    randomise(block, seed)
    generator = torch.Generator().manual_seed(seed)
    x_BSC = torch.randn(3, math.prod(grid), width, generator=generator, dtype=torch.float64)
    _check_drop_paths(kind, block, drop_paths, x_BSC)
    for training in (True, False):
        _check_images(kind, block.train(training), x_BSC)
    _check_gradients(kind, block, x_BSC)

    stated, counted = sum(config.macs(width, math.prod(grid))), _macs(block, x_BSC[:1])
    assert stated == counted, f"{kind}: macs() says {stated}, PyTorch counts {counted}"


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Give every parameter a random value in place, so that no zero, one or tiny start hides a path.

    Matrices and kernels are normal with variance 1/fan_in, which keeps activations near their scale; all others
    (biases, norms, LayerScale) are uniform in [-1, 1).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim in (2, 4):
                parameter.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
            else:
                parameter.uniform_(-1, 1, generator=generator)


def _check_start(kind: str, block: nn.Module) -> None:
    for scheme in typing.get_args(InitScheme):
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.fill_(math.nan)
        initialise(block, scheme)
        missed = [name for name, parameter in block.named_parameters() if not parameter.isfinite().all()]
        assert not missed, f"{kind}: initialisation {scheme!r} leaves {', '.join(missed)} as found; give it an init_own"


def _check_drop_paths(kind: str, block: nn.Module, drop_paths: list[DropPath], x_BSC: torch.Tensor) -> None:
    calls = [0] * len(drop_paths)

    def count(index: int):
        def hook(*_: object) -> None:
            calls[index] += 1

        return hook

    hooks = [drop_path.register_forward_hook(count(index)) for index, drop_path in enumerate(drop_paths)]
    block(x_BSC)
    for hook in hooks:
        hook.remove()
    assert calls == [1] * len(drop_paths), f"{kind}: its {len(calls)} drop paths are used {calls} times, not once each"


@torch.no_grad()
def _check_images(kind: str, block: nn.Module, x_BSC: torch.Tensor) -> None:
    y_BSC = block(x_BSC)
    mode = "training" if block.training else "evaluation"
    assert y_BSC.shape == x_BSC.shape, f"{kind}: gives {tuple(y_BSC.shape)} for {tuple(x_BSC.shape)}"
    assert torch.equal(block(x_BSC), y_BSC), f"{kind}: two passes in {mode} differ"
    alone = torch.cat([block(x_1SC) for x_1SC in x_BSC.split(1)])
    difference = (alone - y_BSC).abs().max().item()
    assert difference <= SAME, f"{kind}: in {mode} an image's result depends on the others (by {difference:.1e})"


def _check_gradients(kind: str, block: nn.Module, x_BSC: torch.Tensor) -> None:
    block(x_BSC).square().sum().backward()
    missed = [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missed, f"{kind}: no gradient reaches {', '.join(missed)}"


def _macs(block: nn.Module, x_BSC: torch.Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        block(x_BSC)
    return counter.get_total_flops() // 2
