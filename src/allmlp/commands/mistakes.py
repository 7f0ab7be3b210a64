"""How an error of a command is told: in one line, with what else the command has to say."""

import argparse
import errno
import re

from allmlp.errors import AllMLPError, BadImage, printable

OUT_OF_REACH = (errno.EACCES, errno.ENAMETOOLONG)  # of a place that was given


def in_one_line(error: AllMLPError | OSError, options: argparse.Namespace) -> str | None:
    """None for what is not the user's mistake."""
    if isinstance(error, OSError):
        if error.filename is None or error.errno not in OUT_OF_REACH:
            return None
        return f"{printable(error.filename)}: {error.strerror}; give a place that can be reached"
    hint = "; --skip-bad goes on without such files" if isinstance(error, BadImage) and skips(options) else ""
    return f"{error}{hint}"


def out_of_memory(error: MemoryError | RuntimeError) -> str | None:
    """One line where there was not enough memory, as Python, numpy and PyTorch say that; None for any other error."""
    said = " ".join(str(error).split())
    if not isinstance(error, MemoryError) and not any(sign in said for sign in ("alloc_cpu", "out of memory")):
        return None
    asked = re.search(r"allocate ([\d,.]+ ?(?:[KMGT]i?B|bytes))", said)
    return (f"not enough memory{f' (asked for {asked[1]} at once)' if asked else ''}; give smaller images, fewer at a "
            "time, or a smaller network")


def skips(options: argparse.Namespace) -> bool:
    """Whether --skip-bad would help: the command has it, and it was not given, but images were (not those of a run)."""
    return not getattr(options, "skip_bad", True) and getattr(options, "data", "") is not None
