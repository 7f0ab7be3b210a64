"""How an error of a command is told: in one line, with what else the command has to say."""

import argparse
import errno

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


def skips(options: argparse.Namespace) -> bool:
    """Whether --skip-bad would help: the command has it, and it was not given, but images were (not those of a run)."""
    return not getattr(options, "skip_bad", True) and getattr(options, "data", "") is not None
