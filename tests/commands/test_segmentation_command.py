"""Segmentation from the command line: train, go on, measure, write masks; and what does not go together."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from allmlp import checkpoint
from allmlp.cli import main
from allmlp.data.palette import palette

MODEL = ("--model", "mixer_p2_8", "--image-size", "8", "--threads", "1", "--quiet", "--logger", "none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Bright boxes on dark ground, images of two sizes, with a line that is ignored."""
    root = tmp_path_factory.mktemp("boxes")
    for split, count in (("train", 12), ("val", 3)):
        for number in range(count):
            labels = np.zeros((8 + number % 2 * 3, 12), np.uint8)
            labels[2:6, number % 5 : number % 5 + 4] = 1
            picture = np.repeat(np.where(labels[:, :, None] == 1, 220, 30), 3, 2).astype(np.uint8)
            labels[0] = 255
            for kind, values in (("images", picture), ("masks", labels)):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(root / kind / split / f"{number}.png")
    (root / "classes.txt").write_text("ground\nbox\n")
    return root


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "boxes"
    assert main(["train", str(folder), *MODEL, "--epochs", "20", "--batch-size", "4", "--set", "ema_decay=0.9",
                 "--lr", "0.01", "--output", str(output)]) == 0
    return output


def test_it_learns_and_the_report_shows_overlays(trained: Path):
    found = json.loads((trained / "results.json").read_text())["splits"]["val"]
    assert found["score_name"] == "mIoU"
    assert found["mean_iou_percent"] > 60
    page = (trained / "report.html").read_text()
    assert "Overlays" in page
    assert page.count("the network&#x27;s answer") >= 3
    model = checkpoint.load(trained)
    assert (model.config.task, model.classes) == ("segmentation", ("ground", "box"))


def test_what_the_run_found_is_what_evaluate_finds(trained: Path, folder: Path, capsys):
    assert main(["evaluate", str(trained), str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = json.loads((trained / "results.json").read_text())["splits"]["val"]
    assert found["mean_iou_percent"] == pytest.approx(expected["mean_iou_percent"])
    assert [row["name"] for row in found["classes"]] == ["ground", "box"]


def test_masks_are_written_at_the_size_of_the_image_in_the_palette(trained: Path, folder: Path, tmp_path: Path):
    assert main(["predict", str(trained), str(folder / "images/val"), "--output", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out/1.png") as mask:
        assert (mask.mode, mask.size) == ("P", (12, 11))
        assert mask.getpalette() == palette().ravel().tolist()
        said = np.array(mask)
    with Image.open(tmp_path / "out/1-overlay.png") as overlaid:
        assert (overlaid.mode, overlaid.size) == ("RGB", (12, 11))
    with Image.open(folder / "masks/val/1.png") as truth:
        true = np.array(truth)
    assert (said == true)[true != 255].mean() > 0.7


def test_no_mask_is_made_of_logits_that_are_not_finite(trained: Path, folder: Path, tmp_path: Path, capsys):
    model = checkpoint.load(trained)
    with torch.no_grad():
        for parameter in model.get_submodule("head").parameters():
            parameter.fill_(3e38)  # finite, and its sums are not
    checkpoint.save(model, tmp_path / "m.safetensors")
    assert main(["predict", str(tmp_path / "m.safetensors"), str(folder / "images/val"), "--output",
                 str(tmp_path / "out")]) == 2
    assert "0.png: what the network says of it is not finite" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_a_stopped_run_goes_on_to_the_same_weights(folder: Path, tmp_path: Path):
    how = [*MODEL, "--epochs", "2", "--batch-size", "4", "--set", "ema_decay=0.9"]
    assert main(["train", str(folder), *how, "--output", str(tmp_path / "whole")]) == 0
    assert main(["train", str(folder), *how, "--output", str(tmp_path / "parts"), "--time-limit", "0"]) == 0
    assert main(["train", "--resume", str(tmp_path / "parts"), "--quiet", "--logger", "none"]) == 0
    whole, parts = (checkpoint.load(tmp_path / name / "last.safetensors").state_dict() for name in ("whole", "parts"))
    assert all((whole[name] == parts[name]).all() for name in whole)


@pytest.mark.parametrize(("arguments", "said"), [
    (["train", "digits", "--task", "segmentation"], "digits has no masks"),
    (["train", "FOLDER", "--task", "classification"], "has a mask for each image"),
    (["train", "FOLDER", "--recipe", "digits"], "recipe digits learns one class for an image"),
    (["evaluate", "RUN", "digits"], "digits has no masks to compare with"),
    (["evaluate", "RUN", "FOLDER", "--task", "classification"], "a network for segmentation"),
    (["evaluate", "RUN", "FOLDER", "--tta", "flip"], "--tta is for classification"),
    (["evaluate", "RUN", "FOLDER", "--any-size", "aspect"], "--any-size is for classification"),
    (["evaluate", "RUN", "FOLDER", "--workers", "1"], "--workers is for classification"),
    (["predict", "RUN", "FOLDER/images/val/0.png", "--any-size", "native"], "--any-size is for classification"),
    (["predict", "RUN", "FOLDER/images/val/0.png", "--json", "--top", "1"], "--top is for lines on a terminal"),
    (["serve", "RUN", "--port", "0"], "a network for segmentation"),
    (["inspect", "RUN"], "a network for segmentation"),
    (["compare", "digits", "RUN"], "a network for segmentation"),
    (["compare", "FOLDER", "timm:resnet18"], "is for labels of whole images"),
    (["bench", "mixer_p2_8", "--data", "FOLDER", "--quick"], "`allmlp bench` is for labels of whole images"),
    (["data", "check", "FOLDER"], "is for labels of whole images"),
    (["data", "write", "FOLDER", "copy"], "is for labels of whole images"),
    (["shard", "FOLDER", "copy"], "is for labels of whole images"),
    (["predict", "RUN", "FOLDER/images/val/0.png", "--output", "FOLDER/images/val"], "would write over"),
    (["export", "RUN", "--to", "native"], "exported to onnx and pt2"),
    (["export", "RUN", "--to", "browser"], "exported to onnx and pt2"),
], ids=lambda value: " ".join(value[:2] + value[-2:]) if isinstance(value, list) else "")  # fmt: skip
def test_a_contradiction_is_one_line(arguments: list[str], said: str, trained: Path, folder: Path, tmp_path: Path,
                                     monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    named: dict[str, str] = {"FOLDER": str(folder), "RUN": str(trained)}
    assert main([named.get(word, word.replace("FOLDER", str(folder))) for word in arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
