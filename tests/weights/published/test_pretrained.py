"""A network with its published weights: downloaded, recognised, with its words, and brought to what is asked for.

Small networks in exactly the published formats, behind a server on this machine, stand for the published files.
"""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

import allmlp
from allmlp.errors import AllMLPError, BadCheckpoint, BadSetting, UnknownName
from allmlp.models import variants
from allmlp.models.model import Model
from allmlp.models.resize import resize
from allmlp.testing import randomise
from allmlp.weights import facebook, labels, timm
from allmlp.weights.catalogue import CATALOGUE, DEFAULTS, Published
from allmlp.weights.google import write_google
from allmlp.weights.layout import to_source
from allmlp.weights.pretrained import create_model

IN_1K = labels.words("imagenet-1k")


def as_npz(model: Model, tmp_path: Path) -> bytes:
    write_google(model, tmp_path / "x.npz")
    return (tmp_path / "x.npz").read_bytes()


def as_pth(layout):
    def write(model: Model, _tmp_path: Path) -> bytes:
        file = io.BytesIO()
        torch.save(to_source(layout, model.state_dict(), model.config.depth), file)
        return file.getvalue()

    return write


# A row of the catalogue to be like, the small network in its place, and how such files are written.
FORMATS = {
    "google npz": ("mixer_b16_224.goog_in1k", "mixer_p2_8", as_npz),
    "facebook pth": ("resmlp_12_224.fb_distilled_in1k", "resmlp_p2_8", as_pth(facebook.RESMLP)),
    "timm pth": ("gmlp_s16_224.ra3_in1k", "gmlp_p2_8", as_pth(timm.GMLP)),
}


class Publication:
    """A small published checkpoint, and the network that its file was written from."""

    def __init__(self, row: Published, model: Model):
        self.row, self.model = row, model


@pytest.fixture(params=FORMATS)
def publication(request, site, home, tmp_path, monkeypatch) -> Publication:
    like, network, write = FORMATS[request.param]
    model = variants.create_model(network, activation=CATALOGUE[like].gelu)
    randomise(model)
    content = write(model, tmp_path)
    name = f"{network}.{like.partition('.')[2]}"
    suffix = Path(CATALOGUE[like].url).suffix
    row = CATALOGUE[like].with_(
        name=name, url=site.add(f"/{network}{suffix}", content), hub_id=None, sha256=None,
        size_mib=len(content) / 2**20, preprocess=CATALOGUE[like].preprocess.with_(image_size=(8, 8)),
    )  # fmt: skip
    monkeypatch.setitem(CATALOGUE, name, row)
    monkeypatch.setitem(DEFAULTS, network, name)
    return Publication(row, model)


google = pytest.mark.parametrize("publication", ["google npz"], indirect=True)


def same_state(one: Model, other: Model) -> bool:
    state = other.state_dict()
    return one.state_dict().keys() == state.keys() and all(
        torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items()
    )


@torch.no_grad()
def test_published_weights_come_with_their_classes_preprocessing_and_gelu(publication, site, home):
    model = create_model(publication.row.name, pretrained=True)
    assert same_state(model, publication.model)
    assert model.config == publication.model.config
    assert model.config.blocks[0].activation == publication.row.gelu
    assert model.preprocess == publication.row.preprocess
    assert model.classes == IN_1K
    assert not model.training
    assert (home / f"{publication.row.name}{Path(publication.row.url).suffix}").is_file()
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(images), publication.model(images))
    create_model(publication.row.name, pretrained=True)
    assert len(site.requests) == 1


def test_the_networks_name_alone_means_its_default_weights(publication):
    assert same_state(create_model(publication.row.network, pretrained=True), publication.model)


