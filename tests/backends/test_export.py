"""Exporting as a whole: run elsewhere, compared, and kept only if it is right."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from allmlp import load_predictor
from allmlp.backends import manifest as manifests
from allmlp.backends.auto import choose, export_auto
from allmlp.backends.export import Exported, Wish, export, put, unverified
from allmlp.backends.manifest import Manifest
from allmlp.backends.others import others_percent
from allmlp.backends.process import PredictorProcess
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.backends.verify import Evidence, _compare
from allmlp.commands.launch import launch
from allmlp.errors import BadCheckpoint, BadData, BadSetting, CannotWrite, UnknownName
from allmlp.models.blocks import MixerConfig
from allmlp.models.blocks.attention import AttentionConfig
from allmlp.models.config import ModelConfig
from allmlp.models.model import Model
from allmlp.preprocess import Preprocess
from allmlp.quantize.calibrate import calibrate
from allmlp.quantize.choices import Choices
from allmlp.testing import randomise
from allmlp.web.page import complete

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'allmlp[export]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'allmlp[export]'")


def network(depth: int = 2, seed: int = 3) -> Model:
    model = Model(ModelConfig(image_size=(12, 16), patch_size=(4, 4), width=32, depth=depth, num_classes=10,
                              blocks=(MixerConfig(token_hidden=10, channel_hidden=64),)))  # fmt: skip
    randomise(model, seed)
    return model.eval()


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 12, 16, 3), dtype=np.uint8)


def evidence(model: Model, count: int = 30, labels: bool = False) -> Evidence:
    predictor, images = PyTorchPredictor(model), pictures(count)
    logits = predictor(images)
    return Evidence(images, logits.argmax(1) if labels else None, "noise", logits, predictor)


def exported(model: Model, folder: Path, wish: Wish, seen: Evidence | None = None, **settings: Any) -> Exported:
    return export(model, folder, wish, seen or evidence(model), calibration=pictures(40, seed=1), **settings)


def earlier(folder: Path, **fields: Any) -> Path:
    """An export that an earlier program left: a manifest, and a file that it lists."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"earlier")
    manifests.write(folder, Manifest(backend="onnx", precision="fp32", preprocess=Preprocess(image_size=(8, 8)),
                                     num_classes=2, files=manifests.digests(folder), **fields))
    return folder


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_an_export_is_run_elsewhere_and_says_how_it_did(tmp_path: Path):
    model = network()
    (tmp_path / ".made.0123abcd.tmp").mkdir()  # of one that was killed
    done = exported(model, tmp_path / "made", Wish("onnx", threads=1), origin={"model": "m.safetensors"})
    assert done.folder == tmp_path / "made"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["made", "manifest.json", "model.onnx"]
    manifest = manifests.read(tmp_path / "made")
    found = manifest.verification
    assert manifest == done.manifest
    assert found is not None
    assert found.passed
    assert found.without_torch
    assert found.images == 30
    assert found.rms_error < 1e-5
    assert found.top1_agreement_percent == 100
    assert 0 < found.latency_ms < 1000
    assert manifest.origin == {"model": "m.safetensors"}
    assert load_predictor(tmp_path / "made").preprocess == model.preprocess


@pytest.mark.parametrize("make", [export, export_auto])
def test_an_export_that_its_runtime_refuses_is_called_by_the_name_that_it_was_given(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any):
    def write(model: Model, path: Path, *_: Any, **__: Any) -> None:
        path.write_bytes(b"no graph")

    monkeypatch.setattr("allmlp.backends.onnx.export", write)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadCheckpoint, match=r"^made/new/model\.onnx: ONNX Runtime refuses it: "):
        make(network(), Path("made/new"), Wish("onnx", "int8", max_drop=1.0, threads=1),
             evidence(network(), labels=True), pictures(4))


def test_an_export_that_answers_otherwise_is_not_kept(tmp_path: Path):
    done = exported(network(seed=3), tmp_path / "made", Wish("onnx", threads=1), evidence(network(seed=4)))
    assert done.folder is None
    assert done.manifest.verification is not None
    assert "its logits differ by" in done.manifest.verification.failures[0]
    assert not list(tmp_path.iterdir())


