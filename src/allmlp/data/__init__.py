"""Where images come from. `open_data` turns what a person writes for DATA into a `Data`: a name or a folder."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from allmlp.data.dataset import Data
from allmlp.errors import BadData, UnknownName


def _digits() -> Data:
    from allmlp.data.digits import open_digits

    return open_digits()


SOURCES: dict[str, Callable[[], Data]] = {"digits": _digits}  # anything else is a folder


def open_data(
    source: str,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    skip_bad: bool = False,
    split_files: Mapping[str, Sequence[str]] | None = None,
) -> Data:
    """The data set that `source` means: one of `SOURCES`, else a folder (see `imagefolder.open_folder`).

    The other arguments apply to folders; a named source has its own fixed splits. Raises
    `UnknownName` for what is neither a name nor a folder, and `BadData` for a folder that cannot be used.
    """
    if source in SOURCES:
        return SOURCES[source]()
    folder = Path(source).expanduser()
    if not source.strip():
        raise BadData(f"no data given; accepted: a folder of images or {', '.join(SOURCES)}")
    if not folder.exists():
        raise _unknown(source, folder)
    from allmlp.data.imagefolder import open_folder

    return open_folder(folder, val_fraction=val_fraction, seed=seed, skip_bad=skip_bad, split_files=split_files)


def _unknown(source: str, folder: Path) -> UnknownName:
    """The error for a source that does not exist, with names and folders nearby that are spelt alike."""
    near = difflib.get_close_matches(source, SOURCES, cutoff=0.5)
    try:
        beside = [path.name for path in folder.parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        beside = []
    near += [str(folder.parent / name) for name in difflib.get_close_matches(folder.name, beside, cutoff=0.6)]
    choice = f"did you mean {' or '.join(near[:5])}?" if near else f"accepted: a folder or {', '.join(SOURCES)}"
    return UnknownName(f"unknown data {source!r}, no folder and no name of a data set; {choice}")
