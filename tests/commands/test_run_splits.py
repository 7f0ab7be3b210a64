"""DATA that a run learnt from is divided as the run did, whatever command it is given to."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allmlp import checkpoint, create_model
from allmlp.backends import manifest as manifests
from allmlp.backends.manifest import Manifest
from allmlp.cli import parser
from allmlp.commands.bench import Failures, entries_of
from allmlp.commands.bench_source import opened_data
from allmlp.commands.compare import opened_data as compared_data
from allmlp.commands.evaluate import opened
from allmlp.commands.export import find_data
from allmlp.commands.source import as_learnt, division_of_run, run_folder_of, split_of_run
from allmlp.data import canonical, open_data
from allmlp.data.imagefolder import FolderImages
from allmlp.errors import BadData
from allmlp.preprocess import Preprocess
from allmlp.train.run_folder import check_same, described


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two classes without splits of its own."""
    draws = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> Path:
    """A run that held out another part of them than is drawn by default."""
    folder = tmp_path / "run"
    folder.mkdir()
    split = open_data(str(photos), val_fraction=0.5, seed=7).split_files
    assert split is not None
    (folder / "run.json").write_text(json.dumps({"source": {"data": canonical(str(photos))}}))
    (folder / "split.json").write_text(json.dumps({name: list(files) for name, files in split.items()}))
    model = create_model("mixer_p2_8", classes=["cat", "dog"], seed=0)
    checkpoint.save(model, folder / "best.safetensors")
    return folder


def test_int8_is_calibrated_on_what_the_run_learnt_from_and_measured_on_what_it_held_out(photos: Path, run: Path):
    data, own = find_data(parser().parse_args(["export", str(run), "--to", "onnx", "--data", str(photos)]))
    assert own
    for split, files in json.loads((run / "split.json").read_text()).items():
        images = data.splits[split]
        assert isinstance(images, FolderImages)
        assert [*images.files] == files


def test_accuracy_is_measured_on_what_the_run_held_out(photos: Path, run: Path, tmp_path: Path, capsys):
    options = parser().parse_args(["bench", str(run), "--data", str(photos)])
    entry, = entries_of(str(run), {"pytorch": True}, options, opened_data(options), tmp_path / "0", Failures())
    assert entry.top1_images == len(json.loads((run / "split.json").read_text())["val"]) == 8
    assert f"{photos} is divided as its run did" in capsys.readouterr().err


def test_an_export_is_measured_on_what_the_run_held_out_of_which_it_knows_how_it_was_drawn(
        photos: Path, run: Path, tmp_path: Path, capsys):
    export = tmp_path / "export"
    (export / "timm").mkdir(parents=True)
    manifest = Manifest(backend="timm", precision="fp32", preprocess=Preprocess(image_size=(8, 8)), num_classes=2)
    manifests.write(export, manifest)
    options = parser().parse_args(["evaluate", str(export), str(photos), "--val-fraction", "0.25"])
    assert len(opened(options)[0].splits["val"]) == 4  # an older manifest does not say
    assert division_of_run(str(run)) is None  # nor does an older run

    about = {"source": {"data": canonical(str(photos)), "val_fraction": 0.5, "seed": 7, "skip_bad": False}}
    (run / "run.json").write_text(json.dumps(about))
    manifests.write(export, manifest.with_(division=division_of_run(str(run))))
    held_out = json.loads((run / "split.json").read_text())["val"]
    data, split = opened(options)
    images = data.splits[split]
    assert isinstance(images, FolderImages)
    assert [*images.files] == held_out
    assert "--val-fraction has no effect: the split is that of the run" in data.notes
    assert [*as_learnt(str(export), data, options).splits["val"].labels] == [0, 0, 0, 0, 1, 1, 1, 1]
    options = parser().parse_args(["compare", str(photos), str(export), str(run)])
    assert not [note for note in compared_data(options.models, options).notes if "learnt from" in note]

    other = tmp_path / "photos of another"
    shutil.copytree(photos, other)
    assert len(opened(parser().parse_args(["evaluate", str(export), str(other)]))[0].splits["val"]) == 4


