"""PatchCamelyon: images of 96 x 96 in HDF5 files of gigabytes, read one at a time with h5py."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from allmlp.errors import BadData

SIDE = 96
CLASSES = ("no tumour tissue", "tumour tissue")  # in the central 32 x 32 pixels


@dataclass(frozen=True, eq=False)
class H5Images:
    """The images `x`, uint8 `(N, H, W, 3)`, of an HDF5 file, which is opened for each: an open one cannot be shared
    between processes."""

    file: Path
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        import h5py

        try:
            with h5py.File(self.file, "r") as found:
                return np.asarray(found["x"][index])  # pyright: ignore[reportIndexIssue]
        except (OSError, KeyError, RuntimeError) as error:
            raise BadData(f"{self.name(index)}: cannot be read ({error})") from None

    def name(self, index: int) -> str:
        return f"{self.file}/{index}"

    def key(self, index: int) -> str:
        return f"{self.file.name}/{index}"


def open_pcam(kind: Any, root: Path) -> dict[str, H5Images]:
    """Its three splits; `kind`, torchvision's class, knows the names of the files. Raises `BadData`."""
    import h5py

    splits = {}
    for split in ("train", "val", "test"):
        images, targets = (root / "pcam" / kind._FILES[split][part][0] for part in ("images", "targets"))
        with h5py.File(images, "r") as found, h5py.File(targets, "r") as told:
            x: Any = found["x"]
            labels = np.asarray(told["y"]).reshape(-1).astype(np.int64)
            if x.shape != (len(labels), SIDE, SIDE, 3) or x.dtype != np.uint8 or not np.isin(labels, (0, 1)).all():
                raise BadData(f"{images}: {x.shape} of {x.dtype} for {len(labels)} labels, expected uint8 "
                              f"(N, {SIDE}, {SIDE}, 3)")
        splits[split] = H5Images(images, labels, CLASSES)
    return splits