def test_weights_are_a_model_wherever_a_model_is_asked_for(publication, tmp_path, monkeypatch):
    assert same_state(allmlp.load(publication.row.name), publication.model)
    with pytest.raises(BadSetting, match=r"image_size \(16, 16\): .* is a network for \(8, 8\)"):
        allmlp.load(publication.row.name, image_size=16)
    predictor = allmlp.load_predictor(publication.row.network, device="cpu")
    logits = predictor(np.zeros((1, 8, 8, 3), np.uint8))
    assert predictor.classes is not None
    assert predictor.classes[logits.argmax()] in IN_1K
    # A file of that name is nearer.
    monkeypatch.chdir(tmp_path)
    other = variants.create_model("mixer_p2_8", num_classes=2)
    allmlp.save(other, publication.row.name)
    assert same_state(allmlp.load(publication.row.name), other)


@pytest.mark.parametrize("change", [
    {"image_size": (8, 12)}, {"image_size": 16}, {"in_channels": 1}, {"in_channels": 5}, {"patch_size": 4},
    {"image_size": (6, 10), "in_channels": 4},
], ids=str)  # fmt: skip
def test_another_size_is_that_of_resize(publication, change):
    model, expected = create_model(publication.row.name, True, **change), resize(publication.model, **change)
    assert same_state(model, expected)
    assert model.config == expected.config
    assert model.preprocess == publication.row.preprocess.with_(
        image_size=model.config.image_size, channels=1 if model.config.in_channels == 1 else 3
    )
    assert model.classes == IN_1K


def test_another_number_of_classes_gives_a_fresh_head_and_the_same_number_keeps_it(publication):
    name, expected = publication.row.name, publication.model.state_dict()
    for num_classes in (5, 0):
        model = create_model(name, True, num_classes=num_classes)
        assert (model.num_classes, model.classes) == (num_classes, None)
        for key, tensor in model.state_dict().items():
            assert key.startswith("head") or torch.equal(tensor, expected[key])
    assert same_state(create_model(name, True, num_classes=1000), publication.model)
    heads = [create_model(name, True, num_classes=5, seed=seed).head.weight for seed in (1, 1)]
    assert torch.equal(heads[0], heads[1])


def test_classes_that_keep_their_name_keep_their_row_of_the_head(publication):
    model = create_model(publication.row.name, True, classes=["goldfish", "my cat", "tench"])
    assert model.classes == ("goldfish", "my cat", "tench")
    old = publication.model.head
    for row, number in {0: 1, 2: 0}.items():
        assert torch.equal(model.head.weight[row], old.weight[number])
        assert torch.equal(model.head.bias[row], old.bias[number])
    assert not torch.equal(model.head.weight[1], old.weight[1])


def test_settings_of_training_and_the_gelu_can_be_chosen(publication):
    model = create_model(publication.row.name, True, stochastic_depth=0.1, drop_rate=0.2, activation="erf")
    config = model.config
    assert (config.stochastic_depth.rate, config.drop_rate, config.blocks[0].activation) == (0.1, 0.2, "erf")
    assert same_state(model, publication.model)
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        tokens = create_model(publication.row.name, True, global_pool="", num_classes=0)(images)
        assert torch.equal(tokens, publication.model.forward_features(images))


@google
def test_a_gelu_that_the_weights_are_not_for_is_refused(publication):
    for pretrained in (True, False):
        with pytest.raises(BadSetting, match="activation 'swiglu': the weights of .* without gates"):
            create_model(publication.row.name, pretrained, activation="swiglu")
    with pytest.raises(BadSetting, match=r"activation 'erf': .* with gates \(swiglu\)"):
        create_model("gmixer_24_224.ra3_in1k", activation="erf")


@google
def test_timms_words_mean_the_same(publication):
    name = publication.row.name
    for pretrained in (True, False):
        ours = create_model(name, pretrained, image_size=16, in_channels=1, stochastic_depth=0.1, seed=1)
        timms = create_model(name, pretrained, img_size=16, in_chans=1, drop_path_rate=0.1, seed=1)
        assert ours.config == timms.config
        assert same_state(ours, timms)
    with pytest.raises(BadSetting, match="image_size and img_size are two words for the same: give one of them"):
        create_model(name, image_size=16, img_size=16)


