"""`allmlp plan`: text, JSON, the table against the papers, and mistakes."""

import csv
import json
from pathlib import Path

import pytest

from allmlp.cli import main
from allmlp.data import AT_HAND, open_data
from allmlp.data.digit_masks import CLASSES, SCENES
from allmlp.data.scenes import COPIES
from allmlp.plan.job import KNOWN


def test_a_plan_says_time_memory_and_machines(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "mixer_b16_224", "--machine", "a100:4", "--sharding", "fsdp"]) == 0
    text = capsys.readouterr().out
    for expected in ("59,880,472 parameters", "12.6 GMAC", "300 epochs of 1,281,167 images", "4 x a100", "images/s",
                     "device-days", "TPUv3-core-days", "fsdp", "checkpointing", "least memory first", "Not counted"):
        assert expected in text, expected
    assert "v100" not in text  # which cannot multiply in bf16


def test_what_does_not_fit_says_what_would(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "mixer_h14_224", "--machine", "v100:8", "--precision", "fp32"]) == 0
    text = capsys.readouterr().out
    assert "too large" in text
    assert "Fits with --accumulation " in text


def test_a_short_step_is_called_too_good_to_be_true(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "digits", "--machine", "t4"]) == 0
    assert "75 epochs of 1,437 images" in (text := capsys.readouterr().out)
    assert "too short to be true" in text


def test_the_sizes_of_data_sets_that_are_at_hand_are_known():
    digits = len(open_data("digits").splits["train"])
    assert {name: KNOWN.get(name) for name in AT_HAND} == {
        "digits": (digits, 10), "digit-scenes": (COPIES * digits, 10), "digit-masks": (SCENES["train"], len(CLASSES))}


def test_a_plan_for_segmentation_counts_the_head_for_pixels_and_says_what_of_it_not(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "digit_masks", "--json"]) == 0
    pixels = json.loads(capsys.readouterr().out)
    assert main(["plan", "mixer_p4_40", "--images", "2000", "--classes", "11", "--batch-size", "32", "--json"]) == 0
    images = json.loads(capsys.readouterr().out)
    assert (pixels["images"], pixels["batch_size"]) == (2000, 32)
    tokens, width, decoder, pixel, side, classes = 10 * 10, 64, 64, 16, 40, 11  # by models/segment.py's first lines
    levels, to_pixels = 4 * (width + 1) * decoder, (decoder + 1) * pixel * 4 * 4
    smooth, last = (9 * pixel + 1) * pixel, (pixel + 1) * classes
    head = levels + 2 * decoder + to_pixels + smooth + last
    assert pixels["parameters"] - images["parameters"] == head - (width + 1) * classes
    macs = 4 * tokens * width * decoder + tokens * decoder * pixel * 16 + side**2 * pixel * (9 * pixel + classes)
    assert pixels["macs"] - images["macs"] == macs - width * classes
    assert any("segmentation" in note for note in pixels["notes"])


def test_a_plan_says_that_a_stem_of_convolutions_takes_more_memory_than_it_counts(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "scenes"]) == 0
    assert "stem of convolutions: its operations are counted, what it keeps" in capsys.readouterr().out


def test_json_has_the_same_numbers(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "mixer_s16_224", "--images", "1000000", "--epochs", "10", "--batch-size", "1000", "--machine",
                 "tpu-v3:8", "--activation-checkpointing", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    chosen = found["chosen"]
    tokens, width = 196, 512
    macs = tokens * 768 * width + 8 * 2 * width * tokens * (256 + 2048) + width * 1000
    assert (found["steps"], found["epochs"], found["macs"]) == (10_000, 10, macs)
    assert chosen["hours"] == pytest.approx(1e7 / chosen["images_per_second"] / 3600)
    assert found["training_flops"] == 4 * 2 * macs * 10_000_000
    assert chosen in found["layouts"]
    assert len(found["layouts"]) == 4
    assert all(row["fits"] and row["activation_checkpointing"] for row in found["smallest"])


def test_check_prints_and_writes_an_error_for_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "plan.csv"
    assert main(["plan", "--check", "--csv", str(path)]) == 0
    assert capsys.readouterr().out == ""
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert main(["plan", "--check", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in rows] == [row["row"] for row in told]
    for row in rows:
        error = 100 * (float(row["predicted"]) / float(row["published"]) - 1)
        assert float(row["error_percent"]) == pytest.approx(error, abs=0.1)
    assert main(["plan", "--check"]) == 0
    assert "Left out: rows of ViT" in capsys.readouterr().out


def test_the_stored_table_is_the_one_that_check_prints(tmp_path: Path):
    assert main(["plan", "--check", "--csv", str(tmp_path / "plan.csv")]) == 0
    stored = Path(__file__).parents[2] / "results" / "plan.csv"
    assert stored.read_text(encoding="utf-8") == (tmp_path / "plan.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(("arguments", "said"), [
    ("", "give MODEL or RECIPE"), ("nope", "unknown model or recipe 'nope'"),
    ("digits --machine h1", "did you mean h100"), ("digits --machine t4:0", "t4:8"),
    ("mixer_b16_224 --machine v100", "no bf16"), ("folder", "--images N"),
    ("--check digits", "leave 'digits' out"), ("--check --batch-size 8", "leave --batch-size out"),
    ("--check --activation-checkpointing", "leave --activation-checkpointing out"),
    ("digits --csv x", "goes with --check"),
    ("digits --machine t4:256", "without an image"), ("mixer_b16_224 --image-size 225", "not divisible"),
    ("digits --epochs -1", "epochs"), ("digits --batch-size 0", "at least 1"), ("digits --sharding zero", "zero"),
    ("segment_folder --images 9", "--classes N"),
])  # fmt: skip
def test_mistakes_are_one_line_and_exit_code_2(arguments: str, said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["plan", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1
