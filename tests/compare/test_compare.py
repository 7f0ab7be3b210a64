"""`allmlp compare`: ours and timm's under one protocol, each figure against the long way round."""

import csv
import html
import json
import re
import shlex

import numpy as np
import pytest
import timm
import torch

from allmlp import checkpoint
from allmlp.backends.timm_networks import open_timm
from allmlp.cli import main, parser
from allmlp.commands.compare import command as made_by
from allmlp.compare.contenders import open_contender
from allmlp.compare.measure import Compared, Protocol, choose_images, measured
from allmlp.compare.page import shown_speed
from allmlp.compare.pareto import figure, front
from allmlp.data.digits import open_digits
from allmlp.errors import AllMLPError, BadCheckpoint, BadData, BadSetting, UnknownName
from allmlp.evaluate.dataset import evaluate_dataset
from allmlp.evaluate.fewshot import draw_shots, few_shot
from allmlp.evaluate.knn import knn_predictor
from allmlp.files import save_tensors
from allmlp.inspection.flops import measure_macs
from allmlp.models.variants import create_model
from allmlp.preprocess import fit

SMALL = "test_resnet"  # timm's ResNet for tests
SIZE = (32, 32)
CLOSE = 1e-5
PAPERS_SYSTEMS = ("resnetv2_50x1_bit", "vit_tiny_patch16_224", "tf_efficientnetv2_b0", "regnety_002", "dm_nfnet_f0",
                  "halonet26t", "convmixer_768_32", "mixer_s32_224", "resmlp_12_224", "gmlp_ti16_224")


@pytest.fixture(scope="module")
def digits():
    return open_digits()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network of timm for ten classes, as a file of its weights."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("timm") / "resnet.safetensors"
    network = timm.create_model(SMALL, num_classes=10)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)  # so that a statistic left out is found out
    save_tensors(network.state_dict(), path, {})
    return path