def test_a_tag_without_pretrained_gives_the_same_network_with_fresh_weights(publication, site):
    fresh, trained = (create_model(publication.row.name, pretrained, seed=1) for pretrained in (False, True))
    assert fresh.config == trained.config
    assert fresh.preprocess == trained.preprocess
    assert fresh.classes == trained.classes
    assert not same_state(fresh, trained)
    assert create_model(publication.row.name, image_size=16, num_classes=3).classes is None
    assert create_model(publication.row.name, image_size=16).preprocess.image_size == (16, 16)
    assert len(site.requests) == 1


def test_without_a_tag_and_without_pretrained_it_is_the_plain_network():
    ours, plain = (create("mixer_p2_8", num_classes=3, seed=1) for create in (create_model, variants.create_model))
    assert same_state(ours, plain)
    assert (ours.config, ours.preprocess, ours.classes) == (plain.config, plain.preprocess, plain.classes)


def test_a_head_that_is_untrained_is_left_out(publication, monkeypatch):
    row = publication.row.with_(num_classes=0, labels=None)
    monkeypatch.setitem(CATALOGUE, row.name, row)
    model = create_model(row.name, pretrained=True)
    assert (model.num_classes, model.classes) == (0, None)
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = publication.model.forward_head(publication.model.forward_features(images), pre_logits=True)
        assert torch.equal(model(images), expected)
    assert create_model(row.name, pretrained=True, num_classes=4).num_classes == 4


@google
@pytest.mark.parametrize("content", [b"PK\x03\x04 and then nothing", "another network", "other classes"])
def test_a_file_that_is_not_these_weights_is_refused_with_what_to_do(publication, site, tmp_path, content):
    if isinstance(content, str):
        other = variants.create_model("mixer_p2_8", num_classes=7)
        if content == "another network":
            config = other.config.with_(num_classes=1000, depth=2)
            with torch.device("meta"):
                other = Model(config)
            other = other.to_empty(device="cpu")
            randomise(other)
        content = as_npz(other, tmp_path)
    row = publication.row.with_(url=site.add("/wrong.npz", content), size_mib=len(content) / 2**20)
    CATALOGUE[row.name] = row  # put back by the fixture
    with pytest.raises(BadCheckpoint) as error:
        create_model(row.name, pretrained=True)
    assert str(error.value).endswith("; delete the file, and it will be downloaded again")
    assert f"{row.name}.npz" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_name_is_answered_as_everywhere():
    for pretrained in (True, False):
        with pytest.raises(UnknownName, match="unknown model 'mixer_b17'; did you mean mixer_b16_224"):
            create_model("mixer_b17", pretrained)
    with pytest.raises(UnknownName, match="no weights of 'mixer_p2_8' were ever published"):
        create_model("mixer_p2_8", pretrained=True)


@pytest.mark.parametrize(("arguments", "line"), [
    ({"name": "mixer_b16_224."}, "unknown weights of mixer_b16_224: ''; accepted: goog_gsam_in1k"),
    ({"name": "hf-hub:me/x"}, "hf-hub:me/x: create_model builds networks by name; allmlp.load('hf-hub:me/x')"),
    ({"name": None}, "create_model: None is no name"),
    ({"image_size": 33}, "model: image height 33 is not divisible by the patch height"),
    ({"patch_size": 33}, "model: image height 224 is not divisible by the patch height 33"),
    ({"num_classes": -1}, "model: num_classes"),
    ({"num_classes": 3, "classes": ["a"]}, "1 class names for 3 classes"),
    ({"classes": ["a", "a"]}, "class names: 'a' stands 2 times"),
    ({"seed": "x"}, "seed 'x': give a whole number"),
], ids=lambda value: str(value)[:50])  # fmt: skip
def test_a_mistake_is_told_before_anything_is_downloaded(arguments, line, tmp_path):
    with pytest.raises(AllMLPError) as error:
        allmlp.create_model(**{"name": "mixer_b16_224.goog_in1k", "cache_dir": tmp_path, **arguments}, pretrained=True)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)
