"""`benchmarks/engine_peers.py`: our engine beside its peers, on the smallest network."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "engine_peers.py"


def run(*arguments: object) -> str:
    finished = subprocess.run([sys.executable, PROGRAM, *map(str, arguments)], capture_output=True, text=True,
                              timeout=200)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.slow
def test_contenders_are_prepared_checked_and_measured_in_turn(tmp_path: Path):
    pytest.importorskip("allmlp_native", reason="the engine is not installed: make native")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'allmlp[export]'")
    results, chosen = tmp_path / "rows.csv", ["--models", "mixer_p2_8", "--threads", 1, "--contenders", "engine-bf16",
                                              "engine-fp32", "onnxruntime-fp32"]
    run("--prepare", tmp_path / "prepared", *chosen)
    measure = [tmp_path / "prepared", *chosen, "--rounds", 2, "--seconds", 0.02, "--results", results]
    run(*measure, "--batches", 1, 3)
    rows = list(csv.DictReader(results.read_text().splitlines()))
    assert {(row["contender"], row["precision"], row["batch"]) for row in rows} == {
        (*who, batch) for batch in ("1", "3") for who in (
            ("allmlp engine", "fp32"), ("allmlp engine", "bf16"), ("ONNX Runtime", "fp32"))}
    for row in rows:
        assert float(row["error"]) < (0.1 if row["precision"] == "bf16" else 1e-4), row["contender"]
        assert float(row["images_per_second"]) > 0
        assert 0 < float(row["share_of_peak"]) < 1
        assert float(row["peak_memory_mb"]) > 10
    ours = next(row for row in rows if row["contender"] == "allmlp engine" and row["precision"] == "fp32")
    assert ours["best_peer"] == "ONNX Runtime"
    theirs = next(row for row in rows if row["best_peer"] == "" and row["contender"] == "ONNX Runtime")
    assert theirs["ratio_to_best_peer"] == ""  # of a single peer there is no other
    bf16 = next(row for row in rows if row["precision"] == "bf16")
    assert bf16["ratio_to_best_peer"] == ""  # there was no peer in bf16

    run(*measure, "--batches", 3, 4, "--missing")
    again = list(csv.DictReader(results.read_text().splitlines()))
    assert again[: len(rows)] == rows  # what was there is not measured again
    assert {row["batch"] for row in again[len(rows) :]} == {"4"}
    assert "| **allmlp engine bf16** |" in run("--table", "--results", results)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixer_p2_8", "mixer_s32_224", "resmlp_p2_8", "gmlp_p2_8"])
def test_the_equations_in_plain_jax_give_the_logits_of_our_networks(name: str, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("jax", reason="jax is not installed: pip install jax")
    import numpy as np

    import allmlp
    from allmlp.backends.pytorch import PyTorchPredictor
    from allmlp.testing import randomise

    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    from peers import plain_jax

    model = allmlp.create_model(name).eval()
    randomise(model)
    images = np.random.default_rng(0).integers(0, 256, (3, *model.config.image_size, 3), dtype=np.uint8)
    network = plain_jax.network({key: tensor.numpy() for key, tensor in model.state_dict().items()},
                                model.preprocess.mean, model.preprocess.std,
                                model.config.layers[0].activation == "tanh")  # type: ignore[union-attr]
    expected = PyTorchPredictor(model)(images)
    assert np.abs(network(images) - expected).max() < 1e-4 * expected.std()
