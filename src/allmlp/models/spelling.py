"""Sequences of blocks in words: "mixer,attention" in turn, "mixer*4,attention*2", "mixer+attention" side by side.

    sequence   terms after one another, with commas; a term may stand `*N` times
    term       one word, or several with `+`: the mean of those blocks; `~` in place of `+`: with learned weights
    word       mixer, resmlp, gmlp, attention, convolution, full_convolution, pooling, shift, identity: blocks with a
               channel MLP of their own; conv, full_conv: a bare convolution, to stand after any layer; merging: 2 x 2
               tokens become one of twice the channels

What words leave open is of the usual shape: the same hidden width for every channel MLP, token MLPs of half the width
as in Mixer's table 1, heads of 32 channels as far as the width lets them. Everything else (kernels, weights of a sum,
widths of a stage) has its config.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from allmlp.errors import BadSetting, printable, unknown_name
from allmlp.models.blocks import AnyBlock
from allmlp.models.blocks.attention import AttentionConfig
from allmlp.models.blocks.convolution import ConvolutionConfig
from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.pooling import IdentityMixingConfig, PoolingConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.blocks.shift import ShiftConfig
from allmlp.models.blocks.sum import SumConfig
from allmlp.models.config import AnyLayer, ModelConfig
from allmlp.models.layers import Gelu
from allmlp.models.merging import MergingConfig

HEAD = 32  # channels
MOST_LAYERS = 1024
WORDS = ("mixer", "resmlp", "gmlp", "attention", "convolution", "full_convolution", "pooling", "shift", "identity",
         "conv", "full_conv", "merging")  # fmt: skip


def spelled_blocks(text: str, width: int, channel_hidden: int | None = None, token_hidden: int | None = None,
                   heads: int | None = None, activation: Gelu = "erf") -> tuple[AnyLayer, ...]:
    """The layers that `text` spells, for tokens of `width` channels.

    None: channel MLPs of 4 times the width, token MLPs of half of it, heads of about `HEAD` channels. Behind `merging`
    channel MLPs and heads double with the width; token MLPs stay. Raises `UnknownName` for a word that is none,
    `BadSetting` for another slip.
    """
    layers: list[AnyLayer] = []
    sizes = Sizes(width, channel_hidden or 4 * width, token_hidden or max(width // 2, 1), heads, activation)
    for term in text.split(","):
        words, times, count = term.strip().partition("*")
        if times and not (count.strip().isascii() and count.strip().isdigit() and 0 < int(count) <= MOST_LAYERS):
            raise BadSetting(f"blocks {printable(text, 80)!r}: {printable(term.strip(), 40)!r} wants a number "
                             f"of layers from 1 to {MOST_LAYERS} behind its *, as in mixer*4")
        for _ in range(int(count) if times else 1):
            layers.append(_term(words.strip(), sizes, text))
            if isinstance(layers[-1], MergingConfig):
                sizes = sizes.doubled()
            if len(layers) > MOST_LAYERS:
                raise BadSetting(f"blocks {printable(text, 80)!r}: more than {MOST_LAYERS} layers, which is the limit")
    return tuple(layers)


def respelled(config: ModelConfig, text: str) -> ModelConfig:
    """`config` with the blocks that `text` spells, of the sizes that its own first block has.

    Without `*` and `merging` they take turns up to the depth; otherwise they are all the layers. Raises as
    `spelled_blocks` does.
    """
    first = config.blocks[0]
    hidden = getattr(first, "channel_hidden", None) or getattr(first, "hidden", None)
    blocks = spelled_blocks(text, config.width, hidden, getattr(first, "token_hidden", None),
                            activation="tanh" if first.activation == "tanh" else "erf")
    complete = "*" in text or any(isinstance(block, MergingConfig) for block in blocks)
    return config.with_(blocks=blocks, depth=len(blocks) if complete else max(config.depth, len(blocks)))


@dataclass(frozen=True)
class Sizes:
    """What the words leave open, at one stage."""

    width: int
    channel: int
    token: int
    heads: int | None
    activation: Gelu

    def doubled(self) -> "Sizes":
        return replace(self, width=2 * self.width, channel=2 * self.channel, heads=self.heads and 2 * self.heads)

    @property
    def number_of_heads(self) -> int:
        """Of those that divide the width the largest number that leaves each `HEAD` channels; else 1."""
        return self.heads or max((n for n in range(1, self.width // HEAD + 1) if self.width % n == 0), default=1)


def _term(words: str, sizes: Sizes, text: str) -> AnyLayer:
    marks = set(re.findall(r"[+~]", words))
    if not marks:
        return _block(words, sizes)
    if len(marks) > 1:
        raise BadSetting(f"blocks {printable(text, 80)!r}: a sum has fixed (+) or learned (~) weights, not both")
    blocks = [_block(word.strip(), sizes) for word in re.split(r"[+~]", words)]
    if any(isinstance(block, MergingConfig) for block in blocks):
        raise BadSetting(f"blocks {printable(text, 80)!r}: merging stands alone, as it changes the grid; write it "
                         "between commas")
    return SumConfig(blocks=tuple(block for block in blocks if not isinstance(block, MergingConfig)),
                     learned="~" in marks)  # fmt: skip


def _block(word: str, sizes: Sizes) -> AnyBlock | MergingConfig:
    hidden: Mapping[str, Any] = {"channel_hidden": sizes.channel, "activation": sizes.activation}
    bare: Mapping[str, Any] = {"activation": sizes.activation}
    made: Mapping[str, Callable[[], AnyBlock | MergingConfig]] = {
        "mixer": lambda: MixerConfig(token_hidden=sizes.token, **hidden),
        "resmlp": lambda: ResMLPConfig(layer_scale=0.1, **hidden),
        "gmlp": lambda: GMLPConfig(hidden=sizes.channel, **bare),
        "attention": lambda: AttentionConfig(heads=sizes.number_of_heads, **hidden),
        "convolution": lambda: ConvolutionConfig(**hidden),
        "full_convolution": lambda: ConvolutionConfig(channels="full", **hidden),
        "pooling": lambda: PoolingConfig(**hidden),
        "shift": lambda: ShiftConfig(**hidden),
        "identity": lambda: IdentityMixingConfig(**hidden),
        "conv": lambda: ConvolutionConfig(**bare),
        "full_conv": lambda: ConvolutionConfig(channels="full", **bare),
        "merging": MergingConfig,
    }
    assert tuple(made) == WORDS
    if word not in made:
        raise unknown_name("block", word, WORDS, "with commas, as in mixer,attention")
    return made[word]()
