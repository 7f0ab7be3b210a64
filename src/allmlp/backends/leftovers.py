"""What a killed export leaves: its hidden folder beside the place, `.NAME.1234abcd.tmp`. The next one removes it.

That is safe only where nobody is writing it. So whoever exports holds a shared lock on the folder around it, which the
system takes back from a process however that ends; and only who gets that lock for itself alone, so that nobody else
is exporting into this folder, removes anything. Where there are no such locks, all stays. What a killed export had
moved out of the way, `.NAME.1234abcd.old`, was somebody's export and always stays.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from allmlp.backends import BACKENDS
from allmlp.backends import manifest as manifests

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

PATIENCE = 5.0  # seconds to wait for one that is removing
WRITTEN = {name.partition(".")[0] for name in (manifests.NAME, *(backend.file for backend in BACKENDS.values()))}


@contextlib.contextmanager
def exporting(target: Path) -> Iterator[None]:
    """While exports are made beside `target`, an absolute path; leftovers of earlier ones are removed before."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # no folder can be made there, as whoever writes will say; or has no locks
            target.parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(target.parent, os.O_RDONLY)
            stack.callback(os.close, folder)  # which gives the lock back
            if fcntl is not None:
                if _locked(folder, fcntl.LOCK_EX):
                    for path in leftovers(target):
                        shutil.rmtree(path, ignore_errors=True)
                started = time.monotonic()
                while not _locked(folder, fcntl.LOCK_SH) and time.monotonic() - started < PATIENCE:
                    time.sleep(0.05)
        yield


def leftovers(target: Path) -> list[Path]:
    """The hidden folders of exports to `target`, and of the precisions of `auto`, each of which is exported itself."""
    one, random = rf"\.{re.escape(target.name)}", r"\.[0-9a-f]{8}\.tmp"
    names = re.compile(rf"{one}{random}|\.?{one}\.(int8|bf16|fp32){random}({random})?")
    return [path for path in target.parent.iterdir()
            if names.fullmatch(path.name) and path.is_dir() and not path.is_symlink() and _ours(path)]


def _ours(folder: Path) -> bool:
    """Whether it has the manifest of an export, or nothing yet but what is written before that."""
    return manifests.is_export(folder) or all(
        path.name.removeprefix(".").partition(".")[0] in WRITTEN for path in folder.iterdir())


def _locked(folder: int, how: int) -> bool:
    """Whether this lock is there to be had, without waiting. Raises `OSError` where there are no locks."""
    assert fcntl is not None
    try:
        fcntl.flock(folder, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
