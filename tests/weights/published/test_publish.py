"""What we write for the Hub is read by us without loss, and by timm where it can be; the upload carries every byte."""

import base64
import json
from pathlib import Path

import pytest
import timm
import torch

import allmlp
from allmlp.checkpoint import describe, provenance
from allmlp.errors import CannotWrite
from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.model import Model, ModelConfig, build
from allmlp.publish import push_to_hub, save_hub
from allmlp.testing import randomise

SAME = 1e-5  # of the logits' largest value: the same operations in float32, perhaps summed in another order
CLASSES = ["cat", "dog", "mouse"]
MIXTURE = ModelConfig(image_size=(8, 12), patch_size=(4, 4), width=10, depth=2, num_classes=3, blocks=(
    MixerConfig(token_hidden=6, channel_hidden=14), GMLPConfig(hidden=12)))  # fmt: skip

IN_TIMM = {
    "mixer_s32_224": {"image_size": (64, 96), "activation": "erf"},
    "gmixer_12_224": {"image_size": 32},
    "resmlp_12_224": {"image_size": 32, "in_channels": 1},
    "gmlp_ti16_224": {"image_size": (48, 32), "global_pool": ""},
}
OURS = {
    "mixer_p2_8": {},
    "mixer_t4_32": {"image_size": (16, 24), "drop_rate": 0.1, "stochastic_depth": 0.1},
    "resmlp_p2_8": {"image_size": 16},
}


def network(name: str, **arguments) -> Model:
    model = allmlp.create_model(name, classes=CLASSES, **arguments)
    randomise(model)
    model.preprocess = model.preprocess.with_(resize="squash_crop", crop_ratio=0.8, interpolation="bilinear",
                                              mean=(0.1, 0.1, 0.1))  # fmt: skip
    return model


def assert_same_logits(one: torch.nn.Module, other: torch.nn.Module, config: ModelConfig) -> None:
    images = torch.randn(2, config.in_channels, *config.image_size)
    with torch.no_grad():
        expected = other(images)
        assert (one(images) - expected).abs().max() <= SAME * expected.abs().max()


@pytest.mark.parametrize("name", [*IN_TIMM, *OURS, "mixture"])
def test_we_read_back_everything(name, tmp_path):
    if name == "mixture":
        model = build(MIXTURE, classes=CLASSES).eval()
        randomise(model)
    else:
        model = network(name, **IN_TIMM.get(name, {}), **OURS.get(name, {}))
    model.output = "sigmoid"
    save_hub(model, tmp_path, provenance={"eval_score": 0.5})
    back = allmlp.load(tmp_path)
    assert (back.config, back.preprocess, back.classes, back.output) == (
        model.config, model.preprocess, model.classes, "sigmoid")  # fmt: skip
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in back.state_dict().items())
    assert provenance(tmp_path / "model.safetensors")["eval_score"] == 0.5
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert ModelConfig.from_json(json.dumps(config["allmlp"]["config"])) == model.config
    assert {**config["allmlp"], "classes": CLASSES} == json.loads(json.dumps(describe(model, {"eval_score": 0.5})))


@pytest.mark.parametrize("name", IN_TIMM)
def test_timm_reads_its_own_architectures(name, tmp_path):
    model = network(name, **IN_TIMM[name])
    notes = save_hub(model, tmp_path, licence="mit")
    assert notes == []
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert type(theirs).__module__ == "timm.models.mlp_mixer"
    assert_same_logits(theirs, model, model.config)
    check_timms_view(theirs, model, "mit")


@pytest.mark.parametrize("name", OURS)
def test_timm_reads_ours_once_they_are_registered(name, tmp_path):
    allmlp.register_with_timm()
    model = network(name, **OURS[name])
    assert save_hub(model, tmp_path) == []
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert isinstance(theirs, Model)
    assert_same_logits(theirs, model, model.config)
    check_timms_view(theirs, model, None)


def check_timms_view(theirs: torch.nn.Module, model: Model, licence: str | None) -> None:
    about = theirs.pretrained_cfg
    assert about["label_names"] == CLASSES
    assert about.get("license") == licence
    data = timm.data.resolve_model_data_config(theirs)
    assert data["input_size"] == (model.config.in_channels, *model.config.image_size)
    assert (data["crop_pct"], data["crop_mode"], data["interpolation"]) == (0.8, "squash", "bilinear")
    assert data["mean"] == pytest.approx([0.1] * model.config.in_channels)


def test_another_head_and_channels_can_be_asked_of_timm(tmp_path):
    save_hub(network("gmlp_ti16_224", image_size=32), tmp_path)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=5, in_chans=1)
    assert theirs(torch.randn(1, 1, 32, 32)).shape == (1, 5)