@pytest.fixture
def command(capsys):
    def run(*arguments: object):
        code = main(["compare", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_network_of_timm_answers_as_timms_own(digits, file):
    network = timm.create_model(SMALL, num_classes=10).eval()
    network.load_state_dict(checkpoint.load_tensors(file)[0], strict=False)
    opened = open_contender(f"timm:{SMALL}={file}", 10, image_size=SIZE)
    images = np.stack([fit(digits.splits["test"].image(i), opened.predict.preprocess) for i in range(5)])
    config = timm.get_pretrained_cfg(SMALL)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    with torch.no_grad():
        x = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
        logits, features = network(x), network.forward_head(network.forward_features(x), pre_logits=True)
    assert opened.weights == "trained"
    assert opened.features is not None
    assert np.abs(opened.predict(images) - logits.numpy()).max() < CLOSE
    assert np.abs(opened.features(images) - features.numpy()).max() < CLOSE
    assert opened.predict(images[:0]).shape == (0, 10)


def test_the_preprocessing_is_what_timm_says():
    _, preprocess = open_timm("test_vit")
    assert preprocess.image_size == (160, 160)
    assert (preprocess.crop_ratio, preprocess.resize, preprocess.interpolation) == (0.95, "shorter", "bicubic")
    network, preprocess = open_timm("test_vit", image_size=(32, 48), num_classes=3)
    assert preprocess.image_size == (32, 48)
    assert network(torch.zeros(1, 3, 32, 48)).shape == (1, 3)


def test_fresh_weights_follow_from_the_seed_and_nothing_else():
    torch.manual_seed(5)
    one = open_timm(SMALL)[0].state_dict()
    assert torch.equal(torch.rand(1), torch.manual_seed(5) and torch.rand(1))  # the global generator is untouched
    other = open_timm(SMALL)[0].state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_row_is_what_each_measure_gives_on_its_own(digits, tmp_path):
    model = create_model("mixer_p2_8", num_classes=10, classes=digits.classes, seed=3)
    checkpoint.save(model, tmp_path / "m.safetensors")
    images = choose_images(digits, Protocol(train_images=300, test_images=120))
    opened = open_contender(str(tmp_path / "m.safetensors"), 10)
    row = measured(opened, images, Protocol(shots=2, seeds=2, neighbours=5))
    assert (len(images.train), len(images.test)) == (300, 120)
    assert row.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert row.macs == measure_macs(model)
    assert row.accuracy_percent == evaluate_dataset(opened.predict, images.test).score_percent
    assert opened.features is not None
    neighbours = knn_predictor(opened.features, images.train, 5)
    assert row.knn_percent == pytest.approx(evaluate_dataset(neighbours, images.test).score_percent)

    def features(part):
        return opened.features(np.stack([part.image(i) for i in range(len(part))]))  # type: ignore[misc]

    found = []
    for seed in range(2):
        chosen = draw_shots(images.train.labels, 2, seed)
        logits = few_shot(features(images.train)[chosen], images.train.labels[chosen], features(images.test), 10)
        found.append(100 * (logits.argmax(1) == images.test.labels).mean())
    assert row.few_shot_percent == pytest.approx(np.mean(found))
    assert row.few_shot_deviation == pytest.approx(np.std(found, ddof=1))


def test_heads_that_cannot_answer_are_left_out_and_said(digits, tmp_path):
    letters = create_model("mixer_p2_8", classes=list("abcdefghij"), seed=0)
    checkpoint.save(letters, tmp_path / "letters.safetensors")
    images = choose_images(digits, Protocol(train_images=100, test_images=20))
    row = measured(open_contender(str(tmp_path / "letters.safetensors"), 10), images, Protocol(shots=1, seeds=1))
    assert row.accuracy_percent is None
    assert "other classes" in row.note
    assert row.few_shot_percent is not None
    assert row.few_shot_deviation is None
    fresh = measured(open_contender("mixer_p2_8", 10), images, Protocol(shots=1, seeds=1))
    assert fresh.accuracy_percent is None
    assert "fresh weights" in fresh.note


def test_the_front_is_whoever_nobody_beats():
    drawn = np.random.default_rng(0)
    costs, accuracies = drawn.integers(0, 12, 40).tolist(), drawn.integers(0, 12, 40).tolist()
    points = list(zip(costs, accuracies, strict=True))
    on_it = [points[i] for i in front(costs, accuracies)]
    assert on_it == sorted(on_it)
    assert len({cost for cost, _ in on_it}) == len(set(on_it))
    for cost, accuracy in points:
        covered = any(c <= cost and a >= accuracy for c, a in on_it)
        strictly = any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points)
        assert covered
        assert ((cost, accuracy) in on_it) != strictly


def test_the_command_writes_table_figure_and_page(command, file, tmp_path):
    output = tmp_path / "out"
    arguments = ("digits", "mixer_p2_8", f"timm:{SMALL}={file}", "--image-size", "16", "--train-images", "200",
                 "--test-images", "50", "--no-speed", "--output", output)
    code, out, err = command(*arguments, "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    with (output / "table.csv").open(newline="") as table:
        kept = list(csv.DictReader(table))
    assert [row["model"] for row in kept] == ["mixer_p2_8", f"timm:{SMALL}={file}"] == [row["model"] for row in rows]
    assert float(kept[1]["knn_percent"]) == pytest.approx(rows[1]["knn_percent"], rel=1e-5)
    assert kept[0]["latency_ms"] == ""
    assert {path.name for path in output.iterdir()} == {"table.csv", "pareto.png", "pareto.svg", "index.html"}
    page = (output / "index.html").read_text()
    assert SMALL in page
    shown = re.search(r"<code>allmlp (compare .*?)</code>", page)
    assert shown  # and given again, it means the same
    first, again = (vars(parser().parse_args(["compare", *map(str, arguments)])),
                    vars(parser().parse_args(shlex.split(html.unescape(shown[1])))))
    assert again | {"output": str(output), "threads": None} == first
    code, _, err = command(*arguments)
    assert code == 2
    assert "--overwrite" in err


@pytest.mark.slow
def test_the_speeds_of_all_are_measured_in_turns(command, tmp_path):
    code, out, err = command("digits", "mixer_p2_8", f"timm:{SMALL}", "--image-size", "32", "--train-images", "100",
                             "--test-images", "20", "--rounds", "1", "--threads", "1", "--json",
                             "--output", tmp_path / "out")
    assert code == 0, err
    for row in json.loads(out)["rows"]:
        assert row["slowest"] <= row["images_per_second"] <= row["fastest"]
        assert 0 < row["latency_ms"] <= row["latency_ms_p90"]
        assert 50 < row["peak_memory_mib"] < 4000


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS_SYSTEMS)
def test_the_systems_of_the_papers_tables_can_be_compared(name):
    size = 256 if name.startswith("halonet") else 64  # 64 pixels leave its block attention too small a grid
    opened = open_contender(f"timm:{name}", 7, image_size=(size, size))
    assert opened.features is not None
    images = np.zeros((2, size, size, 3), np.uint8)
    assert opened.predict(images).shape == (2, 7)
    assert opened.features(images).ndim == 2


def test_mistakes_are_one_line(file, digits, tmp_path):
    other = timm.create_model("test_vit", num_classes=10).state_dict()
    save_tensors(other, tmp_path / "vit.safetensors", {})
    refused: list[tuple[type[AllMLPError], str, str]] = [
        (UnknownName, "did you mean", "timm:resnet5o"),
        (UnknownName, "weights of timm's resnet18", "timm:resnet18.no_such_tag"),
        (BadSetting, "timm:NAME=FILE", "timm:"),
        (BadCheckpoint, "expected the weights of timm's", f"timm:{SMALL}={tmp_path / 'vit.safetensors'}"),
        (BadCheckpoint, "cannot be read", f"timm:{SMALL}={tmp_path / 'none.safetensors'}"),
        (BadSetting, "cannot", "timm:test_vit"),
        (UnknownName, "did you mean mixer_p2_8", "mixer_p2_9"),
    ]
    for kind, text, name in refused:
        with pytest.raises(kind, match=text) as caught:
            open_contender(name, 10, image_size=(33, 33) if name.endswith("vit") else None)
        assert "\n" not in str(caught.value)
    with pytest.raises(BadSetting, match="learn from these images"):
        choose_images(digits, Protocol(), "train")
    with pytest.raises(BadData, match="no val split"):
        choose_images(digits, Protocol(), "val")


@pytest.mark.parametrize("option", ["--rounds", "--batch-size"])
def test_how_the_speed_is_measured_is_refused_where_it_is_not(option, command, tmp_path):
    code, out, err = command("digits", "mixer_p2_8", "--no-speed", option, 5, "--output", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err == (f"allmlp: {option} says how the speed is measured, and --no-speed leaves it out; give one of the "
                   "two\n")


def test_a_batch_that_does_not_fit_into_memory_is_told_with_what_would(command, monkeypatch, tmp_path):
    monkeypatch.setattr("allmlp.commands.memory.free_memory", lambda: 2 * 1000 * (3 * 8 * 8 + 8 * 10))
    code, out, err = command("digits", "mixer_p2_8", "mixer_p2_8.no_such_tag", "--batch-size", 1001,
                             "--output", tmp_path / "out")
    assert (code, out) == (2, "")
    said = err.splitlines()[-1]
    assert "--batch-size 1001: images of 8x8 and what the network says of them take" in said
    assert "in 2 processes, and" in said
    assert said.endswith("accepted: up to 1000")
    assert not (tmp_path / "out").exists()


def test_a_place_where_nothing_can_be_written_is_told_before_anything_is_measured(command, tmp_path):
    (tmp_path / "file").write_text("mine")
    code, out, err = command("digits", "mixer_p2_8", "--no-speed", "--output", tmp_path / "file" / "out")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert f"nothing can be written into {tmp_path / 'file'}; choose another place" in err


def test_the_command_on_the_page_makes_the_same_comparison_again():
    given = ("digits", "mixer_p2_8", "--image-size", "16x24", "--split", "val", "--few-shot", "3", "--few-shot-seeds",
             "2", "--knn", "7", "--train-images", "200", "--test-images", "50", "--val-fraction", "0.3", "--split-seed",
             "4", "--skip-bad", "--data-dir", "some where", "--pretrained", "--device", "cpu")
    for speed in (("--batch-size", "8", "--rounds", "2"), ("--no-speed",)):
        options = parser().parse_args(["compare", *given, *speed])
        again = parser().parse_args(shlex.split(made_by(options))[1:])
        assert vars(again) == vars(options) | {"threads": torch.get_num_threads()}


def test_a_figure_of_one_network_and_of_the_same_costs_is_drawn():
    row = Compared(model="a/b", source="timm", weights="fresh", image_size=(8, 8), parameters=10, macs=20,
                   few_shot_percent=50.0)
    assert len(figure([row], 5).axes) == 2
    assert len(figure([row, row.with_(model="c", accuracy_percent=3.0)], 5).axes) == 2


@pytest.mark.parametrize(("speed", "shown"), [(5744.2, "5,740"), (999.6, "1,000"), (57.14, "57.1"), (0.5714, "0.571")])
def test_a_speed_on_the_page_has_three_digits_and_no_exponent(speed: float, shown: str):
    assert shown_speed(speed) == shown
