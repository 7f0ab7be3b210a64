"""What the command line takes as numbers, sizes and lists, from the text that is typed.

Each raises argparse's error, in words that say what is accepted.
"""

import argparse
import os

MOST_THREADS = max(256, os.cpu_count() or 1)  # 256: what the engine takes


def positive(text: str) -> int:
    return _whole(text, 1)


def thread_count(text: str) -> int:
    """Runtimes crash, some without a word, where the system has no more threads for them."""
    number = positive(text)
    if number > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads from 1 to {MOST_THREADS}")
    return number


def not_negative(text: str) -> int:
    return _whole(text, 0)


def not_negative_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return number


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return number


def shots(text: str) -> list[int]:
    """"5" or "1,5,10,25" as numbers of images, the smallest first."""
    return sorted({positive(part) for part in text.split(",")})


def l2(text: str) -> float | str:
    """"grid", or a positive number."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if text != "grid" and not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither grid nor a positive number, such as 1024")
    return text if text == "grid" else number


def block_numbers(text: str) -> tuple[int, ...]:
    """"0,3" or "0-2,5" as numbers in order, each once."""
    numbers: set[int] = set()
    for part in text.split(","):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.isascii() and end.isdigit() and len(end) <= 4 for end in ends):
            raise argparse.ArgumentTypeError(f"{text!r} are no block numbers such as 0,3,5 or 0-5")
        numbers |= set(range(int(ends[0]), int(ends[-1]) + 1))
    return tuple(sorted(numbers))


def image_size(text: str) -> tuple[int, int]:
    """"96" or "64x96" (height x width) as (height, width)."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not an image size such as 96 or 64x96 (height x width)")
    return int(sides[0]), int(sides[-1])
