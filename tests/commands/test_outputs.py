"""Where `--csv`, `--figure` and `--output` may write: what is there and was not written by them is never lost."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from allmlp import bench, checkpoint, figures
from allmlp.commands.outputs import check_csv, check_figure
from allmlp.errors import AllMLPError, BadSetting, CannotWrite
from allmlp.models.model import build
from allmlp.models.segment import TokenHeadConfig
from allmlp.models.variants import model_config

BENCH, PREDICT, PLAN = ("bench", "mixer_p2_8", "--quick"), ("predict", "mixer_p2_8", "."), ("plan", "--check")
HEADERS = {BENCH: ",".join(bench.COLUMNS), PREDICT: "file,class_1,probability_1",
           PLAN: "table,row,unit,published,predicted,error_percent,note,command"}


@pytest.mark.parametrize("command", HEADERS, ids=lambda command: command[0])
@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n...", b"file,label\n1.png,cat\n", b"\xff" * 4000])
def test_a_file_that_is_no_table_of_the_command_is_refused_before_any_work(
        cli, monkeypatch, tmp_path: Path, command: tuple[str, ...], content: bytes):
    monkeypatch.setattr(bench, "run", None)  # work would be a crash
    monkeypatch.setattr("allmlp.commands.predict.find_images", None)
    monkeypatch.setattr("allmlp.plan.check.all_rows", None)
    (tmp_path / "mine").write_bytes(content)
    code, out, err = cli(*command, "--csv", tmp_path / "mine")
    assert (code, out) == (2, "")
    assert err == f"allmlp: --csv {tmp_path / 'mine'}: exists, and is no table of this command, so not replaced; " \
                  "choose another name\n"
    assert (tmp_path / "mine").read_bytes() == content


def test_an_earlier_table_an_empty_file_and_a_new_folder_are_places_for_a_table(tmp_path: Path):
    for header in HEADERS.values():
        (tmp_path / "table.csv").write_text(f"{header},more\n1,2\n")
        check_csv(str(tmp_path / "table.csv"), header, as_json=True)
    (tmp_path / "empty.csv").touch()
    check_csv(str(tmp_path / "empty.csv"), "a", as_json=False)
    check_csv(str(tmp_path / "new" / "newer" / "a.csv"), "a", as_json=False)
    assert not (tmp_path / "new").exists()


def test_the_header_of_a_command_is_the_one_it_writes(cli, tmp_path: Path):
    for _ in range(2):  # the second time over the first
        assert cli(*PLAN, "--csv", tmp_path / "plan.csv")[0] == 0
    written = (tmp_path / "plan.csv").read_text()
    assert written.splitlines()[0] == HEADERS[PLAN]
    assert cli(*PLAN, "--csv", "-")[1] == written


@pytest.mark.parametrize("command", HEADERS, ids=lambda command: command[0])
def test_two_results_on_one_standard_output_are_refused(cli, command: tuple[str, ...]):
    code, out, err = cli(*command, "--csv", "-", "--json")
    assert (code, out) == (2, "")
    assert err == "allmlp: --csv - and --json both print on stdout; give one of them, or --csv a file\n"


@pytest.mark.parametrize(("path", "said"), [
    (".", "names a folder"), ("..", "names a folder"), ("a/", "names a folder"), ("folder", "names a folder"),
    ("folder/", "names a folder"), ("folder/.", "names a folder"), (os.devnull, "a device or a pipe"),
    ("file/a", "nothing can be written into"),
])  # fmt: skip
def test_what_is_no_name_for_a_file_is_refused(monkeypatch, tmp_path: Path, path: str, said: str):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(AllMLPError, match=said):
        check_csv(path, "a", as_json=False)
    with pytest.raises(AllMLPError, match=said):
        check_figure(path)


@pytest.mark.parametrize("ending", [".png", ".SVG", ".pdf", ".jpg"])
def test_an_ending_of_a_figure_is_refused_since_two_are_written(ending: str):
    with pytest.raises(BadSetting, match="give it without the ending; PNG and SVG are both written"):
        check_figure(f"speeds{ending}")


def test_a_figure_replaces_a_figure_and_no_picture_of_somebody(tmp_path: Path):
    figure, axes = figures.new(5, 5)
    axes.plot([1, 2])
    path = tmp_path / "v1.2"
    check_figure(str(path))
    figures.save(figure, path)
    check_figure(str(path))
    png, svg = tmp_path / "v1.2.png", tmp_path / "v1.2.svg"
    drawing = svg.read_bytes()
    svg.unlink()
    with pytest.raises(CannotWrite, match=r"v1\.2\.png exists, and is no figure of this command .*choose another name"):
        check_figure(str(path))  # a photograph, say
    svg.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(CannotWrite, match="no figure of this command"):
        check_figure(str(path))
    svg.write_bytes(drawing)
    png.write_bytes(b"\xff\xd8\xff a photograph")
    with pytest.raises(CannotWrite, match="no figure of this command"):
        check_figure(str(path))


@pytest.mark.parametrize("arguments", [
    ("bench", "mixer_p2_8", "--csv", ""), ("bench", "mixer_p2_8", "--figure="), ("export", "m", "--to", "onnx",
                                                                                  "--output", ""),
    ("predict", "m", "a.png", "--csv", "", "--json"), ("evaluate", "m", "digits", "--real-labels", ""),
], ids=lambda arguments: arguments[0])  # fmt: skip
def test_an_option_with_an_empty_value_is_not_taken_for_no_option(cli, arguments: tuple[str, ...]):
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert err.endswith(" '': the value is empty; give one, or leave the option out\n")
    assert len(err.splitlines()) == 1


def test_an_answer_for_pixels_is_not_written_over_somebodys_mask(cli, tmp_path: Path):
    config = model_config("mixer_p2_8", num_classes=3, global_pool="").with_(segment=TokenHeadConfig())
    checkpoint.save(build(config, generator=torch.Generator().manual_seed(0)), tmp_path / "m.safetensors")
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "1.jpg")
    Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / "masks" / "1.png")
    mine = (tmp_path / "masks" / "1.png").read_bytes()
    arguments = ("predict", tmp_path / "m.safetensors", tmp_path / "1.jpg", "--output")
    code, out, err = cli(*arguments, tmp_path / "masks")
    assert (code, out) == (2, "")
    assert f"would write over {tmp_path / 'masks' / '1.png'}, which is no earlier answer" in err
    assert (tmp_path / "masks" / "1.png").read_bytes() == mine
    assert [cli(*arguments, tmp_path / "new")[0] for _ in range(2)] == [0, 0]
