"""gMLP's first layer as two, one for each half of the hidden channels: ExecuTorch cannot cut a tensor into halves where
the number of images is free. The same numbers come out.

Axes: B batch, S tokens, C channels, F hidden.
"""

import torch
from torch import nn

from allmlp.models.blocks.gmlp import GatedMlp


class TwoHalves(nn.Module):
    """What a `GatedMlp` computes, `(B, S, C) -> (B, S, C)`, without `chunk`."""

    def __init__(self, mlp: GatedMlp):
        super().__init__()
        self.carrier, self.gate = (_linear(weight, bias) for weight, bias in zip(
            mlp.fc1.weight.detach().chunk(2), mlp.fc1.bias.detach().chunk(2), strict=True))
        self.act, self.norm, self.proj, self.fc2 = mlp.act, mlp.gate.norm, mlp.gate.proj, mlp.fc2

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        gate_BFS = self.norm(self.act(self.gate(x_BSC))).transpose(1, 2)
        return self.fc2(self.act(self.carrier(x_BSC)) * self.proj(gate_BFS).transpose(1, 2))


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return layer


def without_chunks(network: nn.Module) -> None:
    """Replace every `GatedMlp` in `network`, in place."""
    for module in [*network.modules()]:
        for name, child in module.named_children():
            if isinstance(child, GatedMlp):
                setattr(module, name, TwoHalves(child))
