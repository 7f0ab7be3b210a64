"""Published weights, from the cache or the network. Each file is fetched once, whole, and checked where it can be.

The cache is `cache_dir`, else `$ALLMLP_HOME`, else torch.hub's `checkpoints`; what comes from the Hugging Face Hub is
kept in its own cache (or in `cache_dir`). A file put into the cache by hand under the weights' name is found too.
`HF_HUB_OFFLINE=1` forbids every download.
"""

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
import torch
from filelock import FileLock
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from rich.console import Console
from rich.progress import Progress

from allmlp import __version__
from allmlp.errors import CannotDownload
from allmlp.weights.catalogue import Published

HUB_FILE = "model.safetensors"
TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 20
MIB = 1 << 20


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Where downloads are kept and files put by hand are looked for."""
    home = cache_dir or os.environ.get("ALLMLP_HOME")
    return Path(home) if home else Path(torch.hub.get_dir()) / "checkpoints"


def find_on_disk(row: Published, cache_dir: str | Path | None = None) -> Path | None:
    """The weights' file if it is on this machine: under their name, under the publisher's, or in the Hub's cache."""
    folder = cache_folder(cache_dir)
    names = [f"{row.name}.safetensors"]
    if row.url:
        names.append(f"{row.name}{Path(row.url).suffix}")
        if row.layout != "google npz":  # Google has several files called Mixer-B_16.npz
            names.append(Path(row.url).name)
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None and row.hub_id:
        cached = huggingface_hub.try_to_load_from_cache(row.hub_id, HUB_FILE, cache_dir)
        found = Path(cached) if isinstance(cached, str) else None
    return found


def fetch(row: Published, cache_dir: str | Path | None = None) -> Path:
    """The weights' file, downloaded unless it is on disk: from the Hub where it is there, else from its address.

    Raises `CannotDownload` in one line that says what to get, from where, and where to put it.
    """
    found = find_on_disk(row, cache_dir)
    if found is not None:
        return found
    folder = cache_folder(cache_dir)
    ways = []
    if row.hub_id:
        ways.append(f"{huggingface_hub.hf_hub_url(row.hub_id, HUB_FILE)} as {folder / row.name}.safetensors")
    if row.url:
        ways.append(f"{row.url} as {folder / row.name}{Path(row.url).suffix}")
    try:
        refuse_when_offline()
        if row.hub_id:
            return from_hub(row.hub_id, [HUB_FILE], cache_dir=cache_dir)
        assert row.url is not None, "a row without any address"
        path = folder / f"{row.name}{Path(row.url).suffix}"
        download(row.url, path, row.sha256, row.size_mib)
        return path
    except CannotDownload as error:
        raise CannotDownload(f"{row.name}: {error}; to do without a network, get {' or '.join(ways)} "
                             f"({row.size_mib:.0f} MiB)") from None


def refuse_when_offline() -> None:
    """Raises `CannotDownload` where the Hub's client is told to stay offline, be it after it was imported."""
    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in constants.ENV_VARS_TRUE_VALUES:
        raise CannotDownload("not downloaded, since HF_HUB_OFFLINE is set")


def from_hub(
    repo_id: str, files: Sequence[str], revision: str | None = None, cache_dir: str | Path | None = None
) -> Path:
    """The first of `files` that a repository on the Hub has, by the Hub's client, which resumes, checks and caches.

    Raises `CannotDownload`, and without a network at once: the client would ask six times and print each failure.
    """
    endpoint = os.environ.get("HF_ENDPOINT")
    for file in files:
        try:
            if not isinstance(huggingface_hub.try_to_load_from_cache(repo_id, file, cache_dir, revision), str):
                refuse_when_offline()
                url = huggingface_hub.hf_hub_url(repo_id, file, revision=revision, endpoint=endpoint)
                huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT_SECONDS)
            return Path(huggingface_hub.hf_hub_download(
                repo_id, file, revision=revision, cache_dir=cache_dir, endpoint=endpoint,
                library_name="allmlp", library_version=__version__))
        except LocalEntryNotFoundError:
            raise CannotDownload(f"{repo_id} is not in the cache, and the Hugging Face Hub cannot be asked") from None
        except EntryNotFoundError:
            continue
        except CannotDownload:
            raise
        except Exception as error:  # those of the client's HTTP library, which have changed with its versions
            raise CannotDownload(f"{repo_id} could not be fetched from the Hugging Face Hub "
                                 f"({_short(error)})") from None
    raise CannotDownload(f"{repo_id} on the Hugging Face Hub has no {' or '.join(files)}")


def download(url: str, path: Path, sha256: str | None = None, size_mib: float | None = None) -> None:
    """Fetch `url` to `path`. A transfer that breaks off is kept beside it, hidden, and gone on with by the next call.

    `sha256`: first digits of the checksum. `size_mib`: about; a page of a network's sign-in in its place is refused.
    Raises `CannotDownload`.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):  # of two processes, one downloads and one waits
            if path.exists():
                return
            _transfer(url, part, size_mib)
            _check(part, sha256)
            os.replace(part, path)
    except urllib.error.HTTPError as error:
        error.close()
        raise CannotDownload(f"{url} answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        kept = f"; {part.stat().st_size / MIB:.1f} MiB are kept, ask again to go on" if part.exists() else ""
        raise CannotDownload(f"{url} could not be fetched ({_short(error)}){kept}") from None


def _transfer(url: str, part: Path, size_mib: float | None) -> None:
    """Add to `part` what it lacks of `url`."""
    with _open(url, part) as answer:
        start = part.stat().st_size if answer.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        if total is not None and size_mib is not None and not 0.4 < total / MIB / size_mib < 1.6:
            raise CannotDownload(f"{url} gives {total / MIB:.2f} MiB where about {size_mib:.2f} are expected")
        with open(part, "ab" if start else "wb") as file, _progress() as progress:
            task = progress.add_task(url.rpartition("/")[2], total=total, completed=start)
            while chunk := answer.read(CHUNK_BYTES):
                file.write(chunk)
                progress.advance(task, len(chunk))
            arrived = file.tell()
    if total is not None and arrived != total:
        raise OSError(f"the connection broke off after {arrived} of {total} bytes")


def _open(url: str, part: Path) -> http.client.HTTPResponse:
    """The answer to a request for what `part` lacks. One that is longer than the file is no part of it, and removed."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"allmlp/{__version__}", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if not start or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        part.unlink()
        return _open(url, part)


def _check(part: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    with open(part, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(sha256):
        part.unlink()
        raise CannotDownload(f"what arrived has the checksum {digest[: len(sha256)]}…, not {sha256}…, and was removed")


def _progress() -> Progress:
    return Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _short(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(reason).split())[:200] or type(error).__name__
