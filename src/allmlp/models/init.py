"""How the weights start. One scheme per source; each leaves no parameter untouched.

| scheme | linear (kernel; bias) | convolutions, as the stem | head | source |
|---|---|---|---|---|
| flax | lecun normal; 0 | lecun normal; 0 | 0; `head_bias` | Google's Mixers: flax defaults, head zero |
| timm | xavier uniform; N(0, 1e-6) in MLPs, else 0 | lecun normal; 0 | 0; `head_bias` | timm's mlp_mixer.py |
| deit | normal(0.02) cut at ±2; 0 | PyTorch's default | like linear; `head_bias` | DeiT's resmlp_models.py |
| spach | xavier uniform; 0 | normal, variance 2/fan_out; 0 | 0; `head_bias` | SPACH's spach.py |

Norms and Aff start as the identity. LayerScale, the spatial gate and the SiLU gate have their own start (`init_own`).
lecun normal: variance 1/fan_in from a normal cut at ±2σ; the cut shrinks the deviation by 0.8796…, so σ is enlarged.
"""

import math
from numbers import Integral
from typing import Literal

import torch
from torch import nn

from allmlp.errors import BadSetting, printable
from allmlp.models.layers import Affine

InitScheme = Literal["flax", "timm", "deit", "spach"]

TRUNCATED_STD = 0.87962566103423978  # of a unit normal cut at ±2


def seeded(seed: int | None) -> torch.Generator | None:
    """A generator for `seed`; None for None, torch's global one. Raises `BadSetting` for no whole number in [0, 2**63).
    """
    if seed is None:
        return None
    if not isinstance(seed, Integral) or not 0 <= seed < 2**63:
        raise BadSetting(f"seed {printable(repr(seed), 80)}: give a whole number from 0 to 2**63 - 1, or None")
    return torch.Generator().manual_seed(int(seed))


def initialise(
    model: nn.Module, scheme: InitScheme, head_bias: float = 0.0, generator: torch.Generator | None = None
) -> None:
    """Start every parameter of `model` in place. Random numbers come from `generator` (default: torch's global one)."""
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, Affine):
            nn.init.ones_(module.alpha)
            nn.init.zeros_(module.beta)
        elif isinstance(module, nn.Conv2d):
            _convolution(module, scheme, generator)
        elif isinstance(module, nn.Linear) and name == "head":
            _head(module, scheme, head_bias, generator)
        elif isinstance(module, nn.Linear):
            _linear(module, scheme, "mlp" in name, generator)
    for module in model.modules():  # after their children, whose start they override
        own = getattr(module, "init_own", None)
        if own is not None:
            with torch.no_grad():
                own(generator)


def _convolution(conv: nn.Conv2d, scheme: InitScheme, generator: torch.Generator | None) -> None:
    fan_in = conv.weight[0].numel()
    if conv.bias is not None:  # patch merging has none
        nn.init.zeros_(conv.bias)
    if scheme == "deit":
        bound = 1 / math.sqrt(fan_in)  # PyTorch's Conv2d: kaiming uniform with a = sqrt(5), which is this bound
        nn.init.uniform_(conv.weight, -bound, bound, generator=generator)
        if conv.bias is not None:
            nn.init.uniform_(conv.bias, -bound, bound, generator=generator)
    elif scheme == "spach":
        fan_out = len(conv.weight) * conv.weight[0, 0].numel()  # as PyTorch counts it, for depthwise ones too
        nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out), generator=generator)
    else:
        lecun_normal(conv.weight, fan_in, generator)


def _linear(linear: nn.Linear, scheme: InitScheme, in_mlp: bool, generator: torch.Generator | None) -> None:
    if scheme == "flax":
        lecun_normal(linear.weight, linear.in_features, generator)
    elif scheme in ("timm", "spach"):
        nn.init.xavier_uniform_(linear.weight, generator=generator)
    else:
        nn.init.trunc_normal_(linear.weight, std=0.02, generator=generator)
    if linear.bias is None:  # in a folded network
        return
    if scheme == "timm" and in_mlp:
        nn.init.normal_(linear.bias, std=1e-6, generator=generator)
    else:
        nn.init.zeros_(linear.bias)


def _head(linear: nn.Linear, scheme: InitScheme, bias: float, generator: torch.Generator | None) -> None:
    if scheme == "deit":
        _linear(linear, scheme, False, generator)
    else:
        nn.init.zeros_(linear.weight)
    nn.init.constant_(linear.bias, bias)


def lecun_normal(weight: torch.Tensor, fan_in: int, generator: torch.Generator | None) -> None:
    std = math.sqrt(1 / fan_in) / TRUNCATED_STD
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)
