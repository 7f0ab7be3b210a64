"""`allmlp export` and `allmlp doctor`."""

import importlib.util
import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from allmlp import checkpoint, create_model
from allmlp.backends import BACKENDS, native
from allmlp.backends.export import Wish, unverified
from allmlp.cli import parser
from allmlp.commands.doctor import why_not
from allmlp.commands.export import check_one_label, default_folder, evidence, pictures
from allmlp.data.dataset import Data
from allmlp.data.digits import ArrayImages
from allmlp.errors import BadData, BadSetting

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'allmlp[export]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install 'allmlp[export]'")


def test_an_exported_run_is_a_model_for_evaluate_and_predict(cli, trained: Path, digit_files: Path, tmp_path: Path):
    folder = tmp_path / "onnx"
    code, out, _ = cli("export", trained, "--to", "onnx", "--output", folder, "--threads", 1, "--json")
    said = json.loads(out)
    assert code == 0
    assert said["folder"] == str(folder)
    assert said["origin"]["model"] == trained.name
    assert len(said["origin"]["sha256"]) == 64
    assert said["verification"]["source"] == "digits, test"
    assert said["verification"]["accuracy_drop"] == 0
    assert "division" not in said  # the digits have a test split of their own
    before, after = (json.loads(cli("evaluate", model, "digits", "--json")[1]) for model in (trained, folder))
    assert after["top1_percent"] == before["top1_percent"]
    code, out, _ = cli("predict", folder, digit_files / "test" / "3", "--json")
    assert code == 0
    assert {entry["class"] for entry in json.loads(out)["predictions"][0]["top"]} <= set("0123456789")


@pytest.mark.parametrize("size,name", [((), "mixer_p2_8-onnx-fp32"),
                                       (("--image-size", "12x8"), "mixer_p2_8-12x8-onnx-fp32")])
def test_the_folder_it_makes_by_itself_says_what_it_holds(size: tuple[str, ...], name: str):
    assert default_folder(parser().parse_args(["export", "mixer_p2_8", "--to", "onnx", *size])) == f"exports/{name}"


def test_what_int8_costs_each_layer_is_printed_worst_first(cli, trained: Path, tmp_path: Path):
    code, out, _ = cli("export", trained, "--to", "onnx", "--precision", "int8", "--sensitivity", "--threads", 1,
                       "--calibration", "percentile", "--output", tmp_path / "int8", "--images", 20)
    assert code == 0
    table = [line.split() for line in out.splitlines() if line.startswith(("stem", "blocks."))]
    assert len(table) > 2
    costs = [float(row[1]) for row in table]
    assert costs == sorted(costs, reverse=True)
    assert all(row[2] == "%" for row in table)


@pytest.mark.parametrize("arguments,message", [
    (("--to", "onnx", "--precision", "bf16"), "onnx has fp32, int8"),
    (("--to", "onnx", "--precision", "int8", "--quantiser", "nncf"), "ours, ort"),
    (("--to", "onxx"), "invalid choice"),
    (("--precison", "int8", "--to", "onnx"), "--precison int8 (did you mean --precision?); see `allmlp export --help`"),
    (("--to", "native", "--image-size", "600"), "patches of an image: 90,000; the engine takes at most 65,536"),
    (("--to", "onnx", "--image-size", "20000"), "20000x20000: both sides must be at least 1 pixel, at most 16384"),
    (("--to", "onnx", "--runtime", "x"), "--runtime x: is of --to browser only"),
    (("--to", "onnx", "--calibration-images", "8"), "int8 alone is calibrated"),
    (("--to", "onnx", "--precision", "auto"), "give --max-drop"),
    (("--to", "onnx", "--precision", "int8", "--migrate", "2"), "migrate 2; accepted: 0 to 1"),
    (("--to", "native", "--precision", "int8", "--activations", "dynamic"), "ranges of calibration; use --to onnx"),
    (("--to", "native", "--activations", "dynamic"), "ranges of calibration; use --to onnx"),
    (("--to", "onnx", "--val-fraction", "0.5"), "--val-fraction says how DATA is opened; give --data too"),
    (("--to", "onnx", "--skip-bad"), "--skip-bad says how DATA is opened; give --data too"),
    (("--to", "onnx", "--split-seed", "0"), "--split-seed says how DATA is opened; give --data too"),
    (("--to", "onnx", "--calibration", "mse"), "about our own int8, not onnx fp32"),
    (("--to", "onnx", "--precision", "int8", "--max-drop", "-1"), "'-1' is not a number of at least 0"),
    (("--to", "onnx", "--precision", "int8", "--max-drop", "nan"), "'nan' is not a number of at least 0"),
])  # fmt: skip
def test_what_cannot_be_exported_is_one_line_and_exit_code_2(cli, trained: Path, arguments: tuple, message: str):
    code, _, err = cli("export", trained, *arguments)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", ["inspect", "export", "train"])
