"""`allmlp bench`: networks in processes of their own, side by side."""

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allmlp import bench, checkpoint, create_model
from allmlp.backends import manifest as manifests
from allmlp.backends import native
from allmlp.backends.export import Wish, unverified
from allmlp.backends.native import MAGIC
from allmlp.backends.process import PredictorProcess
from allmlp.cli import parser
from allmlp.commands.bench import Failures, entries_of, images
from allmlp.commands.bench_figure import figure
from allmlp.commands.bench_source import size_of_export, size_of_logits
from allmlp.commands.memory import check_batch, free_memory
from allmlp.commands.source import run_data
from allmlp.data import open_data
from allmlp.errors import BadSetting
from allmlp.inspection.flops import by_part

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'allmlp[export]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install 'allmlp[export]'")


def test_rows_are_the_percentiles_of_the_rounds(tmp_path: Path):
    (tmp_path / "m").write_bytes(MAGIC + bytes(999_992))
    about = {"image_size": (8, 12), "load_seconds": 0.5, "torch": False, "memory_bytes": 3_000_000,
             "precision": "int8", "multiply_adds": 51_000_000}
    entry = bench.Entry(str(tmp_path / "m"), "a network")
    row = bench.row(entry, 2, 4, about, [0.001 * number for number in range(1, 102)], most=16e9)
    assert (row["model"], row["precision"], row["infer_gmacs"]) == ("a network", "int8", 0.051)
    assert np.isclose(row["peak_percent"], 100 * 2 * 51e6 * 4 / 0.051 / 16e9)
    assert tuple(row) == bench.COLUMNS
    assert np.allclose([row["p50_ms"], row["p95_ms"], row["p99_ms"]], [51, 96, 100])
    assert np.isclose(row["infer_samples_per_sec"], 4 / 0.051)
    assert (row["infer_img_size"], row["backend"], row["peak_memory_mb"]) == ("8x12", "native", 3.0)
    assert row["file_mb"] == 1.0
    assert row["without_torch"]


def test_the_picture_tells_sizes_of_one_network_apart(tmp_path: Path):
    (tmp_path / "m").write_bytes(MAGIC + bytes(8))
    entry, about = bench.Entry(str(tmp_path / "m"), "net"), {"load_seconds": 0.5, "torch": False, "precision": "fp32"}
    rows = [bench.row(entry, 1, 1, about | {"image_size": size}, [0.001 * size[0]] * 3) for size in ((8, 8), (8, 12))]
    labels = [[text.get_text() for text in figure(some).axes[0].get_yticklabels()] for some in (rows[:1], rows)]
    assert labels == [["native fp32"], ["native fp32, 8 px", "native fp32, 8x12 px"]]


def test_the_peak_of_a_network_of_several_precisions_is_that_of_each_layers_own():
    assert np.isclose(bench.attainable([(1.0, 8e9)]), 8e9)
    # Of 16e9 operations 4e9 take 1 s at 4e9 per second, and 12e9 take 1 s at 12e9: 2 s.
    assert np.isclose(bench.attainable([(0.25, 4e9), (0.75, 12e9)]), 8e9)
    assert bench.attainable([(0.5, 4e9), (0.5, None)]) is None
    assert bench.attainable([]) is None