def test_layers_that_int8_hurts_too_much_go_back_to_float(tmp_path: Path):
    model = network(depth=4)
    with torch.no_grad():  # hidden units far outside the others' range take their precision
        model.blocks[2].get_parameter("mlp_channels.fc1.bias")[:8] = 1000
        model.blocks[2].get_parameter("mlp_channels.fc2.weight")[:, :8] = 0
        model.get_parameter("head.bias").sub_(torch.from_numpy(PyTorchPredictor(model)(pictures(50, 2)).mean(0)))
    done = exported(model, tmp_path / "made", Wish("onnx", "int8", max_drop=5.0, threads=1),
                    evidence(model, 200, labels=True))
    assert done.tried[0][0] == 0
    assert any("points of accuracy, more than the 5" in failure for failure in done.tried[0][1])
    assert done.manifest.float_layers == {"blocks.2.channels": "fp32"}
    found = done.manifest.verification
    assert found is not None
    assert found.accuracy_drop is not None
    assert found.accuracy_drop <= 5
    assert found.fp32_latency_ms is not None  # so small a network may be slower in int8, and is refused then
    assert (done.folder is None) == any("slower than fp32" in failure for failure in found.failures)


@pytest.mark.slow
def test_auto_keeps_the_fastest_precision_within_the_budget_and_says_why(tmp_path: Path):
    pytest.importorskip("allmlp_native", reason="the engine is not built: make native")
    model = network(depth=2)
    calibration = pictures(40, seed=1)
    with pytest.raises(BadSetting, match="give --max-drop"):
        export_auto(model, tmp_path / "made", Wish("native"), evidence(model, labels=True), calibration)
    budget = Wish("native", "int8", max_drop=100.0, threads=1, sensitivity=True)
    done = export_auto(model, tmp_path / "made", budget, evidence(model, labels=True), calibration)
    assert done.folder == tmp_path / "made"
    said = manifests.read(tmp_path / "made").chosen
    assert said == done.manifest.chosen
    assert said[-1].startswith(f"{done.manifest.precision} is chosen")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]

    with torch.no_grad():  # int8 and bf16 that lose more than is allowed leave fp32
        model.blocks[1].get_parameter("mlp_channels.fc1.bias")[:8] = 1e5
        model.blocks[1].get_parameter("mlp_channels.fc2.weight")[:, :8] = 1
        model.blocks[1].get_parameter("mlp_channels.fc2.bias").sub_(8e5)
    exact = evidence(model, 100, labels=True)
    done = export_auto(model, tmp_path / "other", Wish("native", max_drop=0.0, threads=1), exact, calibration)
    assert done.manifest.precision == "fp32"
    assert "int8 does not do: " in done.manifest.chosen[0]


@pytest.mark.slow
@pytest.mark.parametrize("backend,config,why,chosen", [
    ("onnx", {"blocks": (MixerConfig(token_hidden=10, channel_hidden=64), AttentionConfig(heads=2, channel_hidden=64))},
     "the engine and our int8 are for mixer, resmlp and gmlp blocks, not blocks of the kind 'attention'; ", {"fp32"}),
    ("native", {"image_size": (108, 112), "patch_size": (108, 112)},
     "numbers of a patch in int8: 36,288; the engine takes at most 32,768; use another precision", {"bf16", "fp32"}),
])  # fmt: skip
def test_auto_goes_on_without_int8_for_a_network_that_int8_is_not_made_for_and_says_so(
        tmp_path: Path, backend: str, config: dict[str, Any], why: str, chosen: set[str]):
    if backend == "native":
        pytest.importorskip("allmlp_native", reason="the engine is not built: make native")
    model = Model(network().config.with_(**config))
    randomise(model.eval(), seed=3)
    predictor = PyTorchPredictor(model)
    images = np.random.default_rng(0).integers(0, 256, (30, *model.config.image_size, 3), dtype=np.uint8)
    logits = predictor(images)
    done = export_auto(model, tmp_path / "made", Wish(backend, "int8", max_drop=100.0, threads=1),
                       Evidence(images, logits.argmax(1), "noise", logits, predictor), images)
    assert done.manifest.chosen[0].startswith(f"int8 is left out: {why}")
    assert done.manifest.precision in chosen
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("passed,best,why", [
    ({"int8": (0.5, 10), "bf16": (0.7, 20)}, "int8", "the fastest"),
    ({"int8": (0.7, 10), "bf16": (0.5, 20)}, "bf16", "the fastest"),
    ({"int8": (0.51, 10), "bf16": (0.5, 20)}, "int8", "no slower than bf16 by more than the noise, and smaller"),
    ({"int8": (0.5, 10), "bf16": (0.5, 20)}, "int8", "no slower than bf16"),
    ({"fp32": (1.0, 40)}, "fp32", "the fastest"),
])  # fmt: skip
def test_auto_takes_the_faster_precision_and_of_two_equally_fast_the_smaller(passed, best: str, why: str):
    chosen, said = choose(passed)
    assert chosen == best
    assert said.startswith(why)


