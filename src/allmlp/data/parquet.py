"""Images in parquet files, as Hugging Face `datasets` keeps them: local files, or a data set of the Hub by its id.

pyarrow alone reads them; the library `datasets` is not needed. Its schema, which the files carry, says which column has
images and which has labels, and what the classes are called; in files of others the names of the columns do. A cell
with an image holds its encoded bytes, or a struct of `bytes` and `path`. Of a Hub data set its own parquet files are
taken, else those that the Hub made of it (`refs/convert/parquet`).

A parquet file is compressed in row groups of some hundred images, and one image costs its whole group. So a few groups
stay in memory, and the order of an epoch mixes the images of so many groups at a time (`order.py`).
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allmlp.data.assemble import Choices, assemble
from allmlp.data.columns import class_names, features_of, image_column, label_column
from allmlp.data.dataset import SPLITS, Data
from allmlp.data.image import decode_image
from allmlp.data.labels import encode_labels
from allmlp.data.packed import MAX_IMAGE_BYTES
from allmlp.data.texts import below_common_folder, printable
from allmlp.data.webdataset import split_of
from allmlp.errors import BadData, BadImage, MissingPackage

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

WINDOW_BYTES = 1 << 28  # of row groups that are mixed; twice that is held by each process that reads
MAX_GROUP_BYTES = 1 << 32  # of one row group, decompressed


@dataclass(frozen=True, eq=False)
class ParquetImages:
    """`rows` int64 `(N, 3)`: the file, row group and row in it of each image, which stands in `column`, dotted.
    `window`: how many row groups are mixed."""

    files: tuple[str, ...]
    column: str
    rows: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    window: int

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, index: int) -> np.ndarray:
        return decode_image(self.encoded(index), self.name(index))

    def encoded(self, index: int) -> bytes:
        file, group, row = self.rows[index].tolist()
        cell = _group(self.files[file], group, self.column)[row]
        content = cell.as_buffer() if cell.is_valid else None
        if content is None or content.size > MAX_IMAGE_BYTES:
            what = "no bytes, only the path of a file elsewhere" if content is None else f"{content.size} bytes"
            raise BadImage(f"{self.name(index)}: {what}, which is no image that can be used")
        return content.to_pybytes()

    def name(self, index: int) -> str:
        return f"{self.files[self.rows[index, 0]]}/{self._row(index)}"

    def key(self, index: int) -> str:
        return f"{self._short_files[self.rows[index, 0]]}/{self._row(index)}"

    @cached_property
    def _short_files(self) -> tuple[str, ...]:
        return below_common_folder(self.files)

    def _row(self, index: int) -> str:
        return f"group {self.rows[index, 1]} row {self.rows[index, 2]}"

    @property
    def groups(self) -> np.ndarray:
        return self.rows[:, 0] << 32 | self.rows[:, 1]


def open_parquet(where: str, choices: Choices) -> Data:
    """The data set in a parquet file, in a folder of such, or of the Hub by its id `owner/name` or `owner/name/config`.

    Splits are told by the names of files or folders (`data/train-00000-of-00002.parquet`, `test/0000.parquet`);
    without, a validation part is drawn. What of a Hub data set is not in the Hub's cache is fetched only if
    `choices.download` says so. Raises `BadData`, `CannotDownload` and `MissingPackage`.
    """
    files = _local(where)
    if files is None:
        from allmlp.data.hub import fetch_parquet

        files = fetch_parquet(where, choices.download)
    named = [(split_of(str(file)) or "train", file) for file in files]
    tables = [(split, file, _open(file)) for wanted in SPLITS for split, file in named if split == wanted]
    schema = tables[0][2].schema_arrow
    for _, file, table in tables:
        if table.schema_arrow.names != schema.names:
            raise BadData(f"{file}: other columns ({', '.join(table.schema_arrow.names)[:100]}) than in "
                          f"{tables[0][1]}; the files of one data set must have the same")
    features = features_of(schema)
    column, label = image_column(schema, features, where), label_column(schema, features, where)
    values = [value for _, file, table in tables for value in _column(file, table, label)]
    rows = np.concatenate([_rows(number, table) for number, (_, _, table) in enumerate(tables)])
    names = class_names(features.get(label))
    classes, labels = encode_labels(values, names, where, lambda index: f"{where}, row {index} of column {label!r}")
    paths = tuple(str(file) for _, file, _ in tables)
    largest = max(_group_bytes(file, table) for _, file, table in tables)
    window = max(WINDOW_BYTES // max(largest, 1), 1)
    split_of_row = np.array([SPLITS.index(split) for split, _, _ in tables])[rows[:, 0]]
    splits = {}
    for number, split in enumerate(SPLITS):
        own = np.flatnonzero(split_of_row == number)
        if len(own):
            splits[split] = ParquetImages(paths, column, rows[own], labels[own], classes, window)
    others = [name for name in schema.names if name not in (column.partition(".")[0], label)]
    notes = [f"columns: images from {column.partition('.')[0]!r}, labels from {label!r}; not used: "
             f"{printable(', '.join(others))[:200]}"] if others else []
    return assemble(where, splits, notes, choices)


def _local(where: str) -> list[Path] | None:
    """The parquet files of a path that exists, sorted; None if there is no such path."""
    path = Path(where).expanduser()
    if not path.exists():
        return None
    inside = path.rglob("*.parquet")
    files = [path] if path.is_file() else sorted(
        file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts))
    if not files:
        raise BadData(f"{path}: no .parquet files in it")
    return files


def _open(file: Path) -> "parquet.ParquetFile":
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingPackage("parquet files need pyarrow; pip install pyarrow") from None
    try:
        table = parquet.ParquetFile(file, page_checksum_verification=True)
        _ = table.schema_arrow  # which may turn out to be no schema
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadData(f"{file}: cannot be read as parquet ({_short(error)}); it may be truncated: copy it "
                      "again") from None


# --- rows and row groups ---------------------------------------------------------------------------------------------


def _rows(file: int, table: "parquet.ParquetFile") -> np.ndarray:
    parts = [np.stack([np.full(count, file), np.full(count, group), np.arange(count)], 1)
             for group in range(table.num_row_groups) for count in [table.metadata.row_group(group).num_rows]]
    return np.concatenate([np.empty((0, 3), np.int64), *parts])


def _column(file: Path, table: "parquet.ParquetFile", name: str) -> list[Any]:
    import pyarrow as pa

    try:
        return table.read(columns=[name], use_threads=False).column(name).to_pylist()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise BadData(f"{file}: its column {name!r} cannot be read ({_short(error)})") from None


def _group_bytes(file: Path, table: "parquet.ParquetFile") -> int:
    """The largest row group as the file says it. Raises `BadData` for one that is too large to hold.

    Of all columns: pyarrow ends the whole process when it is asked about one column of a damaged file.
    """
    largest = max((table.metadata.row_group(group).total_byte_size for group in range(table.num_row_groups)), default=0)
    if largest > MAX_GROUP_BYTES:
        raise BadData(f"{file}: a row group of {largest / 1e9:.1f} GB, more than the limit of "
                      f"{MAX_GROUP_BYTES / 1e9:.1f}; write it again with fewer rows in a group")
    return largest


_held: OrderedDict[tuple[str, int, str], "pa.ChunkedArray"] = OrderedDict()  # row groups, the last used one last


def _group(file: str, group: int, column: str) -> "pa.ChunkedArray":
    """The cells of a row group, from memory where this process has it still."""
    import pyarrow as pa

    key = (file, group, column)
    if key in _held:
        try:
            _held.move_to_end(key)
            return _held[key]
        except KeyError:  # another thread has just let go of it
            pass
    try:
        cells = _open(Path(file)).read_row_group(group, columns=[column], use_threads=False).column(0)
        if "." in column:
            cells = pa.chunked_array([chunk.field("bytes") for chunk in cells.chunks])
    except (pa.ArrowException, OSError, KeyError, IndexError, ValueError) as error:
        raise BadData(f"{file}: its row group {group} cannot be read ({_short(error)}); copy it again") from None
    _held[key] = cells
    while len(_held) > 1 and sum(one.nbytes for one in list(_held.values())) > 2 * WINDOW_BYTES:
        _held.popitem(last=False)
    return cells


def _short(error: Exception) -> str:
    return printable(" ".join(str(error).split()))[:150]
