"""What all exported networks share as predictors: checking what comes in, and cutting it into batches."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from allmlp.backends.manifest import Manifest
from allmlp.errors import BadCheckpoint, BadData, printable

MAX_BATCH = 64  # larger requests are computed in parts, to bound memory


def refused(path: Path, runtime: str, error: Exception) -> BadCheckpoint:
    """What to raise for an error of a runtime's own, which is about the file."""
    said = printable(" ".join(str(error).split()), 200)
    return BadCheckpoint(f"{path}: {runtime} refuses it: {said}; export the network again")


class ExportPredictor:
    """`path`: the exported file. `run` takes uint8 `(N, H, W, 3)`, 1 <= N <= `MAX_BATCH`, and gives float32 `(N, K)`.
    `remark`: what a person should know of how this machine runs it."""

    def __init__(self, path: Path, manifest: Manifest, run: Callable[[np.ndarray], np.ndarray],
                 remark: str | None = None):
        self.path = path
        self.remark = remark
        self.manifest = manifest
        self.preprocess = manifest.preprocess
        self.classes = manifest.classes
        self.output = manifest.output
        self.task = "classification" if manifest.other_sizes is None else "segmentation"
        self.other_sizes = manifest.other_sizes or "windows"
        self.run = run

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 `(N, H, W, 3)` to float32 logits `(N, K)`, or `(N, K, H, W)`."""
        height, width = self.preprocess.image_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (height, width, 3):
            raise BadData(f"expected uint8 (N, {height}, {width}, 3), got {images.dtype} {images.shape}")
        each = (self.manifest.num_classes, *((height, width) if self.task == "segmentation" else ()))
        parts = [np.empty((0, *each), np.float32)]
        for start in range(0, len(images), MAX_BATCH):
            batch = np.ascontiguousarray(images[start : start + MAX_BATCH])
            try:
                logits = np.asarray(self.run(batch))
            except Exception as error:  # a runtime's own classes; what comes in was checked, so it is the file
                raise BadCheckpoint(f"{self.path}: cannot be run: {printable(error, 200)}; export the network "
                                    "again") from None
            if logits.shape != (len(batch), *each):
                raise BadCheckpoint(f"{self.path}: gives {logits.shape} for {len(batch)} images, and its manifest "
                                    f"says {self.manifest.num_classes} classes; export the network again")
            parts.append(logits.astype(np.float32, copy=False))
        return np.concatenate(parts)
