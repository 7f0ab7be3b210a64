"""The command line: every command on one page. stdout carries results, stderr everything else.

Exit codes: 0 ok; 1 a check failed or training could not go on; 2 the user's mistake, in one line; 130 and 143 stopped
by Ctrl-C and SIGTERM. Written with argparse, so that `--help` needs nothing heavy.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

import allmlp
from allmlp.errors import AllMLPError, BadImage, TrainingStopped


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are one line that points to --help."""

    def error(self, message: str) -> NoReturn:
        raise AllMLPError(f"{message}; see `{self.prog} --help`")


def parser() -> Parser:
    """The whole command line."""
    top = Parser(prog="allmlp", description="All-MLP vision models: train, evaluate and use MLP-Mixer, ResMLP, gMLP.",
                 epilog="MODEL is a weights file, a run folder, published weights by name, or hf-hub:owner/name. "
                        "DATA is 'digits' or a folder of images.")
    top.add_argument("--version", action="version", version=f"allmlp {allmlp.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    def command(name: str, summary: str) -> Parser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.add_argument("--json", action="store_true", help="print the result as one JSON object")
        return added

    def machine(to: Parser) -> None:
        to.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
        to.add_argument("--threads", type=positive, help="CPU threads (default: torch's; 1 to train small networks)")
        to.add_argument("--workers", type=not_negative, default=0,
                        help="processes that load images (default: 0, load in this process)")

    def size(to: Parser) -> None:
        to.add_argument("--image-size", type=image_size, metavar="N|HxW",
                        help="pixels, e.g. 96 or 64x96 (default: the network's own); weights are resized to it")

    def source(to: Parser) -> None:
        to.add_argument("--val-fraction", type=float, metavar="F",
                        help="part held out when the folder has no splits (default: 0.2)")
        to.add_argument("--split-seed", type=not_negative, metavar="N", help="which part (default: 0)")
        to.add_argument("--skip-bad", action="store_true", help="leave out broken images and say which")

    train = command("train", "Train a network on DATA; writes a run folder with checkpoints and report.html.")
    train.add_argument("data", nargs="?", metavar="DATA", help="'digits' or a folder of images")
    train.add_argument("--model", metavar="NAME", help="a name of `allmlp models` (default: by the image size)")
    train.add_argument("--recipe", metavar="NAME|FILE", help="a recipe by name, or a recipe.json")
    train.add_argument("--init", metavar="MODEL", help="start from the weights of a MODEL")
    train.add_argument("--output", metavar="DIR", help="the run folder (default: runs/DATE-MODEL-DATA)")
    train.add_argument("--epochs", type=float, metavar="N", help="short for --set schedule.epochs=N; 1.5 is possible")
    train.add_argument("--batch-size", type=positive, metavar="N", help="short for --set batch_size=N")
    train.add_argument("--lr", type=float, metavar="X", help="short for --set optimizer.learning_rate=X")
    train.add_argument("--seed", type=not_negative, metavar="N", help="short for --set seed=N")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
                       help="any number of the recipe by its dotted name, e.g. augment.mixup=0.2; may be repeated")
    train.add_argument("--show-recipe", action="store_true", help="print the recipe as it would run, and stop")
    train.add_argument("--resume", metavar="RUN", help="go on with a stopped run, exactly")
    train.add_argument("--overwrite", action="store_true", help="replace a run in --output")
    train.add_argument("--time-limit", type=float, metavar="MINUTES", help="stop after so long, ready to be resumed")
    train.add_argument("--quiet", action="store_true", help="no progress")
    size(train)
    machine(train)
    source(train)

    evaluate = command("evaluate", "Measure MODEL on DATA.")
    evaluate.add_argument("model", metavar="MODEL", help="weights file, run folder, published name, Hub id")
    evaluate.add_argument("data", metavar="DATA", help="'digits' or a folder of images")
    evaluate.add_argument("--split", choices=("train", "val", "test"), help="default: test, else val")
    evaluate.add_argument("--per-class", action="store_true", help="precision, recall and F1 of each class")
    size(evaluate)
    machine(evaluate)
    source(evaluate)

    predict = command("predict", "Name what is on images.")
    predict.add_argument("model", metavar="MODEL", help="weights file, run folder, published name, Hub id")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders or globs")
    predict.add_argument("--top", type=positive, default=3, metavar="K", help="classes to show (default: 3)")
    predict.add_argument("--csv", metavar="FILE", help="write file, class, probability, … as CSV ('-': stdout)")
    predict.add_argument("--skip-bad", action="store_true", help="leave out broken images and say which")
    size(predict)
    machine(predict)

    models = command("models", "List the networks, or show one in detail.")
    models.add_argument("--pretrained", action="store_true", help="list the published weights instead")
    models.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="a name, or e.g. 'mixer*'")

    data = command("data", "Look at a folder of images, or write a data set as one.")
    actions = data.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    check = actions.add_parser("check", help="the data doctor: splits, classes, broken files, duplicates, sizes")
    check.add_argument("folder", metavar="DIR")
    write = actions.add_parser("write", help="write a named data set as folders of PNG files")
    write.add_argument("source", metavar="DATA", help="'digits'")
    write.add_argument("folder", metavar="DIR", help="must not exist, or be empty")
    for action in (check, write):
        action.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Never shows a traceback for the user's mistake."""
    try:
        options = parser().parse_args(arguments)
        from allmlp import commands

        return commands.COMMANDS[options.command](options)
    except TrainingStopped as error:
        print(f"allmlp: {error}", file=sys.stderr)
        return 1
    except AllMLPError as error:
        hint = "; --skip-bad goes on without such files" if isinstance(error, BadImage) else ""
        print(f"allmlp: {error}{hint}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `allmlp models | head`
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("allmlp: stopped", file=sys.stderr)
        return 130


def positive(text: str) -> int:
    return _whole(text, 1)


def not_negative(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return number


def image_size(text: str) -> tuple[int, int]:
    """"96" or "64x96" (height x width) as (height, width)."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not an image size such as 96 or 64x96 (height x width)")
    return int(sides[0]), int(sides[-1])


