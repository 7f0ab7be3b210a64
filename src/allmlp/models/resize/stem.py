"""The stem for patches of another size and for another number of channels.

**Patch size** (FlexiViT, arXiv 2212.08013, "PI-resize"). Let B be the bilinear resampling of a patch to the new size.
The new kernel v is to give <Bx, v> = <x, w> for every patch x, that is B^T v = w: v is the pseudo-inverse of B^T times
w. For larger patches this is exact: a patch that was enlarged bilinearly gives the same token. For smaller ones it is
the best in the mean over patches of independent pixels. B works along each side alone, and so does its pseudo-inverse.

**Channels.** A network with one input channel sees an RGB picture's luma, and both kinds normalise (`preprocess`). All
that is linear, so the rules hold from the picture's pixels on:
- 3 to 1: the sum of the kernels, each times what its own normalisation differs by. A grey picture gives the same
  tokens. (Where mean and deviation are equal for all channels, as in [-1, 1], this is the plain sum.)
- 1 to 3: the kernel times luma's weights. Every picture gives the same tokens.
- otherwise: each new channel gets the sum of the old kernels divided by the new number of channels. Inputs that are the
  same in all channels give the same tokens.
"""

import torch

from allmlp.models.resize.resampling import along, interpolation
from allmlp.preprocess import LUMA, Preprocess


def resample_patch(weight_OIHW: torch.Tensor, patch_size: tuple[int, int]) -> torch.Tensor:
    """The kernel for patches of another (height, width) in pixels, in float64."""
    for axis, size in zip((2, 3), patch_size, strict=True):
        old = weight_OIHW.shape[axis]
        if size != old:
            weight_OIHW = along(weight_OIHW, axis, torch.linalg.pinv(interpolation(old, size, "bilinear").T))
    return weight_OIHW


def change_channels(
    weight_OIHW: torch.Tensor, bias_O: torch.Tensor, channels: int, preprocess: Preprocess
) -> tuple[torch.Tensor, torch.Tensor]:
    """Kernel and bias for another number of input channels. `preprocess`: the three channels' mean and deviation."""
    old = weight_OIHW.shape[1]
    luma, mean, std = (torch.tensor(values, dtype=weight_OIHW.dtype, device=weight_OIHW.device)
                       for values in (LUMA, preprocess.mean, preprocess.std))
    grey_mean, grey_std = luma @ mean, luma @ std  # as `preprocess.normalise` has them
    if (old, channels) == (3, 1):
        # A grey value g is (g - grey_mean) / grey_std to the new network, and was (g - mean) / std to the old one.
        scaled = torch.einsum("oihw,i->ohw", weight_OIHW, grey_std / std)
        shift = torch.einsum("oihw,i->o", weight_OIHW, (grey_mean - mean) / std)
        return scaled[:, None], bias_O + shift
    if (old, channels) == (1, 3):
        return weight_OIHW * (luma * std / grey_std)[:, None, None], bias_O
    return (weight_OIHW.sum(1, keepdim=True) / channels).expand(-1, channels, -1, -1).contiguous(), bias_O
