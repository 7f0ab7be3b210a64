"""Images of many sizes through one network: each as if it came alone, none padded or cut."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.checkpoint import save
from allmlp.cli import main
from allmlp.errors import BadSetting
from allmlp.evaluate import any_size
from allmlp.evaluate.any_size import MOST_ASPECT, AnySize, predict_any_size, size_in_shape
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.config import ModelConfig
from allmlp.models.model import Model, build
from allmlp.models.stems import ConvolutionStem, PatchStem
from allmlp.testing import randomise

MIXER = MixerConfig(token_hidden=5, channel_hidden=20, activation="erf")
SIZES = [(9, 9), (16, 16), (33, 17), (9, 9), (16, 60), (33, 17), (5, 40)]
SAME = 1e-5  # float32, sums in another order where a batch is larger


def network(tokens: tuple[int, int] | None = (2, 2)) -> Model:
    config = ModelConfig(image_size=(16, 16), patch_size=(4, 4), width=12, depth=2, blocks=(MIXER,), num_classes=3,
                         stem=ConvolutionStem(tokens=tokens) if tokens else PatchStem())
    model = build(config, classes=["a", "b", "c"])
    randomise(model)
    return model.eval()


class Pictures:
    """Noise of the sizes above."""

    classes, labels = ("a", "b", "c"), np.array([0, 1, 2, 0, 1, 2, 0])

    def __len__(self) -> int:
        return len(SIZES)

    def image(self, index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, (*SIZES[index], 3), dtype=np.uint8)

    def name(self, index: int) -> str:
        return f"{index}"


def alone(model: Model, image: np.ndarray) -> np.ndarray:
    """[-1, 1], channels first, one image."""
    pixels = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)) / 127.5 - 1
    with torch.no_grad():
        return model(pixels[None])[0].numpy()


def test_native_images_give_what_each_gives_alone_in_their_order():
    model = network()
    found = predict_any_size(AnySize(PyTorchPredictor(model), "native"), Pictures())
    expected = [alone(model, Pictures().image(index)) for index in range(len(SIZES))]
    assert np.abs(found - expected).max() < SAME
    assert len({tuple(row) for row in np.round(found, 4)}) == len(SIZES)


def test_images_of_one_size_go_through_together_and_large_ones_alone(monkeypatch):
    model, batches = network(), []
    model.register_forward_pre_hook(lambda module, images: batches.append(tuple(images[0].shape)))
    monkeypatch.setattr(any_size, "BATCH_PIXELS", 2 * 16 * 16)
    AnySize(PyTorchPredictor(model), "native")([Pictures().image(index) for index in range(len(SIZES))])
    assert sorted(batches) == [(1, 3, 5, 40), (1, 3, 16, 16), (1, 3, 16, 60), (1, 3, 33, 17), (1, 3, 33, 17),
                               (2, 3, 9, 9)]


def test_few_images_wait_at_a_time_and_the_logits_stay_the_same(monkeypatch):
    predictor = AnySize(PyTorchPredictor(network()), "native")
    whole = predict_any_size(predictor, Pictures())
    monkeypatch.setattr(any_size, "WAITING_IMAGES", 2)
    done = []
    found = predict_any_size(predictor, Pictures(), lambda now, of: done.append((now, of)))
    assert np.abs(found - whole).max() < SAME
    assert done == [(2, 7), (4, 7), (6, 7), (7, 7)]
    monkeypatch.setattr(any_size, "WAITING_BYTES", 1)
    assert np.abs(predict_any_size(predictor, Pictures()) - whole).max() < SAME


def test_in_its_shape_a_photograph_is_seen_whole_at_the_area_of_the_network():
    predictor = AnySize(PyTorchPredictor(network()), "aspect")
    striped = np.zeros((30, 120, 3), np.uint8)
    striped[:, :60, 0] = 255  # the left half red
    seen = predictor.fit(striped)
    assert seen.shape == (8, 32, 3)
    assert (seen[:, 0, 0] > 200).all()  # both ends are still there
    assert (seen[:, -1, 0] < 50).all()
    assert predictor.fit(np.zeros((16, 16, 3), np.uint8)).shape == (16, 16, 3)


sides = st.integers(1, 5000)


@given(st.tuples(sides, sides), st.sampled_from([(32, 32), (224, 224), (64, 96)]), st.sampled_from([(4, 4), (8, 16)]))
def test_sizes_are_whole_patches_of_about_the_area_and_the_shape(size, like, patch):
    height, width = size_in_shape(size, like, patch)
    assert height % patch[0] == width % patch[1] == 0
    aspect = min(max(size[0] / size[1], 1 / MOST_ASPECT), MOST_ASPECT)
    area = like[0] * like[1]
    assert abs(height - (area * aspect) ** 0.5) <= patch[0]
    assert abs(width - (area / aspect) ** 0.5) <= patch[1]


def test_a_network_of_one_size_is_refused_with_what_to_do():
    with pytest.raises(BadSetting, match=r"--any-size aspect: .*--set network.stem.tokens="):
        AnySize(PyTorchPredictor(network(tokens=None)), "aspect")


# --- from the command line -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A checkpoint that takes any size, and its pictures as files in a folder for each class."""
    save(network(), tmp_path / "model.safetensors")
    save(network(tokens=None), tmp_path / "one_size.safetensors")
    pictures = Pictures()
    for index in range(len(pictures)):
        place = tmp_path / "photos" / "test" / "abc"[pictures.labels[index]]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures.image(index)).save(place / f"{index}.png")
    for name in "abc":
        place = tmp_path / "photos" / "train" / name
        place.mkdir(parents=True)
        Image.fromarray(pictures.image(0)).save(place / "x.png")
    return tmp_path


def test_a_folder_of_images_of_many_sizes_is_evaluated_and_predicted(folder, capsys):
    model = network()
    winners = np.array([alone(model, Pictures().image(index)).argmax() for index in range(len(SIZES))])
    assert main(["evaluate", str(folder / "model.safetensors"), str(folder / "photos"), "--any-size", "native",
                 "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["top1_percent"] == pytest.approx(100 * (winners == Pictures.labels).mean())
    assert found["any_size"] == "native"
    assert main(["predict", str(folder / "model.safetensors"), str(folder / "photos" / "test"), "--any-size", "native",
                 "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["predictions"]
    assert len(rows) == len(SIZES)
    assert all(row["class"] == "abc"[winners[int(row["file"][-5])]] for row in rows)
    assert main(["evaluate", str(folder / "model.safetensors"), str(folder / "photos"), "--any-size", "aspect"]) == 0
    assert "images of all sizes, not cut: aspect" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "says"), [
    (["evaluate", "model.safetensors", "photos", "--any-size", "native", "--tta", "flip"], "leave out --tta"),
    (["evaluate", "model.safetensors", "photos", "--any-size", "native", "--image-size", "8"],
     "leave out --image-size"),
    (["evaluate", "one_size.safetensors", "photos", "--any-size", "native"], "this network takes images of one size"),
    (["predict", "one_size.safetensors", "photos", "--any-size", "aspect"], "this network takes images of one size"),
    (["predict", "model.safetensors", "photos", "--any-size", "aspect", "--image-size", "8"], "leave one out"),
])
def test_what_does_not_go_together_is_one_clear_line(folder, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(folder)
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert says in err
    assert len(err.splitlines()) == 1
