"""What planning needs to know of a network, counted once for each: a plan asks for it some hundred times."""

from dataclasses import dataclass
from functools import cache

from allmlp.inspection.flops import count_macs, on_meta
from allmlp.models.config import ModelConfig
from allmlp.plan.activations import written


@dataclass(frozen=True)
class Counts:
    """`flops` and `written` (the numbers that layers put out) are of one image's forward pass."""

    weights: int
    largest_layer: int  # weights of what FSDP puts together at once: the largest block, or all outside of blocks
    flops: int
    written: int


def counts(config: ModelConfig) -> Counts:
    return _counts(config.to_json())


@cache
def _counts(config_json: str) -> Counts:
    config = ModelConfig.from_json(config_json)
    model = on_meta(config)
    weights = sum(weight.numel() for weight in model.parameters())
    blocks = [sum(weight.numel() for weight in block.parameters()) for block in model.blocks]
    return Counts(weights, max(*blocks, weights - sum(blocks)), 2 * count_macs(config), written(config))