def test_what_int8_costs_each_layer_is_in_the_manifest(tmp_path: Path):
    wish = Wish("onnx", "int8", threads=1, choices=Choices("percentile", 0.7), sensitivity=True)
    done = exported(network(), tmp_path / "made", wish)
    manifest = manifests.read(tmp_path / "made")
    assert (manifest.calibration, manifest.migrate) == ("percentile", 0.7)
    assert manifest.sensitivity == done.manifest.sensitivity
    assert [cost.layer for cost in manifest.sensitivity] == [
        "stem", "blocks.0.tokens", "blocks.0.channels", "blocks.1.tokens", "blocks.1.channels"]


@pytest.mark.parametrize("wish,message", [
    (Wish("onnx", "bf16"), "onnx has fp32, int8; bf16 is there for"),
    (Wish("onnx", "int8", "nncf"), "accepted with --precision int8: ours, ort"),
    (Wish("onnx", "fp32", "ours"), "accepted with --precision int8"),
    (Wish("onnx", max_drop=1), "images with labels"),
    (Wish("onnx", "int8", "ort", choices=Choices()), "about our own int8, not onnx ort"),
    (Wish("onnx", sensitivity=True), "about our own int8, not onnx fp32"),
])  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_done(wish: Wish, message: str, tmp_path: Path):
    with pytest.raises(BadSetting, match=message):
        exported(network(), tmp_path / "made", wish)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layer,where", [("mlp_channels.fc1", "in block 1"), ("mlp_channels.fc2", "at its end")])
def test_a_network_that_overflows_is_refused_by_what_would_measure_it(layer: str, where: str):
    model = network()
    with torch.no_grad():
        model.blocks[1].get_parameter(f"{layer}.weight").fill_(3e38)
        model.blocks[1].get_parameter(f"{layer}.bias").fill_(3e38)
    with pytest.raises(BadData, match=f"{where} the network's numbers are not finite"):
        calibrate(model, pictures(4))
    with pytest.raises(BadData, match="noise: the network's own logits are not finite in PyTorch"):
        evidence(model)


def test_an_unknown_backend_is_answered_with_the_nearest(tmp_path: Path):
    with pytest.raises(UnknownName, match="did you mean onnx"):
        exported(network(), tmp_path / "made", Wish("onxx"))