def test_an_export_where_the_network_itself_is_needed_is_one_line_that_says_what_is_accepted(
        cli, trained: Path, tmp_path: Path, command: str):
    made = {"onnx": tmp_path / "folder", "native": tmp_path / "file.allmlp"}
    unverified(checkpoint.load(trained), made["onnx"], Wish("onnx"))
    native.export(checkpoint.load(trained), made["native"])
    arguments = {"inspect": (), "export": ("--to", "onnx"), "train": ("--output", tmp_path / "run")}[command]
    for model, what in ((made["onnx"], "an export"), (made["native"], "a file for the engine")):
        given = ("digits", "--init", model) if command == "train" else (model,)
        code, out, err = cli(command, *given, *arguments)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert f"{model}: {what}, which `allmlp predict`, `evaluate`, `bench` and `serve` take; here the network" in err
        assert "give a checkpoint (.safetensors), a run folder" in err


def test_an_engine_file_whose_beginning_is_damaged_or_that_is_cut_off_says_what_to_do(
        cli, trained: Path, digit_files: Path, tmp_path: Path):
    native.export(checkpoint.load(trained), tmp_path / "good.allmlp")
    content = (tmp_path / "good.allmlp").read_bytes()
    for name, damaged in (("begin", b"B" + content[1:]), ("cut", content[:-900]), ("empty", b"")):
        (tmp_path / f"{name}.allmlp").write_bytes(damaged)
        code, out, err = cli("predict", tmp_path / f"{name}.allmlp", digit_files)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert f"{name}.allmlp: " in err
        assert "export the network again, or get another copy of the file" in err


def test_int8_needs_images_of_the_networks_own(cli, trained: Path, tmp_path: Path):
    lonely = tmp_path / "lonely.safetensors"  # away from its run, which knows its data
    lonely.write_bytes((trained / "best.safetensors").read_bytes())
    code, _, err = cli("export", lonely, "--to", "onnx", "--precision", "int8")
    assert code == 2
    assert "give --data" in err


def test_what_memory_does_not_hold_is_one_line_and_exit_code_2(cli, trained: Path, monkeypatch, capsys):
    def fails(error: Exception) -> None:
        def too_large(*_given, **_named):
            raise error

        monkeypatch.setattr("allmlp.commands.export.evidence", too_large)

    torchs = RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried "
                          "to allocate 65536000000 bytes. Error code 12")
    for error in (MemoryError(), torchs, MemoryError("Unable to allocate 65.5 GiB for an array")):
        fails(error)
        code, out, err = cli("export", trained, "--to", "onnx")
        assert (code, out) == (2, "")
        assert err.startswith("allmlp: not enough memory")
        assert err.endswith("give smaller images, fewer at a time, or a smaller network\n")
        asked = {"65536000000": "(asked for 65536000000 bytes at once)", "65.5": "(asked for 65.5 GiB at once)"}
        assert all((number in str(error)) == (said in err) for number, said in asked.items())
    fails(RuntimeError("a mistake of ours"))
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        cli("export", trained, "--to", "onnx")


def test_fewer_images_than_asked_for_are_told(cli, trained: Path, tmp_path: Path):
    code, out, err = cli("export", trained, "--to", "native", "--precision", "int8", "--calibration-images", 5000,
                         "--max-drop", 90, "--images", 1, "--threads", 1, "--output", tmp_path / "int8", "--json")
    assert "int8 has its ranges from all 1,437 training images, not from 5,000" in err
    assert "--max-drop 90: each of the 1 images is 100 points, so that none may be lost" in err
    assert json.loads(out)["calibration_images"] == 1437
    assert code in (0, 1)  # by whether int8 was slower at that moment


def test_a_run_whose_data_is_gone_says_what_it_was_verified_on_only_when_it_was(
        cli, trained: Path, monkeypatch, tmp_path: Path):
    monkeypatch.setattr("allmlp.commands.export.run_data", lambda run: None)
    code, _, err = cli("export", trained, "--to", "native", "--precision", "int8", "--output", tmp_path / "a")
    assert code == 2
    assert "give --data" in err
    assert "verified" not in err
    code, _, err = cli("export", trained, "--to", "native", "--output", tmp_path / "b", "--threads", 1)
    assert code == 0
    assert f"{trained}: its run.json or its data cannot be opened; verified on digits, unless you give --data" in err


