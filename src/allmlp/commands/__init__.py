"""What each command does; `cli.py` says how it is called. Each takes the parsed options and returns the exit code.

The modules import what they need when their command runs, so that no command pays for another's libraries.
"""

import argparse
import importlib
from collections.abc import Callable


def _command(module: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        return importlib.import_module(f"allmlp.commands.{module}").run(options)

    return run


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    name: _command(name)
    for name in ("train", "evaluate", "predict", "models", "recipes", "data", "compare", "inspect", "plan", "report",
                 "reproduce", "serve", "export", "bench", "doctor")
}
COMMANDS["shard"] = COMMANDS["data"]  # `allmlp shard` is short for `allmlp data shard`
