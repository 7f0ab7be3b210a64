"""What a forward pass leaves in memory for the backward pass, and how much it writes, counted layer by layer.

For one image, S tokens, C channels, token hidden T, channel hidden D. What PyTorch keeps for the backward pass:

    norm             its input SC, and LayerNorm a mean and a deviation per token, 2S
    Mixer            token mixing: input SC (a copy, transposed), GELU's input CT, second linear's input CT
                     channel mixing: input SC, GELU's input SD, second linear's input SD
                     (SwiGLU: fc1's output, the activated half and the product: 2CT and 2SD as well)
    ResMLP           token mixing: input SC; LayerScale's input SC; MLP: SC, SD, SD; LayerScale's input SC
    ablations        ResMLP's: what its interaction keeps (`_interaction`) in place of the input SC; no LayerScale where
                     there is none, and no first branch where it is removed. Mixer's: as Mixer, and "views" SC more
    gMLP             input SC, GELU's input SD, its output SD (both halves), the gate's input and output SD/2 each,
                     the second linear's input SD/2; the gate's norm 2S
    stem, head       the image; the last norm's input SC and 2S; the pooled C; of K classes log-probabilities and
                     targets

In bf16 (autocast on CUDA) linear layers and activations keep 2 bytes per number, norms (LayerNorm, Aff) keep a float32
copy of their input, loss and statistics stay in float32. Dropout and stochastic depth keep a number per image and are
left out, as are the weights themselves (`memory.py`).

How much is *written* is the output of every layer, once: what memory traffic is proportional to (`throughput.py`).
"""

import math
from dataclasses import dataclass

from allmlp.errors import BadSetting
from allmlp.models import class_mlp
from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.mixer_variants import MixerVariantConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.blocks.resmlp_ablation import ResMLPAblationConfig
from allmlp.models.config import AnyLayer, ModelConfig
from allmlp.models.layers import AnyNorm, IdentityConfig, LayerNormConfig, without_affine
from allmlp.plan.machines import NUMBER_BYTES, Precision


@dataclass(frozen=True)
class Kept:
    """Numbers kept for the backward pass: in the precision of the products, and in float32 whatever that is.
    `copies`: float32 copies that exist only beside bf16."""

    products: int
    exact: int
    copies: int = 0

    def bytes(self, precision: Precision) -> int:
        copies = self.copies if precision != "fp32" else 0
        return NUMBER_BYTES[precision] * self.products + 4 * (self.exact + copies)


