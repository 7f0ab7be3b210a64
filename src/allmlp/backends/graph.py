"""A network with its preprocessing as one graph, which PyTorch hands to the runtimes: uint8 images in, logits out.

Axes: N images, H W pixels, K classes.
"""

import copy
from collections.abc import Callable

import torch
from torch import nn

from allmlp.backends.manifest import check_classes
from allmlp.errors import BadSetting
from allmlp.models.fold import fold
from allmlp.models.model import Model
from allmlp.preprocess import normalise


class PixelsToLogits(nn.Module):
    """uint8 `(N, H, W, 3)` to float32 `(N, K)`; the network inside is folded and computes in `dtype`."""

    def __init__(self, model: Model, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.network = fold(copy.deepcopy(model).float()).eval().to("cpu", dtype)
        self.preprocess = model.preprocess
        self.dtype = dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = normalise(images.permute(0, 3, 1, 2), self.preprocess)
        return self.network(pixels.to(self.dtype)).float()


FOR_PIXELS = ("onnx", "pt2")  # what networks for segmentation can be exported to, in fp32


def check_exportable(model: Model, backend: str, precision: str) -> None:
    """Raises `BadSetting` for a network that does not turn pictures into logits, or not with this backend, or whose
    class names no manifest can hold."""
    if model.config.segment is not None and (backend not in FOR_PIXELS or precision != "fp32"):
        raise BadSetting(f"a network for segmentation can be exported to {' and '.join(FOR_PIXELS)}, in fp32, not to "
                         f"{backend} in {precision}")
    if not model.num_classes:
        raise BadSetting("an export answers with classes, and this network has none; give it some by "
                         "`allmlp train --init`")
    check_classes(model.classes)
    if model.global_pool != "avg" and model.config.segment is None:
        raise BadSetting(f"an export answers for whole images, and this network has global_pool "
                         f"{model.global_pool!r}; use 'avg'")
    if model.preprocess.channels != model.config.in_channels:
        raise BadSetting(f"an export takes RGB images for networks with 1 or 3 input channels, not "
                         f"{model.config.in_channels}")


@torch.no_grad()
def capture(
    model: Model, dtype: torch.dtype = torch.float32, max_batch: int | None = None,
    prepare: Callable[[nn.Module], None] = lambda network: None,
) -> torch.export.ExportedProgram:
    """The graph for any number of images, at most `max_batch`, and without a trace of where our source lies.

    `prepare` may change the network, which is a copy, in place before."""
    example = torch.zeros(2, *model.preprocess.image_size, 3, dtype=torch.uint8)  # of 1, the number would be a constant
    batch = torch.export.Dim("batch", min=1, max=max_batch)
    pixels_to_logits = PixelsToLogits(model, dtype).eval()
    prepare(pixels_to_logits)
    program = torch.export.export(pixels_to_logits, (example,), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program
