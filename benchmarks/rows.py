"""The rows of a file in results/, which the programs here read and write."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from allmlp.files import write_text_atomically


def read(path: Path) -> list[dict[str, Any]]:
    """All rows, as text; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """The whole file anew, floats to 6 digits. A stop while it is written leaves the earlier one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
                     for row in rows)
    path.parent.mkdir(exist_ok=True)
    write_text_atomically(path, text.getvalue())