def kept_by_block(block: AnyLayer, width: int, tokens: int) -> Kept:
    """What one block keeps for one image. Raises `BadSetting` for a kind of block that is not counted here."""
    plane = tokens * width  # SC
    if isinstance(block, MixerConfig):
        second = without_affine(block.norm) if block.folded else block.norm
        hidden = width * block.token_hidden + tokens * block.channel_hidden
        norms = [_norm(norm, plane, tokens) for norm in (block.norm, second)]
        return Kept(2 * plane + 2 * hidden, sum(norms))
    if isinstance(block, ResMLPConfig):
        norm = without_affine(block.norm) if block.folded else block.norm
        scales = 1 if block.folded else 2  # LayerScale
        return Kept((2 + scales) * plane + 2 * tokens * block.channel_hidden, 2 * _norm(norm, plane, tokens))
    if isinstance(block, MixerVariantConfig):
        hidden = width * block.token_hidden // block.groups + tokens * block.channel_hidden
        views = plane if block.mixing == "views" else 0
        return Kept(2 * plane + views + 2 * hidden, 2 * _norm(block.norm, plane, tokens))
    if isinstance(block, ResMLPAblationConfig):
        scales = 0 if block.layer_scale is None else block.branches
        mlp = plane + _hidden(block) * tokens * block.channel_hidden
        return Kept(_interaction(block, width, tokens) + scales * plane + mlp,
                    block.branches * _norm(block.norm, plane, tokens))
    if isinstance(block, GMLPConfig):
        hidden = tokens * block.hidden
        norm = without_affine(block.norm) if block.folded else block.norm
        gate = 2 * tokens if isinstance(block.gate_norm, LayerNormConfig) else 0  # its input is half of GELU's output
        return Kept(plane + 2 * hidden + 3 * hidden // 2, _norm(norm, plane, tokens) + gate, copies=hidden // 2)
    raise _unknown(block)


def _unknown(block: AnyLayer) -> BadSetting:
    return BadSetting(f"plan cannot count what a {block.kind!r} block keeps; it knows mixer, resmlp and gmlp")


def _hidden(block: ResMLPAblationConfig) -> int:
    """How often an MLP keeps its hidden units: before and after the activation; ReLU needs only what came out."""
    return 1 if block.activation == "relu" else 2


def _interaction(block: ResMLPAblationConfig, width: int, tokens: int) -> int:
    """Numbers that the map between patches keeps: what goes into each of its layers."""
    planes = {"removed": 0, "identity": 0, "separable": 2}.get(block.interaction, 1)
    return planes * tokens * width + _hidden(block) * width * (block.token_hidden or 0)


def _norm(norm: AnyNorm, plane: int, tokens: int) -> int:
    if isinstance(norm, IdentityConfig):
        return 0
    return plane + (2 * tokens if isinstance(norm, LayerNormConfig) else 0)


def kept_around(config: ModelConfig) -> Kept:
    """What stem, last norm, head and loss keep for one image."""
    tokens = math.prod(config.grid)
    pixels = config.in_channels * math.prod(config.image_size)
    norm = _norm(config.norm, tokens * config.width, tokens)
    return Kept(pixels + config.width + _class_mlp(config), norm + 2 * config.num_classes)


def _class_mlp(config: ModelConfig) -> int:
    """What class-MLP pooling keeps beside the class token that goes into the head. Each layer joins token and tokens
    and normalises them, and of one token keeps what ResMLP's second branch does."""
    if config.global_pool != "class_mlp":
        return 0
    width, tokens = config.out_width, math.prod(config.out_grid) + 1
    norm, scale = config.norm, getattr(config.layers[-1], "layer_scale", None) is not None
    joined = tokens * width + _norm(norm, tokens * width, tokens)
    one = width + 2 * class_mlp.EXPANSION * width + _norm(norm, width, 1)
    return class_mlp.NUM_LAYERS * (joined + one + 2 * width * scale) + _norm(norm, width, 1)


def kept_bytes(config: ModelConfig, precision: Precision, checkpointing: bool = False) -> int:
    """Bytes of one image at the end of the forward pass. With checkpointing each block keeps its input only."""
    tokens = math.prod(config.grid)
    around = kept_around(config).bytes(precision)
    if checkpointing:
        return around + sum(residual_bytes(block, precision) for block in config.layers) * tokens * config.width
    return around + sum(kept_by_block(block, config.width, tokens).bytes(precision) for block in config.layers)


def largest_block_bytes(config: ModelConfig, precision: Precision) -> int:
    """Bytes of one image of the block that keeps most: what is there while that block's backward pass runs."""
    tokens = math.prod(config.grid)
    return max(kept_by_block(block, config.width, tokens).bytes(precision) for block in config.layers)


def residual_bytes(block: AnyLayer, precision: Precision) -> int:
    """Of a number between blocks: LayerScale's float32 vectors make ResMLP's residuals float32 in bf16 too."""
    scaled = isinstance(block, ResMLPConfig | ResMLPAblationConfig) and block.layer_scale is not None
    return 4 if scaled else NUMBER_BYTES[precision]


def widest(config: ModelConfig) -> int:
    """Numbers of the largest tensor inside any block, for one image."""
    tokens = math.prod(config.grid)

    def of(block: AnyLayer) -> int:
        if isinstance(block, GMLPConfig):
            return tokens * block.hidden
        if isinstance(block, MixerVariantConfig):
            mixed = config.width * block.token_hidden // block.groups
        elif isinstance(block, MixerConfig | ResMLPConfig | ResMLPAblationConfig):
            mixed = config.width * (getattr(block, "token_hidden", None) or tokens)
        else:
            raise _unknown(block)
        return max(mixed, tokens * block.channel_hidden)

    return max(of(block) for block in config.layers)


def written(config: ModelConfig) -> int:
    """Numbers that a forward pass of one image writes: the output of every layer."""
    tokens = math.prod(config.grid)
    plane = tokens * config.width

    def of(block: AnyLayer) -> int:
        if isinstance(block, MixerConfig):
            return 6 * plane + 2 * (config.width * block.token_hidden + tokens * block.channel_hidden)
        if isinstance(block, ResMLPConfig):
            return (6 if block.folded else 8) * plane + 2 * tokens * block.channel_hidden
        if isinstance(block, MixerVariantConfig):
            hidden = config.width * block.token_hidden // block.groups + tokens * block.channel_hidden
            return (7 if block.mixing == "views" else 6) * plane + 2 * hidden
        if isinstance(block, ResMLPAblationConfig):
            between = {"removed": 0, "identity": 2, "separable": 4}.get(block.interaction, 3)
            scales = 0 if block.layer_scale is None else block.branches
            hidden = config.width * (block.token_hidden or 0) + tokens * block.channel_hidden
            return (between + 3 + scales) * plane + 2 * hidden
        if isinstance(block, GMLPConfig):
            return 3 * plane + 7 * tokens * block.hidden // 2
        raise _unknown(block)

    return 2 * plane + sum(of(block) for block in config.layers)
