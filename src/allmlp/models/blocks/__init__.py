"""Every block there is. To add one: a file beside this one, and its config in the union below.

A block's config is a frozen value with a `kind`, and has
- `branches`: how many residual branches it has (each gets its own drop rate);
- `macs(width, tokens)`: multiply-adds of its linear layers for one image, as `Macs(token_mixing, channel_mixing)`;
- `token_axes`: for each of its parameters whose shape depends on the number of tokens or that the hidden units of token
  mixing number, by name: what its axes count;
- `beside(copies)`: the config of `copies` such blocks side by side, each for its own part of the tokens;
- `folded`: whether scales and shifts that can be are multiplied into linear layers (`fold.py`);
- `build(width, grid, drop_paths)`: the module, `(B, S, C) -> (B, S, C)`, for a token grid (rows, columns).
Submodules that want another start than the network's scheme define `init_own(generator)`.
"""

from typing import Annotated

from pydantic import Field

from allmlp.models.blocks.attention import AttentionConfig
from allmlp.models.blocks.convolution import ConvolutionConfig
from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.mixer_variants import MixerVariantConfig
from allmlp.models.blocks.pooling import IdentityMixingConfig, PoolingConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.blocks.resmlp_ablation import ResMLPAblationConfig
from allmlp.models.blocks.shift import ShiftConfig
from allmlp.models.blocks.spach import SpachConfig
from allmlp.models.blocks.sum import SumConfig

AnyBlock = (
    MixerConfig
    | ResMLPConfig
    | GMLPConfig
    | AttentionConfig
    | ConvolutionConfig
    | PoolingConfig
    | IdentityMixingConfig
    | ShiftConfig
    | SpachConfig
    | SumConfig
    | ResMLPAblationConfig
    | MixerVariantConfig
)
BlockConfig = Annotated[AnyBlock, Field(discriminator="kind")]

SumConfig.model_rebuild(_types_namespace={"BlockConfig": BlockConfig})  # its blocks are any of these
