"""The table of an experiment: a CSV file with a line for each arm and seed (several for a curve), and its summary."""

import csv
import io
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from allmlp.errors import BadSetting, printable
from allmlp.files import write_text_atomically
from allmlp.report.numbers import NOTHING, count, small
from allmlp.reproduce.experiment import Experiment, Row

WHERE = ("experiment", "scale", "data", "device", "threads", "processor", "cores", "torch", "timm", "commit", "date",
         "command")  # of each row: what it belongs to, and where it ran
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?inf|nan", re.IGNORECASE)
UNITS = {"percent": "%", "seconds": "s", "ms": "ms", "px": "px", "points": "points", "mib": "MiB"}
MOST_SHOWN = 60  # characters of a cell; a map that a row holds as text is longer
MOST_BYTES = 64 * 2**20


def columns_of(experiment: Experiment) -> tuple[str, ...]:
    return ("what", "seed", *experiment.columns, "seconds", *WHERE)


def read(path: Path) -> list[dict[str, Any]]:
    """All rows of a CSV file, as text; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """The whole file anew, floats to 6 digits. A stop while it is written leaves the earlier one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: written(value) for key, value in row.items()} for row in rows)
    path.parent.mkdir(exist_ok=True, parents=True)
    write_text_atomically(path, text.getvalue())


def written(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def read_rows(path: Path, experiment: Experiment, scale: str) -> list[Row]:
    """The rows that an earlier call left. Raises `BadSetting` for a file that is not the table of this experiment at
    this scale: rows of two experiments shall not mix."""
    advice = "choose another --output, or say --overwrite"
    try:
        found = read(path) if not path.exists() or path.stat().st_size <= MOST_BYTES else None
    except (OSError, UnicodeDecodeError, csv.Error):
        found = None
    if found is None or any(None in row or None in row.values() for row in found):
        raise BadSetting(f"{path}: is not a table of `allmlp reproduce`; {advice}")
    for row in found:
        if row.get("experiment") != experiment.name:
            named = printable(repr(row["experiment"]), 60) if "experiment" in row else "something else"
            raise BadSetting(f"{path}: is the table of {named}, not of {experiment.name!r}; {advice}")
        if row["scale"] != scale:
            raise BadSetting(f"{path}: was begun at scale {printable(repr(row['scale']), 60)}, not {scale!r}; {advice}")
        if tuple(row) != columns_of(experiment):
            raise BadSetting(f"{path}: has other columns than {experiment.name} has now; {advice}")
    return [typed(row) for row in found]


def typed(row: Mapping[str, Any]) -> Row:
    """A row as it comes back from the file: numbers as numbers, an empty cell as None."""
    return {key: value if key in ("what", *WHERE) else _typed(str(written(value))) for key, value in row.items()}


def _typed(text: str) -> str | int | float | None:
    if not text or text == "None":
        return None
    if not NUMBER.fullmatch(text):
        return text
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def summary(columns: Sequence[str], rows: Sequence[Row], ends: bool = True) -> list[list[str]]:
    """A line for each `what`: its name, the number of seeds, and each of `columns` as mean ± standard deviation over
    them. Of a curve, which has several rows for a seed, its end; with `ends` off every point."""
    groups: dict[tuple[str, int], list[Row]] = {}
    arms: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        arms.setdefault((row["what"], row["seed"]), []).append(row)
    for (what, _), points in arms.items():
        for place, row in [(0, points[-1])] if ends else list(enumerate(points)):
            groups.setdefault((what, place), []).append(row)
    return [[what, count(len(group)), *(cell([row.get(column) for row in group]) for column in columns)]
            for (what, _), group in groups.items()]


def cell(values: Sequence[Any]) -> str:
    """Several seeds' values: mean ± deviation of numbers, or what they all are."""
    known = [value for value in values if value is not None]
    if not known:
        return NOTHING
    if not all(isinstance(value, int | float) for value in known):
        return str(known[0]) if len(set(known)) == 1 and len(str(known[0])) <= MOST_SHOWN else "…"
    if len(set(known)) == 1:
        return count(known[0]) if isinstance(known[0], int) else _rounded(known[0])
    mean = statistics.fmean(known)
    return f"{_rounded(mean)} ± {_rounded(statistics.stdev(known))}"


def _rounded(value: float) -> str:
    return f"{value:,.2f}" if value == 0 or 0.1 <= abs(value) < 1e6 else small(value)


def heading(column: str) -> str:
    """`test_accuracy_percent` as "test accuracy, %"."""
    words = column.split("_")
    unit = UNITS.get(words[-1]) if len(words) > 1 else None
    return f"{' '.join(words[:-1])}, {unit}" if unit else " ".join(words)
