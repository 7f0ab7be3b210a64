"""`allmlp bench`: networks in processes of their own, side by side."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from allmlp import bench
from allmlp.backends.native import MAGIC

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'allmlp[export]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install 'allmlp[export]'")


def test_rows_are_the_percentiles_of_the_rounds(tmp_path: Path):
    (tmp_path / "m").write_bytes(MAGIC + bytes(999_992))
    about = {"image_size": (8, 12), "load_seconds": 0.5, "torch": False, "memory_bytes": 3_000_000}
    row = bench.row(str(tmp_path / "m"), 2, 4, about, [0.001 * number for number in range(1, 102)])
    assert tuple(row) == bench.COLUMNS
    assert np.allclose([row["p50_ms"], row["p95_ms"], row["p99_ms"]], [51, 96, 100])
    assert np.isclose(row["infer_samples_per_sec"], 4 / 0.051)
    assert (row["infer_img_size"], row["backend"], row["peak_memory_mb"]) == ("8x12", "native", 3.0)
    assert row["file_mb"] == 1.0
    assert row["without_torch"]


@pytest.mark.slow
def test_a_checkpoint_and_its_export_are_measured_side_by_side(cli, trained: Path, tmp_path: Path):
    folder = tmp_path / "onnx"
    assert cli("export", trained, "--to", "onnx", "--output", folder, "--threads", 1)[0] == 0
    code, out, _ = cli("bench", trained, folder, "--batch", 1, 4, "--rounds", 4, "--csv", "-")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {(row["model"], row["infer_batch_size"]) for row in rows} == {
        (str(model), batch) for model in (trained, folder) for batch in ("1", "4")}
    assert all(float(row["infer_samples_per_sec"]) > 0 for row in rows)
    by_model = {row["model"]: row for row in rows}
    assert (by_model[str(trained)]["backend"], by_model[str(folder)]["backend"]) == ("pytorch", "onnx")
    assert by_model[str(folder)]["without_torch"] == "True"
    found = json.loads(cli("bench", folder, "--quick", "--batch", 1, "--json")[1])
    assert found[0]["rounds"] <= 10
