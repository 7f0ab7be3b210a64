"""Our networks in timm's registry: beside timm's own, with everything that timm does with a model."""

import warnings
from pathlib import Path

import pytest
import timm
import torch
from timm.models import FeatureInfo
from timm.optim import param_groups_layer_decay

import allmlp
from allmlp.models import variants
from allmlp.models.model import Model
from allmlp.testing import randomise
from allmlp.weights.catalogue import CATALOGUE, DEFAULTS, PUBLISHED
from allmlp.weights.google import write_google

TIMMS = set(timm.list_models(exclude_filters="allmlp_*"))


@pytest.fixture(autouse=True, scope="module")
def names() -> list[str]:
    return allmlp.register_with_timm()


def test_every_network_is_there_once_and_none_of_timms_is_touched(names):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # timm warns when a name is overwritten
        assert allmlp.register_with_timm() == names
    assert names == [f"allmlp_{name}" for name in variants.VARIANTS]
    assert set(timm.list_models("allmlp_*")) == set(timm.list_models(module="allmlp")) == set(names)
    assert set(timm.list_models()) - set(names) == TIMMS
    assert type(timm.create_model("gmlp_ti16_224", img_size=32)).__module__ == "timm.models.mlp_mixer"


def test_weights_are_listed_under_our_tags_with_our_defaults():
    assert set(timm.list_pretrained("allmlp_*")) == {f"allmlp_{row.name}" for row in PUBLISHED}
    for network, name in DEFAULTS.items():
        assert timm.get_pretrained_cfg(f"allmlp_{network}").tag == name.partition(".")[2]
    config = timm.get_pretrained_cfg("allmlp_mixer_b16_224.miil_in21k")
    assert (config.num_classes, config.mean, config.interpolation) == (11221, (0, 0, 0), "bilinear")


def test_a_network_is_built_as_asked():
    model = timm.create_model("allmlp_mixer_p2_8", img_size=(8, 12), in_chans=1, num_classes=3, drop_rate=0.1,
                              drop_path_rate=0.2, global_pool="", patch_size=4, activation="erf")  # fmt: skip
    config = model.config
    assert (config.image_size, config.in_channels, config.num_classes, config.patch_size) == ((8, 12), 1, 3, (4, 4))
    assert (config.drop_rate, config.stochastic_depth.rate, config.global_pool) == (0.1, 0.2, "")
    assert config.blocks[0].activation == "erf"
    assert model(torch.randn(2, 1, 8, 12)).shape == (2, 6, 3)


def test_an_unknown_argument_is_an_error():
    with pytest.raises(TypeError, match="not_an_argument"):
        timm.create_model("allmlp_mixer_p2_8", not_an_argument=1)


def test_the_largest_network_costs_nothing_on_the_meta_device():
    model = timm.create_model("allmlp_mixer_h14_224", device="meta", dtype=torch.bfloat16)
    assert {(parameter.device.type, parameter.dtype) for parameter in model.parameters()} == {("meta", torch.bfloat16)}


@pytest.mark.parametrize("wanted", [{}, {"out_indices": (0, -1)}, {"out_indices": 2}], ids=str)
def test_features_come_from_the_blocks(wanted):
    torch.manual_seed(0)
    features = timm.create_model("allmlp_mixer_p2_8", features_only=True, img_size=(8, 12), **wanted).eval()
    images = torch.randn(2, 3, 8, 12)
    outputs = features(images)
    assert [tuple(output.shape[1:]) for output in outputs] == [
        (channels, 8 // reduction, 12 // reduction)
        for channels, reduction in zip(features.feature_info.channels(), features.feature_info.reduction(), strict=True)
    ]
    assert isinstance(features.feature_info, FeatureInfo)
    assert len(outputs) == (3 if not wanted else 2)


@pytest.mark.parametrize("name", ["mixer_s32_224", "resmlp_12_224", "gmlp_ti16_224"])
def test_layer_decay_gives_each_parameter_the_rate_that_timms_network_gets(name):
    rates = []
    for registered in (name, f"allmlp_{name}"):
        model = timm.create_model(registered, device="meta")
        groups = param_groups_layer_decay(model, weight_decay=0.1, layer_decay=0.5, verbose=False)
        scale = {id(parameter): (group["lr_scale"], group["weight_decay"])
                 for group in groups for parameter in group["params"]}  # fmt: skip
        rates.append({key: scale[id(parameter)] for key, parameter in model.named_parameters()})
    assert rates[0] == rates[1]
    assert len({rate for rate, _ in rates[0].values()}) == model.config.depth + 2


def test_pretrained_weights_are_those_of_the_catalogue_at_any_size(tmp_path: Path, monkeypatch):
    """Of a real name, whose file was put into the cache by hand; it stands for the published one."""
    monkeypatch.setenv("ALLMLP_HOME", str(tmp_path))
    model = variants.create_model("mixer_s32_224")
    randomise(model)
    write_google(model, tmp_path / "mixer_s32_224.goog_gsam_in1k.npz")
    images = torch.randn(1, 3, 224, 224)
    for name in ("allmlp_mixer_s32_224", "allmlp_mixer_s32_224.goog_gsam_in1k"):
        trained = timm.create_model(name, pretrained=True)
        assert isinstance(trained, Model)
        with torch.no_grad():
            assert torch.equal(trained(images), model(images))
        assert trained.pretrained_cfg["tag"] == "goog_gsam_in1k"
    larger = timm.create_model("allmlp_mixer_s32_224", pretrained=True, img_size=(256, 288), num_classes=5)
    assert larger(torch.randn(1, 3, 256, 288)).shape == (1, 5)
    elsewhere = timm.create_model("allmlp_mixer_s32_224", pretrained=True, cache_dir=str(tmp_path), num_classes=0)
    assert elsewhere(images).shape == (1, 512)


def test_timms_own_ways_of_giving_weights_work(tmp_path):
    model = variants.create_model("resmlp_p2_8", num_classes=5)
    randomise(model)
    allmlp.save(model, tmp_path / "x.safetensors")
    images = torch.randn(2, 3, 8, 8)
    for arguments in ({"checkpoint_path": str(tmp_path / "x.safetensors")},
                      {"pretrained": True, "pretrained_cfg_overlay": {"file": str(tmp_path / "x.safetensors"),
                                                                      "num_classes": 5}}):  # fmt: skip
        theirs = timm.create_model("allmlp_resmlp_p2_8", num_classes=5, **arguments)
        with torch.no_grad():
            assert torch.equal(theirs(images), model(images))


def test_a_tag_that_does_not_exist_is_refused():
    assert "mixer_b16_224.no_such_tag" not in CATALOGUE
    with pytest.raises(RuntimeError, match="Invalid pretrained tag"):
        timm.create_model("allmlp_mixer_b16_224.no_such_tag")
