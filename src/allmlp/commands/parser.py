"""argparse, whose errors are one line that points to --help, that of the command."""

import argparse
import difflib
from collections.abc import Sequence
from typing import NoReturn

from allmlp.errors import AllMLPError


class Parser(argparse.ArgumentParser):
    """Of the command line, and of each command."""

    def error(self, message: str) -> NoReturn:
        raise AllMLPError(f"{message}; see `{self.prog} --help`")

    def parsed(self, args: Sequence[str] | None) -> argparse.Namespace:
        """As `parse_args`; raises `AllMLPError` for what is no argument of the command, with the nearest that is."""
        found, unknown = self.parse_known_args(args)
        if unknown:
            command = self._command(found)
            near = difflib.get_close_matches(unknown[0].partition("=")[0], command._option_string_actions, 1)
            command.error(f"unrecognized arguments: {' '.join(unknown)}{f' (did you mean {near[0]}?)' if near else ''}")
        return found

    def _command(self, found: argparse.Namespace) -> "Parser":
        """The parser of the command that was given, or of its part: `allmlp data shard`."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                chosen = action.choices.get(getattr(found, action.dest, None))  # type: ignore[arg-type]
                return chosen._command(found) if isinstance(chosen, Parser) else self
        return self
