"""Files that lie on a web server, kept in a cache on disk that never grows beyond its limit.

What was used least recently goes first. A file is fetched whole, by one process while the others wait for it; one that
is open elsewhere may be removed, as its reader keeps it. Only http and https: a `pipe:` address, as the WebDataset
library accepts, is a command that would be run.
"""

import contextlib
import hashlib
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path

from allmlp.errors import BadData, BadSetting, CannotDownload, CannotWrite
from allmlp.files import write_atomically

CACHE, CACHE_GB = "ALLMLP_CACHE", "ALLMLP_CACHE_GB"  # environment: the folder, and how much may lie in it
DEFAULT_GB = 20.0
WINDOW_SHARE = 0.5  # of the cache for what is drawn from now; the rest for what comes next and what was just used
TIMEOUT_S = 60
TRIES = 3
CHUNK = 1 << 20


def cache_folder() -> Path:
    """$ALLMLP_CACHE, else `allmlp` in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(CACHE) or Path(home) / "allmlp").expanduser()


def cache_bytes() -> int:
    """How much may lie in the cache of remote files. Raises `BadSetting` for what is no size."""
    text = os.environ.get(CACHE_GB, str(DEFAULT_GB))
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise BadSetting(f"{CACHE_GB}={text!r}: expected the size of the cache in GB, such as {DEFAULT_GB:g}")
    return int(limit * 1e9)


def fetched(url: str) -> Path:
    """The file at `url`, fetched if it is not in the cache. Raises `CannotDownload`, `BadData` for an address that is
    none, and `CannotWrite` for a full disk."""
    import filelock

    check_address(url)
    path = cache_folder() / "remote" / f"{hashlib.sha256(url.encode()).hexdigest()[:24]}.tar"
    if _used(path):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path.with_suffix(".lock"))
    except OSError as error:
        raise CannotWrite(f"{path.parent}: cannot be written: {error.strerror or error}; {CACHE} names another "
                          "place") from None
    with lock:
        if not _used(path):  # another process may have fetched it meanwhile
            write_atomically(path, lambda temporary: _download(url, Path(temporary)))
    return path


def fetched_small(url: str, limit: int) -> bytes | None:
    """The content of a file of at most `limit` bytes; None if it is not there, larger, or cannot be had."""
    try:
        with urllib.request.urlopen(_request(url), timeout=TIMEOUT_S) as response:
            content = response.read(limit + 1)
    except (OSError, HTTPException, ValueError):  # urllib's errors are OSErrors
        return None
    return content if len(content) <= limit else None


def _request(url: str) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"User-Agent": "allmlp"})


def check_address(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BadData(f"{url}: accepted are http:// and https:// addresses and files; nothing is run to get data")


def _used(path: Path) -> bool:
    """Whether the file is there; if so it is the most recently used one."""
    try:
        os.utime(path)
    except OSError:
        return False
    return True


def _download(url: str, to: Path) -> None:
    limit = cache_bytes()
    said = ""
    for _ in range(TRIES):
        try:
            with urllib.request.urlopen(_request(url), timeout=TIMEOUT_S) as response, open(to, "wb") as file:
                size = int(response.headers.get("Content-Length") or -1)
                _make_room(to.parent, max(size, 0), limit, url)
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    if size < 0:  # not said beforehand, so room is made as it comes
                        _make_room(to.parent, file.tell(), limit, url)
                    elif file.tell() > size:
                        break
                if size in (-1, file.tell()):
                    return
                said = f"{file.tell()} of {size} bytes came"
        except urllib.error.HTTPError as error:
            said = f"{error.code} {error.reason}"
            if error.code < 500:  # asking again does not help
                break
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ValueError) as error:
            said = " ".join(str(getattr(error, "reason", error)).split())[:120] or type(error).__name__
    raise CannotDownload(f"{url}: cannot be downloaded ({said})")


def _make_room(folder: Path, wanted: int, limit: int, url: str) -> None:
    """Remove what was used least recently until `wanted` bytes more stay within `limit`."""
    if wanted > limit:
        raise CannotDownload(f"{url}: larger than the cache of {limit / 1e9:g} GB; {CACHE_GB} sets its size")
    found = []
    for path in folder.glob("*.tar"):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total + wanted <= limit:
            break
        path.unlink(missing_ok=True)
        total -= size
    if shutil.disk_usage(folder).free < wanted:
        raise CannotWrite(f"{folder}: the disk has no room for {wanted / 1e9:.2f} GB; free some, or set {CACHE}")