def test_only_an_export_is_replaced_and_only_when_asked(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for overwrite in (False, True):  # it does not help to say --overwrite, so it is not advised either
        with pytest.raises(CannotWrite, match="exists and is no exported folder, so not replaced; choose another"):
            exported(network(), tmp_path / "mine", Wish("onnx"), overwrite=overwrite)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_nothing_is_put_where_a_link_to_nothing_leads(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for overwrite in (False, True):
        with pytest.raises(CannotWrite, match="link: a link to nothing; choose another --output"):
            exported(network(), tmp_path / "link", Wish("onnx"), overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_processes_of_ours_run_no_module_of_the_folder_they_are_started_in(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    for name in ("secrets.py", "argparse.py", "json.py"):
        (tmp_path / name).write_text("import os; os._exit(3)")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(BadCheckpoint, match="export the network again"):
        PredictorProcess(tmp_path)
    assert launch(1, ["--version"]) == 0
    assert capfd.readouterr().out.startswith("allmlp ")


def test_a_process_that_cannot_load_says_why(tmp_path: Path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(BadCheckpoint, match="export the network again"):
        PredictorProcess(tmp_path)


def test_a_process_that_the_system_ends_says_by_what(tmp_path: Path):
    model = network()
    unverified(model, tmp_path / "onnx", Wish("onnx"))
    with PredictorProcess(tmp_path / "onnx") as process:
        process.process.kill()  # as Linux does where memory runs out
        with pytest.raises(BadCheckpoint, match="its process was ended by SIGKILL, perhaps for want of memory"):
            process.logits(pictures(1))


def test_what_stood_there_stands_there_again_where_an_export_cannot_take_its_place(tmp_path: Path):
    earlier(tmp_path / "export")
    with pytest.raises(CannotWrite, match="cannot be written: No such file"):
        put(tmp_path / ".export.made.tmp", tmp_path / "export", overwrite=True)
    assert everything(tmp_path) == ["export", "export/manifest.json", "export/model.onnx"]
    assert (tmp_path / "export" / "model.onnx").read_text() == "earlier"


def test_an_export_that_came_there_meanwhile_is_not_replaced_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = earlier(tmp_path / ".export.1.tmp")
    monkeypatch.setattr("allmlp.backends.export.check_place", lambda target, overwrite: earlier(target))
    with pytest.raises(CannotWrite, match="cannot be written"):
        put(made, tmp_path / "export", overwrite=False)
    assert everything(tmp_path / "export") == ["manifest.json", "model.onnx"]
    assert everything(made) == ["manifest.json", "model.onnx"]


def test_a_stop_between_the_two_renames_leaves_what_stood_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made, target = earlier(tmp_path / ".export.1.tmp"), earlier(tmp_path / "export")
    (target / "model.onnx").write_text("the one that stood there")
    rename = os.replace

    def stopped(one: Path, other: Path) -> None:
        if one == made:
            raise KeyboardInterrupt
        rename(one, other)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        put(made, target, overwrite=True)
    assert (target / "model.onnx").read_text() == "the one that stood there"


@pytest.mark.parametrize("name", ["notes.txt", "data/images/1.png", "timm/model.onnx"])
def test_a_file_that_no_export_wrote_is_never_lost_with_an_earlier_one(name: str, tmp_path: Path):
    folder = earlier(tmp_path / "export")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(CannotWrite, match=f"export: holds {name}, which no export wrote there, .*move that away"):
        exported(network(), folder, Wish("onnx"), overwrite=True)
    assert everything(tmp_path) == before
    assert (folder / name).read_text() == "mine"


def test_a_link_in_an_earlier_export_is_a_file_of_somebodys_too(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    folder = earlier(tmp_path / "export")
    (folder / "photos").symlink_to(tmp_path / "photos")
    with pytest.raises(CannotWrite, match="holds photos, which no export wrote"):
        put(tmp_path / "made", folder, overwrite=True)
    assert (folder / "photos").is_symlink()


@pytest.mark.parametrize("text", ['{"name": "A program for the web", "start_url": "/"}', '{"format": 1, "back'])
def test_a_folder_with_a_manifest_of_another_kind_or_a_damaged_one_is_not_replaced(text: str, tmp_path: Path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text(text)
    with pytest.raises(CannotWrite, match="app: its manifest.json is not that of an export, or damaged, so"):
        exported(network(), tmp_path / "app", Wish("onnx"), overwrite=True)
    assert (tmp_path / "app" / "manifest.json").read_text() == text


def test_a_page_beside_an_export_is_the_exports_own_and_replaced_with_it(tmp_path: Path):
    folder = earlier(tmp_path / "page", beside=("index.html", "ort/ort.wasm"))
    (folder / "ort").mkdir()
    for name in ("index.html", "ort/ort.wasm"):
        (folder / name).write_text("earlier")

    def finish(made: Path) -> None:
        (made / "pictures").mkdir()
        (made / "pictures" / "1.png").write_text("new")

    done = exported(network(), folder, Wish("onnx", threads=1), overwrite=True, finish=finish)
    assert everything(folder) == ["manifest.json", "model.onnx", "pictures", "pictures/1.png"]
    assert manifests.read(folder) == done.manifest
    assert done.manifest.beside == ("pictures/1.png",)
    (folder / "pictures" / "2.png").write_text("mine")
    with pytest.raises(CannotWrite, match=r"holds pictures/2\.png, which no export wrote"):
        exported(network(), folder, Wish("onnx"), overwrite=True)


def test_the_folder_where_one_stands_can_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    earlier(tmp_path / "export")
    monkeypatch.chdir(tmp_path / "export")
    done = exported(network(), Path(), Wish("onnx", threads=1), overwrite=True)
    assert done.folder == Path()
    assert manifests.read(tmp_path / "export") == done.manifest
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_an_export_that_cannot_be_finished_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("allmlp.web.page.runtime_files", lambda folder: {})  # they would be fetched
    earlier(tmp_path / "page")

    def finish(folder: Path) -> None:
        assert manifests.is_export(folder)
        (folder / "ort").write_text("where a folder should be")
        complete(folder, network(), "network", None)

    with pytest.raises(CannotWrite, match="the page cannot be written: File exists; free some space"):
        exported(network(), tmp_path / "page", Wish("onnx", threads=1), overwrite=True, finish=finish)
    assert everything(tmp_path) == ["page", "page/manifest.json", "page/model.onnx"]
    assert (tmp_path / "page" / "model.onnx").read_text() == "earlier"


def test_an_accuracy_that_drops_by_just_what_is_allowed_drops_by_no_more():
    logits, labels = np.tile(np.float32([1, 0]), (100, 1)), np.zeros(100, np.int64)
    seen = Evidence(pictures(100), labels, "noise", logits, lambda images: logits[: len(images)])
    for wrong in range(1, 100):
        answers = np.where(np.arange(100)[:, None] < wrong, logits[:, ::-1], logits)
        assert _compare(answers, seen, limit=1.0)[0]["accuracy_drop"] == wrong


def test_what_others_had_of_the_processors_is_what_is_busy_and_not_ours():
    assert others_percent(busy=3.0, own=2.0, elapsed=2.0, processors=2) == 25
    assert others_percent(busy=1.9, own=2.0, elapsed=2.0, processors=2) == 0  # clocks differ
    assert others_percent(busy=9.0, own=0.0, elapsed=2.0, processors=2) == 100
    assert others_percent(busy=0.05, own=0.0, elapsed=0.02, processors=2) is None
