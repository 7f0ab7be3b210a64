"""How the weights start. One scheme per source; each leaves no parameter untouched.

| scheme | linear (kernel; bias) | stem convolution | head | source |
|---|---|---|---|---|
| flax | lecun normal; 0 | lecun normal; 0 | 0; `head_bias` | Google's Mixers: flax defaults, head zero |
| timm | xavier uniform; N(0, 1e-6) in MLPs, else 0 | lecun normal; 0 | 0; `head_bias` | timm's mlp_mixer.py |
| deit | normal(0.02) cut at ±2; 0 | PyTorch's default | like linear | DeiT's resmlp_models.py |

Norms and Aff start as the identity. LayerScale, the spatial gate and the SiLU gate have their own start (`init_own`).
lecun normal: variance 1/fan_in from a normal cut at ±2σ; the cut shrinks the deviation by 0.8796…, so σ is enlarged.
"""

import math
from typing import Literal

import torch
from torch import nn

from allmlp.models.layers import Affine

InitScheme = Literal["flax", "timm", "deit"]

TRUNCATED_STD = 0.87962566103423978  # of a unit normal cut at ±2


def initialise(
    model: nn.Module, scheme: InitScheme, head_bias: float = 0.0, generator: torch.Generator | None = None
) -> None:
    """Start every parameter of `model` in place. Random numbers come from `generator` (default: torch's global one)."""
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, Affine):
            nn.init.ones_(module.alpha)
            nn.init.zeros_(module.beta)
        elif isinstance(module, (nn.Linear, nn.Conv2d)):
            if name == "head" and scheme != "deit":
                nn.init.zeros_(module.weight)
                nn.init.constant_(module.bias, head_bias)
            else:
                _kernel(module, scheme, in_mlp="mlp" in name, generator=generator)
    for module in model.modules():  # after their children, whose start they override
        if hasattr(module, "init_own"):
            with torch.no_grad():
                module.init_own(generator)


def _kernel(module: nn.Linear | nn.Conv2d, scheme: InitScheme, in_mlp: bool, generator: torch.Generator | None) -> None:
    is_stem = isinstance(module, nn.Conv2d)
    if scheme == "deit" and is_stem:
        fan_in = module.weight[0].numel()
        bound = 1 / math.sqrt(fan_in)  # PyTorch's Conv2d: kaiming uniform with a = sqrt(5), which is this bound
        nn.init.uniform_(module.weight, -bound, bound, generator=generator)
        nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        return
    if scheme == "deit":
        nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
    elif scheme == "flax" or is_stem:
        std = math.sqrt(1 / module.weight[0].numel()) / TRUNCATED_STD
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
    else:
        nn.init.xavier_uniform_(module.weight, generator=generator)
    if scheme == "timm" and in_mlp and not is_stem:
        nn.init.normal_(module.bias, std=1e-6, generator=generator)
    else:
        nn.init.zeros_(module.bias)
