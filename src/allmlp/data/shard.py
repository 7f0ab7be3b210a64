"""A data set as tar shards that WebDataset, img2dataset's readers, timm and `webdataset.py` read.

`train-00000.tar`, `train-00001.tar`, …, `val-00000.tar`, beside each an index (`train-00000.tar.index`, for who reads
them from afar), and `classes.json`. A sample is
- `000000017.jpg`, the file as it is, or a PNG where there is no such file;
- `000000017.json`: the label by name (a list of names of several labels, shares by name of soft ones) and the file's
  old name;
- `000000017.cls`: of one class, its number.
Images of a split are mixed in a drawn order, so that each shard has some of every class.
"""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from allmlp.data.dataset import Data, Encoded, ImageDataset, Subset, soft
from allmlp.data.image import FORMATS, examine_bytes
from allmlp.data.seeds import generator
from allmlp.data.webdataset import write_index_beside
from allmlp.errors import BadSetting, CannotWrite
from allmlp.files import write_atomically, write_text_atomically

ENDINGS = {form: f".{form.lower()}" for form in FORMATS} | {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}
IMAGES_PER_SHARD = 10_000  # as img2dataset; some 1 GB of photographs


def write_shards(data: Data, out: str | os.PathLike, images_per_shard: int = IMAGES_PER_SHARD, seed: int = 0,
                 progress: Callable[[int, int], None] | None = None) -> dict[str, int]:
    """Write `data` into the folder `out`, each shard whole or not at all; returns the number of shards of each split.

    The same data and seed give the same bytes. `progress` is called with (images done, images in all). Raises
    `CannotWrite` if something is there already or the disk refuses, and `BadData` for an image that cannot be read.
    """
    out = Path(out)
    if images_per_shard < 1:
        raise BadSetting(f"images_per_shard {images_per_shard}: expected at least 1")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CannotWrite(f"{out}: there is something already; give a new or an empty folder")
    write_text_atomically(out / "classes.json", json.dumps(list(data.classes), ensure_ascii=False))
    total, done, shards = sum(map(len, data.splits.values())), 0, {}
    for split, images in data.splits.items():
        order = generator(seed, "shards", split).permutation(len(images))
        starts = range(0, len(order), images_per_shard)
        for number, start in enumerate(starts):
            chosen = order[start : start + images_per_shard]

            def write(temporary: str, images: ImageDataset = images, chosen: np.ndarray = chosen,
                      start: int = start) -> None:
                with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
                    for place, index in enumerate(chosen.tolist()):
                        _write_sample(tar, f"{start + place:09d}", images, index)

            shard = out / f"{split}-{number:05d}.tar"
            write_atomically(shard, write)
            write_index_beside(shard)
            done += len(chosen)
            if progress is not None:
                progress(done, total)
        shards[split] = len(starts)
    return shards


def _write_sample(tar: tarfile.TarFile, key: str, images: ImageDataset, index: int) -> None:
    content, ending = _encoded(images, index)
    label = images.labels[index]
    _add(tar, f"{key}{ending}", content)
    if images.labels.ndim == 1:
        _add(tar, f"{key}.cls", str(int(label)).encode())
    about = {"label": _named(label, images), "file": PurePosixPath(Path(images.name(index)).as_posix()).name}
    _add(tar, f"{key}.json", json.dumps(about, ensure_ascii=False).encode())


def _named(label: Any, images: ImageDataset) -> Any:
    if images.labels.ndim == 1:
        return images.classes[int(label)]
    present = np.flatnonzero(label).tolist()
    if soft(images.labels):
        return {images.classes[k]: float(label[k]) for k in present}
    return [images.classes[k] for k in present]


def _encoded(images: ImageDataset, index: int) -> tuple[bytes, str]:
    """The image's file as it is, with the ending for what it is; or a PNG of an image that is no file. It is decoded in
    either case, so that no broken one gets into a shard."""
    from PIL import Image

    if isinstance(images, Subset):
        images, index = images.origin(index)
    if isinstance(images, Encoded):
        content = images.encoded(index)
        return content, ENDINGS[examine_bytes(content, images.name(index)).format]
    written = io.BytesIO()
    Image.fromarray(images.image(index)).save(written, "PNG")
    return written.getvalue(), ENDINGS["PNG"]


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Without owner, time or rights of the original, so that equal data give equal shards."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    tar.addfile(info, io.BytesIO(content))
