"""What int8 costs, block by block: each block alone in int8, all others in float32."""

from collections.abc import Callable

import numpy as np
import torch

from allmlp.models.fold import fold
from allmlp.models.model import Model
from allmlp.preprocess import to_network_input
from allmlp.quantize.calibrate import BlockRanges
from allmlp.quantize.int8 import Int8Block, quantise_block
from allmlp.quantize.parts import take_apart
from allmlp.quantize.reference import run_block


@torch.inference_mode()
def sensitivity(model: Model, ranges: tuple[BlockRanges, ...], images: np.ndarray) -> list[float]:
    """For each block, the root mean square change of the logits, over their standard deviation, when that block alone
    runs in int8. `images`: uint8 `(N, H, W, 3)` of the training set, a few are enough."""
    folded = fold(model).eval()
    blocks = [quantise_block(block, of_block) for block, of_block in zip(take_apart(model).blocks, ranges, strict=True)]
    inputs = to_network_input(images, folded.preprocess)
    exact = folded(inputs)
    spread = exact.std().item() or 1.0
    changes = []
    for number, block in enumerate(blocks):
        hook = folded.blocks[number].register_forward_hook(_in_int8(block))
        try:
            changes.append((folded(inputs) - exact).square().mean().sqrt().item() / spread)
        finally:
            hook.remove()
    return changes


def _in_int8(block: Int8Block) -> Callable[..., torch.Tensor]:
    def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.from_numpy(run_block(x_SC.numpy(), block)) for x_SC in inputs[0]])

    return hook