def test_what_timm_computes_otherwise_is_said_in_the_result_and_on_the_card(tmp_path):
    notes = save_hub(network("mixer_s32_224", image_size=32), tmp_path)  # with Google's GELU
    assert [note.partition(":")[0] for note in notes] == ["GELU"]
    assert f"In timm: {notes[0]}." in (tmp_path / "README.md").read_text(encoding="utf-8")
    model = build(MIXTURE).eval()
    notes = save_hub(model, tmp_path)
    assert notes == ["timm has no name for a network of these sizes"]
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "timm.create_model" not in card
    assert "allmlp.load" in card


def test_the_card_says_what_whoever_uses_the_model_has_to_know(tmp_path):
    model = network("resmlp_12_224", image_size=32)
    save_hub(model, tmp_path / "my-model", licence="apache-2.0", provenance={"eval_score": 0.875, "data": "pets"})
    _, head, page = (tmp_path / "my-model" / "README.md").read_text(encoding="utf-8").split("---\n")
    assert "license: apache-2.0\n" in head
    assert "library_name: timm\n" in head
    assert "pipeline_tag: image-classification\n" in head
    parameters = f"{sum(parameter.numel() for parameter in model.parameters()):,}"
    for fact in ("# my-model", "cat, dog, mouse", "eval_score: 0.875", "data: pets", "3 x 32 x 32", "squash_crop",
                 parameters, 'allmlp.load("hf-hub:OWNER/my-model")'):  # fmt: skip
        assert fact in page
    save_hub(network("mixer_p2_8"), tmp_path)
    head = (tmp_path / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    assert "license" not in head
    assert "library_name: allmlp\n" in head


def test_without_classes_no_names_are_written(tmp_path):
    model = allmlp.create_model("mixer_p2_8", num_classes=4)
    save_hub(model, tmp_path)
    assert "label_names" not in json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert "classes: 4, without names" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert allmlp.load(tmp_path).classes is None


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotWrite):
        save_hub(network("mixer_p2_8"), tmp_path / "file")


@pytest.fixture
def receiving(hub):
    """The site takes uploads as the Hub does: a repository is made, files are asked for, a commit carries them."""
    hub.answers |= {
        ("POST", "/api/repos/create"): {"url": f"{hub.address}/owner/name", "id": "owner/name", "name": "owner/name"},
        ("POST", "/api/validate-yaml"): {"errors": [], "warnings": []},
        ("POST", "/api/models/owner/name/preupload/main"): {"files": [
            {"path": name, "uploadMode": "regular", "shouldIgnore": False}
            for name in ("config.json", "model.safetensors", "README.md")]},
        ("POST", "/api/models/owner/name/commit/main"): {"commitOid": "1" * 40,
                                                         "commitUrl": f"{hub.address}/owner/name/commit/1"},
    }  # fmt: skip
    return hub


def carried(hub) -> dict[str, bytes]:
    """The files in the commit that the site received."""
    body = next(body for method, path, _, body in reversed(hub.requests) if path.endswith("/commit/main"))
    lines = [json.loads(line) for line in body.splitlines()]
    files = [line["value"] for line in lines if line["key"] == "file"]
    return {file["path"]: base64.b64decode(file["content"]) for file in files}


def test_an_upload_makes_the_repository_and_carries_every_file(receiving, tmp_path):
    model = network("mixer_p2_8")
    address = push_to_hub(model, "owner/name", licence="mit", token="hf_x", endpoint=receiving.address)
    assert address == f"{receiving.address}/owner/name/commit/1"
    files = carried(receiving)
    assert set(files) == {"config.json", "model.safetensors", "README.md"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    back = allmlp.load(tmp_path)
    assert (back.config, back.classes) == (model.config, model.classes)
    assert_same_logits(back, model, model.config)
    assert b'allmlp.load("hf-hub:owner/name")' in files["README.md"]


def test_a_card_that_is_there_stays(receiving):
    receiving.add("/owner/name/resolve/main/README.md", b"# written by hand")
    push_to_hub(network("mixer_p2_8"), "owner/name", token="hf_x", endpoint=receiving.address)
    assert set(carried(receiving)) == {"config.json", "model.safetensors"}


def test_an_upload_that_is_refused_is_told_in_one_line(hub):
    with pytest.raises(CannotWrite) as error:
        push_to_hub(network("mixer_p2_8"), "owner/name", token="hf_x", endpoint=hub.address)
    assert str(error.value).startswith("owner/name: not uploaded to the Hugging Face Hub (")
    assert "\n" not in str(error.value)
    assert Path(hub.requests[0][1]).name == "create"