def test_what_is_compared_on_was_not_calibrated_on():
    images = np.repeat(np.arange(10, dtype=np.uint8), 8 * 8 * 3).reshape(10, 8, 8, 3)  # each says its number
    dataset = ArrayImages(images, np.arange(10), tuple("0123456789"), [f"{number}" for number in range(10)])
    model = create_model("mixer_p2_8", num_classes=10)
    calibrated = set(pictures(dataset, model.preprocess, 4)[:, 0, 0, 0])
    alone = evidence(model, Data("x", dataset.classes, {"train": dataset}), True, None, 4, needs_labels=True)
    assert len(calibrated) == 4
    assert {*alone.images[:, 0, 0, 0]} == {*range(10)} - calibrated
    assert alone.labels is not None
    assert [*alone.labels] == [*alone.images[:, 0, 0, 0]]
    apart = evidence(model, Data("x", dataset.classes, {"train": dataset, "test": dataset}), True, 3, 4, False)
    assert [*apart.images[:, 0, 0, 0]] == [0, 4, 9]


def test_images_with_several_labels_have_no_accuracy_to_drop_and_soft_ones_that_of_their_largest_share():
    share = np.float32([[0.1, 0.9], [0.5, 0.5], [0.8, 0.2]])
    several = (share > 0.3).astype(np.uint8)
    for labels, said in ((several, "of x has several labels; leave it out, with"), (share, None)):
        dataset = ArrayImages(np.zeros((3, 8, 8, 3), np.uint8), labels, ("a", "b"), list("123"))
        data, model = Data("x", dataset.classes, {"test": dataset}), create_model("mixer_p2_8", classes=["b", "a"])
        found = evidence(model, data, True, None, 0, needs_labels=True).labels
        if said is None:
            check_one_label(data)
            assert found is not None
            assert [*found] == [0, 0, 1]  # as the network numbers them; of two that are equal its first
        else:
            assert found is None
            with pytest.raises(BadSetting, match=said):
                check_one_label(data)


def test_a_place_where_nothing_can_be_written_is_told_before_any_work(cli, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    code, out, err = cli("export", "no such model", "--to", "onnx", "--output", tmp_path / "file" / "onnx")
    assert (code, out) == (2, "")
    assert err == (f"allmlp: {tmp_path}/file/onnx: nothing can be written into {tmp_path}/file; choose another "
                   "--output\n")


def test_all_training_images_do_to_compare_on_where_none_is_calibrated_on():
    dataset = ArrayImages(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int64), ("0",), list("abcd"))
    data, model = Data("x", dataset.classes, {"train": dataset}), create_model("mixer_p2_8", num_classes=1)
    assert len(evidence(model, data, True, None, 0, needs_labels=False).images) == 4
    with pytest.raises(BadData, match="all 4 training images, .* give fewer --calibration-images"):
        evidence(model, data, True, None, 64, needs_labels=False)