def test_the_engine_says_which_multiply_adds_are_in_which_precision(tmp_path: Path):
    pytest.importorskip("allmlp_native", reason="the engine is not installed: make native")
    model = create_model("mixer_p2_8", num_classes=10)
    calibration = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    native.export(model, tmp_path / "m", "int8", calibration, float_layers={"blocks.0.channels": "bf16"})
    with PredictorProcess(tmp_path / "m", 1) as process:
        by_precision = process.about["by_precision"]
    parts, depth = by_part(model.config), len(model.blocks)
    assert by_precision == {"fp32": parts["head"], "bf16": parts["channel mixing"] // depth,
                            "int8": sum(parts.values()) - parts["head"] - parts["channel mixing"] // depth}
    shares = bench.shares_of(str(tmp_path / "m"), {"by_precision": by_precision})
    assert np.isclose(sum(shares.values()), 1)
    assert np.isclose(shares["bf16"] / shares["fp32"], parts["channel mixing"] / depth / parts["head"])


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
    assert {float(row["top1"]) for row in rows if row["backend"] == "pytorch"} == {accuracy_of(cli, trained)}
    assert {row["top1"] for row in rows if row["backend"] == "onnx"} == {""}  # a folder does not say what it learnt
    found = json.loads(cli("bench", folder, "--quick", "--batch", 1, "--data", "digits", "--json")[1])
    assert found[0]["rounds"] <= 10
    assert np.isclose(found[0]["top1"], accuracy_of(cli, trained), atol=0.6)  # fp32 by another runtime: one image


def accuracy_of(cli, model: Path) -> float:
    return float(f"{json.loads(cli('evaluate', model, 'digits', '--json')[1])['top1_percent']:.6g}")


@pytest.mark.slow
def test_one_network_is_exported_for_each_backend_and_precision(cli, trained: Path, tmp_path: Path):
    engine = pytest.importorskip("allmlp_native", reason="the engine is not installed: make native")
    code, out, err = cli("bench", trained, "--backend", "native", "onnx", "--precision", "fp32", "bf16", "int8",
                         "--batch", 2, "--rounds", 3, "--data", "digits", "--json", "--figure", tmp_path / "speeds")
    assert code == 0
    assert "without onnx in bf16: it has fp32, int8" in err
    rows = {(row["backend"], row["precision"]): row for row in json.loads(out)}
    assert set(rows) == {("native", "fp32"), ("native", "bf16"), ("native", "int8"), ("onnx", "fp32"), ("onnx", "int8")}
    assert {row["model"] for row in rows.values()} == {str(trained)}
    assert all(row["top1"] > 50 and row["top1_images"] == 360 for row in rows.values())
    assert rows["native", "fp32"]["infer_gmacs"] == rows["onnx", "fp32"]["infer_gmacs"] > 0
    assert all(0 < row["peak_percent"] < 100 for row in rows.values()), engine
    assert rows["native", "int8"]["file_mb"] < rows["native", "fp32"]["file_mb"]
    assert (tmp_path / "speeds.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "speeds.svg").read_text()


@pytest.mark.slow
def test_a_name_is_measured_with_fresh_weights_and_without_accuracy(cli):
    code, out, err = cli("bench", "mixer_p2_8", "--quick", "--batch", 1, "--json")
    assert code == 0
    assert "fresh weights" in err
    assert json.loads(out)[0]["top1"] is None


@pytest.mark.parametrize(("arguments", "said"), [
    (["--backend", "onxn"], "unknown backend 'onxn'; did you mean onnx or openvino?"),
    (["--backend", "foo"], "accepted: all, executorch, native, onnx, openvino, pt2, pytorch, timm"),
    (["--backend", "pytorch", "--precision", "int8"], "nothing to measure with --backend pytorch and --precision int8"),
    (["--data", "no-such-folder"], "no-such-folder"),
    (["--skip-bad"], "--skip-bad says how DATA is opened; give --data too"),
    (["--figure", "speeds.png"], "--figure speeds.png: give it without the ending"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_cannot_be_measured_is_refused_in_one_line(cli, arguments: list[str], said: str):
    code, out, err = cli("bench", "mixer_p2_8", "--quick", *arguments)
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize(("option", "value"), [("--image-size", 8), ("--precision", "int8"), ("--backend", "onnx")])
def test_an_export_is_measured_as_it_is_and_what_would_change_it_is_refused(cli, tmp_path: Path, option, value):
    (tmp_path / "m.allmlp").write_bytes(MAGIC)
    code, out, err = cli("bench", tmp_path / "m.allmlp", option, value)
    assert (code, out) == (2, "")
    assert f"{option}: {tmp_path / 'm.allmlp'} is exported" in err
    assert len(err.splitlines()) == 1


ROW = bench.row(bench.Entry("none", "a network"), 1, 1, {"image_size": (8, 8), "load_seconds": 0.5, "torch": False},
                [0.001])  # fmt: skip


@pytest.mark.parametrize("others,told", [(None, False), (5.9, False), (51.2, True)])
def test_a_busy_machine_is_told_beside_the_figures(cli, monkeypatch, others: float | None, told: bool):
    monkeypatch.setattr(bench, "run", lambda contest, images, failed: iter([ROW, ROW | {"others_percent": others}]))
    code, out, err = cli("bench", "mixer_p2_8", "--quick", "--json")
    assert code == 0
    assert json.loads(out)[1]["others_percent"] == others
    assert ("other processes had 51 % of the processors" in err) == told


def test_rows_are_shown_even_where_the_file_for_them_cannot_be_written(cli, monkeypatch, tmp_path: Path):
    def run(contest, images, failed):
        (tmp_path / "new").write_text("")  # where the folder was to be made
        return iter([ROW])

    monkeypatch.setattr(bench, "run", run)
    code, out, err = cli("bench", "mixer_p2_8", "--quick", "--csv", tmp_path / "new" / "rows.csv")
    assert code == 2
    assert "a network" in out
    assert "cannot be written" in err


@pytest.mark.slow
def test_a_model_that_does_not_load_and_one_whose_process_dies_are_told_and_the_others_measured(
        monkeypatch, capsys, tmp_path: Path):
    processes = []

    class Kept(PredictorProcess):
        def __init__(self, *given: Any):
            super().__init__(*given)
            processes.append(self.process)

    monkeypatch.setattr(bench, "PredictorProcess", Kept)
    for name in ("good", "bad"):
        unverified(create_model("mixer_p2_8", num_classes=10), tmp_path / name, Wish("onnx"))
    (tmp_path / "bad" / "model.onnx").write_bytes(b"no graph")
    manifests.write(tmp_path / "bad", manifests.read(tmp_path / "bad").with_(files=manifests.digests(tmp_path / "bad")))
    entries = [bench.Entry(str(tmp_path / "bad"), "net", made="onnx-fp32"),
               *(bench.Entry(str(tmp_path / "good"), name) for name in ("dies", "lives"))]
    rows = bench.run(bench.Contest(entries, (1, 2), rounds=3), images, Failures())
    first = [next(rows), next(rows)]
    processes[0].kill()
    assert [(row["model"], row["infer_batch_size"]) for row in (*first, *rows)] == [
        ("dies", 1), ("lives", 1), ("lives", 2)]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0].startswith("allmlp: net, onnx-fp32: not measured: onnx-fp32/model.onnx: ONNX Runtime refuses it")
    assert told[1].startswith("allmlp: dies: not measured: ")
    assert "its process was ended by SIGKILL" in told[1]


@pytest.mark.parametrize(("arguments", "said"), [
    (["mixer_p3_8"], "mixer_p3_8: not measured: "),
    (["--backend", "pytorch", "timm"], "mixer_p2_8, timm-fp32: not measured: cannot be exported: RuntimeError: "
                                       "the compiler's own words"),
])  # fmt: skip
def test_what_can_be_measured_is_where_something_else_cannot_and_the_exit_code_says_so(
        cli, monkeypatch, arguments: list[str], said: str):
    measured = []

    def run(contest, images, failed):
        measured.extend(contest.models)
        return iter([ROW])

    monkeypatch.setattr(bench, "run", run)
    monkeypatch.setattr("allmlp.backends.export.unverified", refuse)
    code, out, err = cli("bench", "mixer_p2_8", *arguments, "--quick")
    assert code == 1
    assert [(entry.name, entry.made) for entry in measured] == [("mixer_p2_8", "pytorch-fp32")]
    assert "a network" in out
    assert len([line for line in err.splitlines() if line.startswith(f"allmlp: {said}")]) == 1


def refuse(*_):
    raise RuntimeError("the compiler's own\nwords")


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)], ids=["INT", "TERM"])
def test_the_rows_that_are_whole_are_kept_when_a_bench_is_stopped(cli, monkeypatch, capsys, tmp_path: Path, stop,
                                                                  code: int):
    def run(contest, images, failed):
        yield ROW
        raise stop

    monkeypatch.setattr(bench, "run", run)
    try:
        assert cli("bench", "mixer_p2_8", "--quick", "--csv", tmp_path / "rows.csv")[0] == code
    except SystemExit as ended:
        assert ended.code == code
    assert code == 130 or "a network" in capsys.readouterr().out
    row, = csv.DictReader((tmp_path / "rows.csv").read_text().splitlines())
    assert row["model"] == "a network"


@pytest.mark.parametrize("content", ["[]", '{"source": "digits"}', '{"source": {"data": "digits", "newer": 1}}', "{}"])
def test_a_run_that_does_not_say_what_it_learnt_from_is_no_crash(tmp_path: Path, content: str):
    (tmp_path / "run.json").write_text(content)
    assert run_data(str(tmp_path)) is None


def test_a_run_without_images_to_measure_on_is_measured_for_speed(monkeypatch, capsys, tmp_path: Path):
    checkpoint.save(create_model("mixer_p2_8", num_classes=10), tmp_path / "m.safetensors")
    digits = open_data("digits")
    only = replace(digits, splits={"train": digits.splits["train"]})
    monkeypatch.setattr("allmlp.commands.bench.run_data", lambda name: only)
    options = parser().parse_args(["bench", str(tmp_path / "m.safetensors")])
    entry, = entries_of(options.models[0], {"pytorch": True}, options, None, tmp_path / "0", Failures())
    assert entry.top1 is None
    assert "without top-1" in capsys.readouterr().err


@pytest.mark.parametrize("quick", [False, True])
def test_a_run_whose_description_is_damaged_is_said_to_be_without_accuracy(capsys, tmp_path: Path, quick: bool):
    checkpoint.save(create_model("mixer_p2_8", num_classes=10), tmp_path / "best.safetensors")
    (tmp_path / "run.json").write_text('{"source": ')
    options = parser().parse_args(["bench", str(tmp_path), *(["--quick"] if quick else [])])
    entry, = entries_of(options.models[0], {"pytorch": True}, options, None, tmp_path / "0", Failures())
    assert entry.top1 is None
    said = f"{tmp_path}: without top-1: its run.json or its data cannot be opened; give --data\n"
    assert capsys.readouterr().err == ("" if quick else said)  # a quick one measures no accuracy anyway


GIB = 1 << 30


def test_a_batch_that_does_not_fit_into_memory_is_told_with_what_would(monkeypatch, cli):
    monkeypatch.setattr("allmlp.commands.memory.free_memory", lambda: 4 * GIB)
    monkeypatch.setattr(bench, "run", None)
    for threads, most in (((1,), 4 * GIB // (2 * (8 * 8 * 3 + 8 * 1000))), ((1, 2), 4 * GIB // (3 * (192 + 8000)))):
        code, out, err = cli("bench", "mixer_p2_8", "--batch", 1, 10**9, "--threads", *threads)
        assert (code, out) == (2, "")
        assert f"--batch {10**9}: images of 8x8 " in err.splitlines()[-1]
        assert f"and 4.29 GB are free; accepted: up to {most}" in err.splitlines()[-1]
        check_batch(most, (8, 8), 1000, len(threads))
        with pytest.raises(BadSetting):
            check_batch(most + 1, (8, 8), 1000, len(threads))


def test_exports_say_how_much_a_batch_of_theirs_takes(tmp_path: Path):
    model = create_model("mixer_p2_8", num_classes=10, image_size=(8, 12))
    unverified(model, tmp_path / "onnx", Wish("onnx"))
    assert size_of_export(str(tmp_path / "onnx")) == ((8, 12), 10)
    assert size_of_logits(model) == 10
    pytest.importorskip("allmlp_native", reason="the engine is not installed: make native")
    native.export(model, tmp_path / "m.allmlp")
    assert size_of_export(str(tmp_path / "m.allmlp")) == ((8, 12), 10)


def test_what_the_machine_has_free_is_less_than_all_it_has():
    free = free_memory()
    assert free is None or 1 << 20 < free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_the_images_of_a_large_batch_are_the_digits_again_and_again():
    many = images((8, 8), 800)
    assert many.shape == (800, 8, 8, 3)
    assert np.array_equal(many[:360], images((8, 8), 360))
    assert np.array_equal(many[360:720], many[:360])
    assert np.array_equal(many[720:], images((8, 8), 80))


def test_no_peak_is_known_of_more_threads_than_the_engine_takes():
    pytest.importorskip("allmlp_native", reason="the engine is not installed: make native")
    assert bench.peak("fp32", 257) is None
