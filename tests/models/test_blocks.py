"""Every kind of block in the union keeps the contract, and the check finds the blocks that do not."""

import typing
from typing import ClassVar, Literal

import pytest
import torch
from pydantic import Field
from torch import nn

from allmlp.models.blocks import BlockConfig
from allmlp.models.blocks.attention import AttentionConfig
from allmlp.models.blocks.convolution import ConvolutionConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.spach import SpachConfig
from allmlp.models.blocks.sum import SumConfig
from allmlp.models.layers import AffineConfig, LayerNormConfig, Macs
from allmlp.testing import check_block
from allmlp.values import Value

KINDS = typing.get_args(typing.get_args(BlockConfig)[0])


NEEDED = {"mlp": {"token_hidden": 8}, "grouped": {"groups": 3}, "views": {"groups": 3},
          "attention": {"heads": 4}}  # beside a choice
GIVEN = {"heads": 4, "blocks": (MixerConfig(token_hidden=8, channel_hidden=8), ConvolutionConfig())}  # fields of a kind


def examples(kind: type[Value]) -> list[Value]:
    """A small block of this kind, and one for each other choice that one of its fields offers."""
    fields = kind.model_fields
    example = kind(**{name: GIVEN.get(name, 8 if field.annotation is int else 0.5) for name, field in fields.items()
                      if field.is_required()})
    found = [example]
    for name, field in fields.items():
        offered = typing.get_args(field.annotation)
        if field.annotation is bool:
            choices = [True, False]
        elif LayerNormConfig in offered:
            choices = [LayerNormConfig(), AffineConfig()]
        else:
            choices = [choice for choice in offered if isinstance(choice, str)]
        found += [example.with_(**{name: choice}, **NEEDED.get(choice, {})) for choice in choices
                  if choice != field.default]
    return found


EXAMPLES = [
    *(example for kind in KINDS for example in examples(kind)),
    AttentionConfig(heads=4, channel_hidden=8),
    ConvolutionConfig(kernel=5, channel_hidden=8, channels="full"),
    SpachConfig(mixing="attention", heads=3, channel_hidden=8, layers=3),
    SumConfig(blocks=(MixerConfig(token_hidden=8, channel_hidden=8), AttentionConfig(heads=2)), weights=(1.0, -0.5)),
]


@pytest.mark.parametrize("config", EXAMPLES, ids=str)
@pytest.mark.parametrize("grid", [(3, 5), (1, 1), (8, 1)], ids=str)
def test_every_block_in_every_choice_keeps_the_contract(config, grid):
    if config.kind == "pooling" and grid == (1, 1):
        pytest.skip("the mean over one token minus that token is zero, and no gradient comes through")
    check_block(config, grid=grid)


def test_the_examples_cover_every_kind_and_every_choice():
    assert len(KINDS) >= 3
    assert {example.kind for example in EXAMPLES} == {kind.model_fields["kind"].default for kind in KINDS}
    assert {"tanh", "erf", "swiglu"} <= {getattr(example, "activation", None) for example in EXAMPLES}


# --- blocks that break one rule each ---------------------------------------------------------------------------------


class BrokenConfig(Value):
    """A residual linear map over channels that breaks the rule named by `fault`."""

    kind: Literal["broken"] = "broken"
    fault: str
    branches: ClassVar[int] = 1

    def macs(self, width, tokens):
        return Macs(1 if self.fault == "macs" else 0, tokens * width * width)

    def build(self, width, grid, drop_paths):
        return Broken(self.fault, width, drop_paths[0])


class Broken(nn.Module):
    def __init__(self, fault, width, drop_path):
        super().__init__()
        self.fault, self.drop_path = fault, drop_path
        self.linear = nn.Linear(width, width)
        if fault == "start":
            self.scale = nn.Parameter(torch.ones(width))
        if fault == "gradient":
            self.norm = nn.LayerNorm(width)
        if fault == "norm over images":
            self.norm = nn.BatchNorm1d(width, affine=False, track_running_stats=False)

    def forward(self, x):
        if self.fault == "norm over images":
            x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        if self.fault == "start":
            x = x * self.scale
        if self.fault == "random":
            x = x + torch.randn_like(x)
        y = self.linear(x)
        if self.fault == "images":
            y = y + x.mean(0)
        if self.fault == "shape":
            return self.drop_path(y)[:, :-1]
        return x + (y if self.fault == "drop path" else self.drop_path(y))


def test_the_check_passes_the_block_without_a_fault():
    check_block(BrokenConfig(fault="none"))


@pytest.mark.parametrize(("fault", "line"), [
    ("macs", "broken: macs() says 2161, PyTorch counts 2160"),
    ("start", "broken: initialisation 'flax' leaves scale as found"),
    ("gradient", "broken: no gradient reaches norm.weight, norm.bias"),
    ("norm over images", "broken: in training an image's result depends on the others"),
    ("random", "broken: two passes in training differ"),
    ("images", "broken: in training an image's result depends on the others"),
    ("shape", "broken: gives (3, 14, 12) for (3, 15, 12)"),
    ("drop path", "broken: its 1 drop paths are used [0] times, not once each"),
])
def test_the_check_names_the_broken_rule(fault, line):
    with pytest.raises(AssertionError) as error:
        check_block(BrokenConfig(fault=fault))
    assert str(error.value).startswith(line)


def test_the_check_names_a_field_that_json_loses():
    class Forgetful(BrokenConfig):
        hidden: int = Field(default=1, exclude=True)

    with pytest.raises(AssertionError, match="broken: JSON does not give the same value back"):
        check_block(Forgetful(fault="none", hidden=2))
