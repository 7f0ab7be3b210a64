"""What an experiment is: a claim of a paper, the arms that put it to the test, and what is read off their rows.

An experiment is a file with a value `EXPERIMENT` and a line in `reproduce.EXPERIMENTS`. Its arms are small closures;
`run.run` calls them one after another and keeps their rows, so that a stopped experiment goes on where it was.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
"""A line of the table: `what`, `seed`, the experiment's columns, `seconds`, and where it ran. Values are str, int,
float or None (an empty cell), as they come back from the file, to six digits."""

Scale = Literal["laptop", "paper"]
Verdict = Literal["as claimed", "in part", "not found", "not claimed", "no result"]


@dataclass(frozen=True)
class Job:
    """How an experiment is run."""

    scale: Scale
    seeds: int
    data: str | None  # what the user gave as --data; None: the experiment's own
    data_dir: Path | None
    download: bool
    device: str  # of torch, such as "cpu" or "cuda:0"
    folder: Path  # there when arms run: for what they leave behind for one another; cleared when all are done
    reduced: bool  # the tests' size: seconds in total, the same code


@dataclass(frozen=True)
class Arm:
    """One line of the table for one seed. `run` returns its values, or yields several such rows: a curve.

    `what` and `seed` name it; rows hold the experiment's columns, and those left out stay empty.
    """

    what: str
    seed: int
    run: Callable[[], Mapping[str, Any] | Iterator[Mapping[str, Any]]]


@dataclass(frozen=True)
class Found:
    """What the rows show, computed from them and never typed in. "not claimed": the question is ours; "no result": the
    tests' size, of which nothing follows."""

    verdict: Verdict
    text: str


REDUCED = Found("no result", "reduced: a few steps of everything, to see that it works; no result.")


@dataclass(frozen=True)
class Experiment:
    """`claim`: what was published, with its numbers. `laptop`, `paper`: what exactly is done at each scale, and what of
    the paper's protocol is not known. `columns`: those of the table that are the experiment's own."""

    name: str
    title: str
    source: str
    claim: str
    laptop: str
    paper: str
    columns: tuple[str, ...]
    arms: Callable[[Job], Iterator[Arm]]
    figure: Callable[[Sequence[Row]], "Figure"]
    found: Callable[[Sequence[Row]], Found]
