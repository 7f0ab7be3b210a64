"""The parquet files of a data set on the Hugging Face Hub, by its id `owner/name` or `owner/name/config`."""

import re
from pathlib import Path

from allmlp.errors import BadData, CannotDownload

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)?")
CONVERTED = "refs/convert/parquet"  # the branch where the Hub keeps what it made of other formats


def fetch_parquet(name: str, download: bool) -> list[Path]:
    """The local copies, sorted; fetched into the Hub's own cache if `download`, else only what is there already.

    Raises `BadData` for what is no id, `CannotDownload` with what to do where something is not there.
    """
    if not HUB_ID.fullmatch(name):
        raise BadData(f"hf:{name}: neither a file or folder nor the id of a data set on the Hub (owner/name)")
    owner, repository, *config = name.split("/")
    under = f"{config[0]}/" if config else ""
    said = "not in the Hub's cache; --download fetches it"
    for revision in (None, CONVERTED):
        try:
            folder = _snapshot(f"{owner}/{repository}", revision, f"{under}*.parquet", download)
        except (OSError, ValueError, CannotDownload) as error:
            if download:
                said = " ".join(str(error).split())[:200]
            continue
        files = sorted((folder / under).rglob("*.parquet"))
        if files:
            return _one_config(name, folder / under, files)
    raise CannotDownload(f"hf:{name}: {said}; or give a folder with its .parquet files: hf:FOLDER")


def _snapshot(repository: str, revision: str | None, pattern: str, download: bool) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(huggingface_hub.snapshot_download(repository, repo_type="dataset", revision=revision,
                                                      allow_patterns=pattern, local_files_only=not download))
    except HfHubHTTPError as error:
        raise CannotDownload(str(error)) from None
    except Exception as error:  # of the network: httpx's, which huggingface_hub passes through
        if isinstance(error, OSError | ValueError):
            raise
        raise CannotDownload(f"{type(error).__name__}: {error}") from None


def _one_config(name: str, folder: Path, files: list[Path]) -> list[Path]:
    """Raises `BadData` where the files are of several configurations, which are data sets of their own."""
    first = {file.relative_to(folder).parts[0] for file in files if len(file.relative_to(folder).parts) > 2}
    if len(first) > 1:
        raise BadData(f"hf:{name}: it has the configurations {', '.join(sorted(first)[:10])}; give one of them: "
                      f"hf:{name}/{min(first)}")
    return files
