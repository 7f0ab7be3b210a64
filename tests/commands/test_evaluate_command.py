"""`allmlp evaluate` beyond the accuracy of a network: few-shot, temperature, several views, ReaL, Avg-5."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import Ridge

import allmlp
from allmlp.backends import load_features, load_predictor
from allmlp.data.digits import open_digits
from allmlp.evaluate.avg5 import AVG5, avg5_percent, name_in_avg5
from allmlp.evaluate.fewshot import draw_shots
from allmlp.evaluate.predict import predict_dataset
from allmlp.weights.labels import words


def test_few_shot_accuracies_are_those_of_ridge_regression_to_the_last_image(cli, trained):
    code, out, _ = cli("evaluate", trained, "digits", "--few-shot", "10,2", "--few-shot-seeds", 2, "--json")
    assert code == 0
    splits, features = open_digits().splits, load_features(trained, "cpu")
    train, test = (predict_dataset(features, splits[split]).astype(np.float64) for split in ("train", "test"))
    for row, shots in zip(json.loads(out)["few_shot"], (2, 10), strict=True):
        assert (row["shots"], row["l2"]) == (shots, 1024)
        for seed, found in enumerate(row["accuracies_percent"]):
            chosen = draw_shots(splits["train"].labels, shots, seed)
            x, mean, scale = train[chosen], train[chosen].mean(0), train[chosen].std(0) + 1e-5
            x, far = (np.pad((each - mean) / scale, ((0, 0), (0, 1)), constant_values=100.0) for each in (x, test))
            targets = 2 * np.eye(10)[splits["train"].labels[chosen]] - 1
            ridge = Ridge(alpha=1024, fit_intercept=False, solver="svd").fit(x, targets)
            hits = ridge.predict(far).argmax(1) == splits["test"].labels
            assert found == pytest.approx(100 * hits.mean(), abs=1e-9)


def test_few_shot_is_shown_with_its_spread_and_l2_is_chosen_without_the_test_images(cli, trained):
    code, out, _ = cli("evaluate", trained, "digits", "--few-shot", 3, "--l2", "grid")
    assert code == 0
    line = out.splitlines()[-1]
    assert "±" in line
    assert "with 3 images of each class, over 3 draws, on 360 images" in line
    assert "chosen on further training images" in line


@pytest.mark.parametrize(("options", "says"), [
    (["--few-shot", "5", "--tta", "flip"], "leave out --tta"),
    (["--few-shot", "5", "--knn", "3"], "not allowed with argument"),
    (["--knn", "3", "--other-sizes", "resize"], "--knn names a class for a whole image, and --other-sizes is about"),
    (["--few-shot", "5", "--task", "segmentation"], "image, and --task segmentation is about segmentation; give one"),
    (["--linear-probe", "--other-sizes", "windows"], "--linear-probe names a class for a whole image, and --other-si"),
    (["--few-shot", "5", "--real-labels", "timm"], "leave out --real-labels"),
    (["--few-shot", "5,x"], "'x' is not a whole number"),
    (["--few-shot", "5", "--l2", "-1"], "neither grid nor a positive number"),
    (["--l2", "8"], "give --few-shot too"),
    (["--few-shot", "5", "--split", "train"], "cannot be measured on them"),
    (["--few-shot", "200", "--l2", "grid"], "no class has more than 200 training images"),
    (["--temperature"], "beside test digits has none"),
    (["--real-labels", "timm"], "this data has 10 others"),
    (["--real-labels", "none.json"], "none.json: cannot be read"),
    (["--tta", "crops5", "--image-size", "4"], "crops need a margin"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")  # fmt: skip
def test_what_does_not_go_together_is_one_line(cli, trained, options, says):
    code, out, err = cli("evaluate", trained, "digits", *options)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert says in err


@pytest.fixture(scope="module")
def three_splits(digit_files, tmp_path_factory) -> Path:
    """The digits with validation images: each second test image."""
    tree = tmp_path_factory.mktemp("three") / "tree"
    shutil.copytree(digit_files / "train", tree / "train")
    for number, file in enumerate(sorted((digit_files / "test").glob("*/*.png"))):
        target = tree / ("val" if number % 2 else "test") / file.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return tree


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_temperature_is_fitted_on_other_images_than_it_is_measured_on(cli, trained, three_splits, split):
    code, out, _ = cli("evaluate", trained, three_splits, "--temperature", "--split", split, "--json")
    assert code == 0
    found = json.loads(out)
    scaled = found["temperature"]
    if split == "test":
        assert (scaled["fitted_images"], scaled["measured_images"]) == (180, 180)
        assert scaled["negative_log_likelihood"][0] == pytest.approx(found["negative_log_likelihood"])
        assert scaled["calibration_error_percent"][0] == pytest.approx(found["calibration_error_percent"])
    else:
        assert scaled["fitted_images"] + scaled["measured_images"] == found["count"] == 180
        assert scaled["fitted_images"] == pytest.approx(90, abs=5)
    # Four epochs leave the network unsure of what it mostly knows.
    assert scaled["temperature"] < 1
    assert scaled["negative_log_likelihood"][1] < scaled["negative_log_likelihood"][0]
    _, out, _ = cli("evaluate", trained, three_splits, "--temperature", "--split", split)
    assert "calibration error" in out.splitlines()[-1]
    assert f"temperature {scaled['temperature']:.4g}" in out.splitlines()[-1]


def test_logits_are_averaged_over_views(cli, trained):
    code, out, _ = cli("evaluate", trained, "digits", "--tta", "flip", "--json")
    assert code == 0
    predictor, test = load_predictor(trained, "cpu"), open_digits().splits["test"]
    images = np.stack([test.image(i) for i in range(len(test))])
    both = predictor(images) + predictor(np.ascontiguousarray(images[:, :, ::-1]))
    assert json.loads(out)["top1_percent"] == pytest.approx(100 * (both.argmax(1) == test.labels).mean())
    assert json.loads(out)["tta"] == "flip"


def test_reassessed_labels_are_measured_beside_the_original_ones(cli, tmp_path):
    """A tiny ImageNet of five validation images, of which one has no reassessed label."""
    names, draws = words("imagenet-1k"), np.random.default_rng(0)
    root = tmp_path / "imagenet"
    (root / "train" / "n01440764").mkdir(parents=True)
    (root / "val").mkdir()
    pixels = draws.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels[5]).save(root / "train" / "n01440764" / "n01440764_1.JPEG")
    for number in range(5):
        Image.fromarray(pixels[number]).save(root / "val" / f"ILSVRC2012_val_{number + 1:08d}.JPEG")
    rows = "".join(f"ILSVRC2012_val_{number + 1:08d},n01440764 1 2 3 4\n" for number in range(5))
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + rows)
    allmlp.save(allmlp.create_model("mixer_p2_8", classes=names, seed=0), tmp_path / "x.safetensors")

    predictor = load_predictor(tmp_path / "x.safetensors", "cpu")
    files = sorted((root / "val").iterdir())
    predicted = predictor(np.stack([np.asarray(Image.open(file)) for file in files])).argmax(1).tolist()
    sets = [[predicted[0]], [], [7, predicted[2]], [k for k in range(1000) if k != predicted[3]], [predicted[4], 2]]
    (tmp_path / "real.json").write_text(json.dumps(sets + [[]] * 49_995))

    code, out, _ = cli("evaluate", tmp_path / "x.safetensors", f"imagenet:{root}", "--real-labels",
                       tmp_path / "real.json", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["top1_percent"] == pytest.approx(100 * np.mean(np.array(predicted) == 0))
    assert (found["real"]["count"], found["real"]["skipped"], found["real"]["accuracy_percent"]) == (4, 1, 75.0)


def test_several_networks_are_measured_with_their_mean(cli, trained, three_splits):
    pair = ["--and", trained, three_splits]
    code, out, _ = cli("evaluate", trained, "digits", *pair, "--json")
    assert code == 0
    found = json.loads(out)
    top1 = [each["top1_percent"] for each in found["evaluations"]]
    assert len(top1) == 2
    assert found["mean_top1_percent"] == pytest.approx(np.mean(top1))
    assert found["avg5_percent"] is None
    _, out, _ = cli("evaluate", trained, "digits", *pair)
    assert out.splitlines()[-1].startswith("mean top-1 of these 2, which are not the five of Avg-5")


def test_avg_5_needs_its_five_data_sets(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "x.png").touch()
    sources = [f"imagenet:{tmp_path}", "cifar10", "cifar100", "pets", "flowers102"]
    assert [name_in_avg5(data) for data in sources] == list(AVG5)
    assert name_in_avg5("digits") is name_in_avg5(str(tmp_path / "tree")) is None
    values = dict(zip(AVG5, (80.0, 97.0, 86.0, 93.0, 99.0), strict=True))
    assert avg5_percent(values) == pytest.approx(91.0)
    assert avg5_percent({**values, "digits": 0.0}) == pytest.approx(91.0)
    assert avg5_percent({name: value for name, value in values.items() if name != "pets"}) is None
