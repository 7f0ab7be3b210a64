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

from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig

BlockConfig = Annotated[MixerConfig | ResMLPConfig | GMLPConfig, Field(discriminator="kind")]
