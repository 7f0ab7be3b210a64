"""`allmlp evaluate MODEL vtab`, `imagenet-c:DIR` and `imagenet-r:DIR`, on tiny sets in the real layouts."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allmlp import checkpoint
from allmlp.backends import load_predictor
from allmlp.models.variants import create_model
from allmlp.weights.labels import synsets, words


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """A network of ImageNet's classes with random weights, as a file."""
    path = tmp_path_factory.mktemp("network") / "imagenet.safetensors"
    model = create_model("mixer_p2_8", classes=words("imagenet-1k"), seed=1)
    model.head.weight.data.normal_()
    checkpoint.save(model, path, {})
    return path


def picture(path: Path, seed: int) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    path.write_bytes(content.getvalue())
    return pixels


def test_vtab_is_a_table_of_the_tasks_that_are_there(cli, network, tmp_path):
    draws = np.random.default_rng(0)
    latents = draws.integers(0, (1, 3, 6, 40, 32, 32), (80, 6))
    np.savez_compressed(tmp_path / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz", latents_classes=latents,
                        imgs=draws.integers(0, 2, (80, 64, 64), dtype=np.uint8))
    code, out, err = cli("evaluate", network, "vtab", "--data-dir", tmp_path, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [row["task"] for row in found["scores"]] == ["dsprites-location", "dsprites-orientation"]
    assert len(found["missing"]) == 17
    assert found["mean_percent"] is None
    assert "an incomplete set" in found["scores"][0]["notes"][0]
    assert [row["images"] for row in found["scores"]] == [8, 8]
    code, _, err = cli("evaluate", network, "vtab", "--data-dir", tmp_path, "--split", "val")
    assert (code, err.splitlines()[-1]) == (
        2, "allmlp: --split: not for vtab, whose table has its own protocol; leave it out")
    code, _, err = cli("evaluate", network, "vtab", "--data-dir", tmp_path / "none")
    assert code == 2
    assert "none of VTAB's tasks is in" in err.splitlines()[-1]


@pytest.mark.parametrize("option", [("--permute", "pixels"), ("--any-size", "aspect"), ("--other-sizes", "resize"),
                                    ("--task", "segmentation"), ("--val-fraction", "0"), ("--split-seed", "0")])
def test_what_a_table_of_many_sets_does_not_do_is_refused(cli, network, tmp_path, option):
    (tmp_path / "weather/fog/1").mkdir(parents=True)
    for data in ("vtab", f"imagenet-c:{tmp_path}"):
        code, out, err = cli("evaluate", network, data, *option)
        assert (code, out) == (2, "")
        assert err == f"allmlp: {option[0]}: not for {data}, whose table has its own protocol; leave it out\n"


@pytest.mark.parametrize("option", [("--data-dir", "sets"), ("--download",)])
def test_where_named_sets_lie_is_refused_for_a_folder(cli, network, tmp_path, option):
    (tmp_path / "weather/fog/1").mkdir(parents=True)
    data = f"imagenet-c:{tmp_path}"
    assert cli("evaluate", network, data, *option) == (
        2, "", f"allmlp: {option[0]}: not for {data}, whose table has its own protocol; leave it out\n")


def test_spoilt_images_give_an_error_for_each_severity(cli, network, tmp_path):
    for number, severity in enumerate("12345"):
        for synset in ("n01440764", "n02012849"):
            picture(tmp_path / f"weather/fog/{severity}/{synset}/1.JPEG", number)
    code, out, err = cli("evaluate", network, f"imagenet-c:{tmp_path}")
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["fog", "mean"]
    assert out.splitlines()[-1].startswith("mean of the 1 of 15 corruptions with all severities: ")
    assert cli("evaluate", network, f"imagenet-c:{tmp_path}/weather/fog/2", "--json")[0] == 0


def test_renditions_are_answered_among_their_own_classes(cli, network, tmp_path):
    own = [0, 5, 134, 990]
    images = {number: [picture(tmp_path / synsets("imagenet-1k")[number] / f"{i}.jpg", 10 * number + i)
                       for i in range(4)] for number in own}
    code, out, err = cli("evaluate", network, f"imagenet-r:{tmp_path}", "--json")
    assert code == 0, err
    found = json.loads(out)
    predictor = load_predictor(str(network), "cpu", None)
    right = [own[predictor(pixels[None])[0, own].argmax()] == number
             for number, several in images.items() for pixels in several]
    assert found["top1_percent"] == pytest.approx(100 * np.mean(right))
    assert [row["name"] for row in found["classes"]] == [words("imagenet-1k")[number] for number in own]
    assert "imagenet-r: answers count among its 4 classes alone" in found["notes"]
