"""What fewer bits cost a trained network, in small; `benchmarks/accuracy_price.py` is the whole of it."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accuracy_price.py"
PEER = "ONNX Runtime static"


@pytest.mark.slow
def test_a_trained_network_keeps_its_answers_and_loses_less_than_by_another_tool(tmp_path: Path):
    for package in ("allmlp_native", "onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    subprocess.run([sys.executable, str(SCRIPT), "--data", "digits", "--families", "mixer", "--seeds", "0",
                    "--epochs", "12", "--only", f"allmlp,{PEER}", "--runs", str(tmp_path), "--csv",
                    str(tmp_path / "rows.csv")], check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = {(row["weights"], row["contender"], row["precision"]): row for row in csv.DictReader(file)}
    assert len(rows) == 8
    assert float(rows["trained", "allmlp", "fp32"]["top1_percent"]) > 90  # it has learnt something
    for weights in ("trained", "planted"):
        price = {precision: rows[weights, "allmlp", precision] for precision in ("fp32", "bf16", "int8")}
        assert float(price["fp32"]["rms_error"]) < 1e-5
        assert abs(float(price["bf16"]["top1_difference"])) <= 0.3  # an image of 360 is 0.28 points
        assert float(price["int8"]["top1_difference"]) >= -0.6
        assert float(price["int8"]["rms_error"]) < float(rows[weights, PEER, "int8"]["rms_error"])
