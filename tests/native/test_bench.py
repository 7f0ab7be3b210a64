"""The file of native/bench.py: runs that were cut off go on, and nobody else's file is touched."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("allmlp_native", reason="the engine is not built: make native")
bench = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "native" / "bench.py")))


def test_a_row_that_was_cut_off_is_measured_again(tmp_path: Path):
    path = tmp_path / "rows.csv"
    rows = [{name: f"{name} {i}" for name in bench.COLUMNS} for i in range(3)]
    assert bench.rows_of(path) == []
    bench.append(path, rows[0])
    bench.append(path, rows[1])
    whole = path.read_bytes()
    for cut in (0, 1, 40):
        path.write_bytes(whole[: len(whole) - cut])
        assert bench.rows_of(path) == rows[: 1 if cut else 2]
    bench.append(path, rows[2])
    assert bench.rows_of(path) == [rows[0], rows[2]]
    path.write_bytes(whole[:20])  # of the first line
    assert bench.rows_of(path) == []
    bench.append(path, rows[1])
    assert bench.rows_of(path) == [rows[1]]


@pytest.mark.parametrize("content", [b"a note without an end", b"model,precision\nmine,fp32\n", b"\xff\xfe\n", b"\n"])
def test_a_file_of_something_else_stays_as_it_is(content: bytes, tmp_path: Path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(SystemExit, match="file: no rows of this program"):
        bench.rows_of(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content
