"""Many short texts in two arrays: the names of a million images as Python strings would take ten times the memory, and
every process that reads images would copy them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np


class Texts(Sequence[str]):
    """Texts one after the other: `content` uint8, UTF-8; `ends` int64 `(N,)`, where each one ends in it."""

    def __init__(self, content: np.ndarray, ends: np.ndarray):
        self.content, self.ends = content, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        parts = [text.encode() for text in texts]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        return cls(np.frombuffer(b"".join(parts), np.uint8), ends)

    @classmethod
    def joined(cls, several: Sequence["Texts"]) -> "Texts":
        if not several:
            return cls.of(())
        starts = np.cumsum([0] + [len(texts.content) for texts in several])
        return cls(np.concatenate([texts.content for texts in several]),
                   np.concatenate([texts.ends + start for texts, start in zip(several, starts, strict=False)]))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> "str | list[str]":
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        start = int(self.ends[index - 1]) if index else 0
        return self.content[start : int(self.ends[index])].tobytes().decode()


def below_common_folder(files: Sequence[str]) -> tuple[str, ...]:
    """Paths or addresses from where they differ on: the same wherever all of them are moved together."""
    parts = [Path(file).as_posix().split("/") for file in files]
    shortest = min((len(own) for own in parts), default=1)
    same = next((i for i in range(shortest - 1) if len({own[i] for own in parts}) > 1), shortest - 1)
    return tuple("/".join(own[same:]) for own in parts)


def printable(text: str) -> str:
    """A name from outside, fit to be shown: nothing in it moves the cursor or begins a new line."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