def test_networks_are_compared_on_what_their_run_held_out(photos: Path, run: Path, tmp_path: Path):
    options = parser().parse_args(["compare", str(photos), str(run), "mixer_p2_8"])
    data = compared_data(options.models, options)
    held_out = json.loads((run / "split.json").read_text())["val"]
    assert [data.splits["val"].name(index) for index in range(8)] == [f"{photos}/{name}" for name in held_out]
    assert not [note for note in data.notes if "learnt from" in note]
    other = tmp_path / "other"
    shutil.copytree(run, other)
    split = open_data(str(photos), val_fraction=0.25, seed=1).split_files
    (other / "split.json").write_text(json.dumps({name: list(files) for name, files in (split or {}).items()}))
    notes = compared_data([str(run), str(other)], options).notes
    assert f"divided as by the run of {run}; {other} learnt from other parts of it" in notes[-1]


def test_a_run_goes_on_with_its_data_in_another_place(photos: Path, tmp_path: Path, cli):
    def train(*arguments: object) -> tuple[int, str, str]:
        return cli("train", *arguments, "--quiet", "--logger", "none", "--threads", 1)

    options = ("--model", "mixer_p2_8", "--image-size", 8, "--batch-size", 4, "--epochs", 1, "--output")
    assert train(photos, *options, tmp_path / "parts", "--time-limit", 0)[0] == 0
    photos.rename(tmp_path / "elsewhere")
    assert train("--resume", tmp_path / "parts") == (
        2, "", f"allmlp: {tmp_path / 'parts'}: its data was in {photos}, where nothing is any more; say where it is "
               f"now: allmlp train PLACE --resume {tmp_path / 'parts'}\n")
    assert train(tmp_path / "elsewhere", "--resume", tmp_path / "parts")[0] == 0
    assert json.loads((tmp_path / "parts" / "results.json").read_text())["splits"]["val"]["count"] == 4
    options = parser().parse_args(["evaluate", str(tmp_path / "parts"), str(tmp_path / "elsewhere")])
    assert split_of_run(str(tmp_path / "parts"), options)  # and is measured on what it held out


def move(name: str, to: str):
    return lambda folder: (folder / name).rename(folder / to)


@pytest.mark.parametrize(("change", "says"), [
    (lambda folder: None, None), (lambda folder: (folder / "cat" / "0.png").unlink(), "another number of images"),
    (move("cat", "cow"), "other classes"), (move("cat/0.png", "cat/00.png"), "images of other names or labels"),
    (move("cat/0.png", "dog/cat.png"), "images of other names or labels"),
], ids=["the same", "fewer", "a class", "a name", "a label"])  # fmt: skip
def test_other_data_than_a_run_began_with_is_told_apart(photos: Path, tmp_path: Path, change, says: str | None):
    (tmp_path / "run.json").write_text(json.dumps(described(open_data(str(photos), val_fraction=0))))
    shutil.copytree(photos, tmp_path / "copy")
    change(tmp_path / "copy")
    data = open_data(str(tmp_path / "copy"), val_fraction=0)
    if says is None:
        check_same(tmp_path, data)
    else:
        with pytest.raises(BadData, match=f"has {says} than the data of {tmp_path}, and a run goes on with the same"):
            check_same(tmp_path, data)


def test_published_weights_are_of_no_run_though_the_current_folder_is_one(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(run)
    assert run_folder_of("best.safetensors") == Path()
    assert run_folder_of("mixer_b16_224.goog_in1k") is None


def test_a_run_whose_description_is_damaged_takes_the_data_as_it_is(photos: Path, run: Path):
    (run / "run.json").write_text('{"source": ')
    data, own = find_data(parser().parse_args(["export", str(run), "--to", "onnx", "--data", str(photos)]))
    assert own
    assert len(data.splits["val"]) == 4
