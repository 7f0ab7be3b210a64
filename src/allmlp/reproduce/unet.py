"""A small U-Net (Ronneberger et al., arXiv 1505.04597), the network that heads for pixels are compared with.

Two 3 x 3 convolutions at each of three scales, the coarser ones twice as wide; on the way up nearest-neighbour doubling
with a 1 x 1 convolution, and the finer scale's features beside. Unlike the source: convolutions keep the size, batch
norm follows each of them, and no dropout.
"""

import torch
from torch import nn
from torch.nn import functional as F

from allmlp.reproduce.baselines import seeded

SCALES = 3
DIVISOR = 2 ** (SCALES - 1)  # of both sides of an image


class UNet(nn.Module):
    """Normalised images `(B, 3, H, W)`, sides divisible by `DIVISOR`, to logits `(B, num_classes, H, W)`."""

    def __init__(self, width: int, num_classes: int, seed: int = 0):
        super().__init__()
        with seeded(seed, "unet"):
            widths = [width * 2**scale for scale in range(SCALES)]
            self.down = nn.ModuleList(_two(before, after) for before, after in zip([3, *widths], widths, strict=False))
            pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
            self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for coarse, fine in pairs)
            self.up = nn.ModuleList(_two(2 * fine, fine) for _, fine in pairs)
            self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for scale, two in enumerate(self.down):
            x = two(F.max_pool2d(x, 2) if scale else x)
            kept.append(x)
        for narrow, two, beside in zip(self.narrow, self.up, kept[-2::-1], strict=True):
            x = two(torch.cat([beside, F.interpolate(narrow(x), scale_factor=2.0, mode="nearest")], 1))
        return self.head(x)


def _two(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for first in (before, after):
        layers += [nn.Conv2d(first, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)