def test_more_images_than_memory_holds_are_told_with_how_many_it_does(cli, trained: Path, tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("allmlp.commands.memory.free_memory", lambda: 50 * (8 * 8 * 3 + 48 * 10))
    arguments = ("export", trained, "--to", "onnx", "--max-drop", 100, "--threads", 1, "--output", tmp_path / "onnx")
    code, out, err = cli(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "360 images of 8x8 to compare the export on" in err
    assert "give --images N, up to 50" in err
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("allmlp.backends.verify.AT_ONCE", 16)  # the last time two images, and all in their order
    code, out, _ = cli(*arguments, "--images", 50, "--json")
    found = json.loads(out)["verification"]
    assert (code, found["images"], found["top1_agreement_percent"]) == (0, 50, 100)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stopped_export_leaves_nothing_behind(stopped, trained: Path, tmp_path: Path, number: signal.Signals):
    (tmp_path / "temporary").mkdir()
    code, _ = stopped(number, lambda: any(tmp_path.glob("made/.onnx.*.tmp/manifest.json")), "export", trained, "--to",
                      "onnx", "--output", tmp_path / "made" / "onnx", "--threads", 1, TMPDIR=f"{tmp_path}/temporary")
    assert code == 128 + number
    assert not [*(tmp_path / "made").iterdir(), *(tmp_path / "temporary").glob("tmp*")]  # others put things there too


@pytest.mark.slow
def test_what_a_killed_export_leaves_is_removed_by_the_next(cli, stopped, trained: Path, tmp_path: Path):
    arguments = ("export", trained, "--to", "onnx", "--output", tmp_path / "made" / "onnx", "--threads", 1)
    code, _ = stopped(signal.SIGKILL, lambda: any(tmp_path.glob("made/.onnx.*.tmp/manifest.json")), *arguments)
    assert code == -signal.SIGKILL
    assert [path.name[:6] for path in (tmp_path / "made").iterdir()] == [".onnx."]
    assert cli(*arguments)[0] == 0
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["onnx"]


def test_classes_without_names_are_compared_by_accuracy_only_where_they_are_as_many_as_the_datas():
    dataset = ArrayImages(np.zeros((4, 8, 8, 3), np.uint8), np.arange(4), tuple("0123"), list("abcd"))
    data = Data("x", dataset.classes, {"train": dataset, "test": dataset})
    model = create_model("mixer_p2_8", num_classes=7)
    with pytest.raises(BadData, match="the network has 7 classes without names, and the data 4"):
        evidence(model, data, True, None, 4, needs_labels=True)  # it would be wrong before and after, and lose nothing
    assert evidence(model, data, True, None, 4, needs_labels=False).labels is None


def test_the_command_line_offers_every_backend():
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    to = next(action for action in commands["export"]._actions if action.dest == "to")
    assert {*to.choices} == {*BACKENDS, "browser"}  # a page that runs the network by ONNX


def test_the_doctor_says_why_a_kernel_does_not_run():
    old = {"sse2", "avx", "avx2", "fma"}
    new = old | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
    assert why_not("avx512", "bf16", new) == "the processor lacks avx512_bf16"
    assert why_not("avx512", "int8", new) == "the processor lacks avx512_vnni, avx512vbmi"
    assert why_not("avx2", "fp32", {"sse2", "avx", "fma"}) == "the processor lacks avx2"
    assert why_not("avx512", "fp32", new) == "the operating system does not allow it"  # since the processor has it all
    assert why_not("avx2", "fp32", set()) == "the processor or the operating system lacks avx2, fma"
    assert why_not("neon", "int8", {"asimd"}) == "the processor lacks asimddp"
    assert why_not("neon-i8mm", "bf16", {"asimd", "asimddp"}) == "the processor lacks i8mm"
    assert why_not("neon-i8mm", "fp32", set()).endswith("lacks asimddp, i8mm")


@pytest.mark.parametrize("to,precision,package,extra", [
    ("onnx", "fp32", "onnxscript", "export"), ("browser", "fp32", "onnx", "export"),
    ("openvino", "int8", "nncf", "openvino"), ("executorch", "int8", "torchao", "executorch"),
])  # fmt: skip
def test_a_package_that_writing_takes_is_missed_before_any_work(cli, monkeypatch: pytest.MonkeyPatch, to: str,
                                                                precision: str, package: str, extra: str):
    for running in BACKENDS["onnx" if to == "browser" else to].packages:
        pytest.importorskip(running)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    code, out, err = cli("export", "no such model", "--to", to, "--precision", precision)
    assert (code, out) == (2, "")
    assert err == f"allmlp: the package {package!r} is not installed; install it: pip install 'allmlp[{extra}]'\n"


def test_the_doctor_counts_the_cores_that_a_container_gets_the_time_of(cli, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("allmlp_native", reason="the engine is not built: make native")
    monkeypatch.setattr("allmlp_native.processors.share", lambda: 0.5)  # docker run --cpus 0.5
    assert json.loads(cli("doctor", "--json")[1])["processor"]["cores"] == 1


def test_the_doctor_knows_every_backend(cli, monkeypatch: pytest.MonkeyPatch):
    code, out, _ = cli("doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert [row["name"] for row in found["backends"]] == list(BACKENDS)
    assert next(row for row in found["backends"] if row["name"] == "onnx")["works"]
    assert found["libraries"]["onnxruntime"] == onnxruntime.__version__
    assert found["processor"]["cores"] >= 1
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnx" else real(name))
    rows = {row["name"]: row for row in json.loads(cli("doctor", "--json")[1])["backends"]}
    assert not rows["onnx"]["works"]  # written networks run, but none can be written
    assert rows["onnx"]["why"] == "onnx is not installed: pip install 'allmlp[export]'"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, _ = cli("doctor")
    assert code == 0
    assert "onnx        no     onnxruntime is not installed: pip install 'allmlp[export]'" in out
