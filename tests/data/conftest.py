"""Image files made on the spot: noise, so that no two are the same and none compresses to nothing."""

import io
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Put = Callable[..., Path]


def noise(name: str, width: int = 6, height: int = 5) -> np.ndarray:
    """uint8 RGB `(height, width, 3)`, another one for each name."""
    return np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(name: str, width: int = 6, height: int = 5) -> bytes:
    """That noise as the bytes of a PNG file."""
    content = io.BytesIO()
    Image.fromarray(noise(name, width, height)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def noise_of() -> Callable[..., np.ndarray]:
    return noise


@pytest.fixture
def png_of() -> Callable[..., bytes]:
    return png


@pytest.fixture
def tar_of() -> Callable[..., bytes]:
    """A tar of files, name to content, by Python's tarfile."""

    def pack(members: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=form) as out:
            for name, body in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(body)
                out.addfile(info, io.BytesIO(body))
        return content.getvalue()

    return pack


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLMLP_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """`put("cat/1.png", …)` writes one image of noise for each path below `tmp_path`, with its folders."""

    def write(*paths: str, size: tuple[int, int] = (6, 5)) -> Path:
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise(path, *size)).save(tmp_path / path)
        return tmp_path

    return write


@pytest.fixture
def pets(put: Put) -> Path:
    """Split folders: 3 cats and 2 dogs to train on, one of each to validate."""
    return put("train/cat/1.png", "train/cat/2.png", "train/cat/3.png", "train/dog/1.png", "train/dog/2.png",
               "val/cat/9.png", "val/dog/9.png")


@pytest.fixture
def tree(put: Put) -> Path:
    """One tree: 10 cats, 5 dogs and a single eel."""
    return put(*(f"cat/{i}.png" for i in range(10)), *(f"dog/{i}.png" for i in range(5)), "eel/0.png")
