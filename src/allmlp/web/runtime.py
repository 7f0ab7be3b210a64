"""ONNX Runtime for browsers: the files of it that the page needs, two for WebAssembly and two for WebGPU, found here or
fetched once.

They come from the npm package onnxruntime-web (MIT licence) of one version; digests are checked, so it does not matter
who hands them over. They lie in the cache afterwards, and every page gets a copy: nothing is loaded from elsewhere.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from allmlp.errors import BadSetting, CannotDownload
from allmlp.files import write_bytes_atomically

VERSION = "1.30.0"
FILES = {  # SHA-256
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    "ort.webgpu.bundle.min.mjs": "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
FETCH_SECONDS = 600


def runtime_files(folder: str | os.PathLike | None = None) -> dict[str, Path]:
    """Where each of `FILES` lies: in `folder` (an unpacked onnxruntime-web, or its dist/), else in the cache, to which
    npm fetches them first. Raises `BadSetting` for a folder without them, `CannotDownload`."""
    if folder is not None:
        for place in (Path(folder), Path(folder) / "dist", Path(folder) / "package" / "dist"):
            if all((place / name).is_file() for name in FILES):
                _check(place)
                return {name: place / name for name in FILES}
        raise BadSetting(f"--runtime {folder}: {' and '.join(FILES)} are not in it; give the folder of the unpacked "
                         f"npm package onnxruntime-web {VERSION}")
    cache = cache_folder()
    if not all((cache / name).is_file() for name in FILES):
        _fetch(cache)
    _check(cache)
    return {name: cache / name for name in FILES}


def cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "allmlp" / f"onnxruntime-web-{VERSION}"


def _fetch(cache: Path) -> None:
    by_hand = (f"fetch the npm package onnxruntime-web {VERSION} (`npm pack onnxruntime-web@{VERSION}`), unpack it and "
               "give its folder as --runtime")
    npm = shutil.which("npm")
    if npm is None:
        raise CannotDownload("the page needs ONNX Runtime for browsers, which npm fetches, and there is no npm; "
                             f"{by_hand}")
    with tempfile.TemporaryDirectory() as temporary:
        try:
            subprocess.run([npm, "pack", "--silent", f"onnxruntime-web@{VERSION}"], cwd=temporary, check=True,
                           capture_output=True, timeout=FETCH_SECONDS)
            (archive,) = Path(temporary).glob("*.tgz")
            with tarfile.open(archive) as tar:
                for name in FILES:
                    source = tar.extractfile(f"package/dist/{name}")
                    assert source is not None
                    content = source.read()
                    write_bytes_atomically(cache / name, content)
        except (subprocess.SubprocessError, OSError, ValueError, KeyError, tarfile.TarError) as error:
            raise CannotDownload(f"npm did not fetch onnxruntime-web {VERSION} ({type(error).__name__}); "
                                 f"{by_hand}") from None


def _check(folder: Path) -> None:
    for name, wanted in FILES.items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != wanted:
            raise BadSetting(f"{folder / name}: not that of onnxruntime-web {VERSION} (its SHA-256 is {found[:16]}…); "
                             "remove it, or give the right folder as --runtime")
