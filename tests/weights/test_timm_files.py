"""timm's files: every network of its mlp_mixer.py there and back, bit by bit, and the numbers that timm computes."""

import argparse

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers import GatedMlp, GluMlp
from timm.models import mlp_mixer
from timm.models.mlp_mixer import MlpMixer

import allmlp
from allmlp.errors import BadCheckpoint, CannotWrite
from allmlp.models.variants import VARIANTS, default_preprocess
from allmlp.testing import randomise
from allmlp.weights.infer import family_of, family_preprocess, infer_config
from allmlp.weights.timm import LAYOUTS, TIMM_NAMES, timm_name, write_timm

NAMES = timm.list_models(["mixer_*", "resmlp_*", "gmlp_*", "gmixer_*"])
SMALL = ["mixer_s32_224", "gmixer_12_224", "resmlp_12_224", "gmlp_ti16_224"]  # one of each family
TINY = {
    "mixer": {"mlp_ratio": (0.75, 2)},
    "gmixer": {"mlp_ratio": (0.5, 2), "mlp_layer": GluMlp, "act_layer": torch.nn.SiLU},
    "resmlp": {"mlp_ratio": 2, "block_layer": mlp_mixer.ResBlock, "norm_layer": mlp_mixer.Affine},
    "gmlp": {"mlp_ratio": 2, "block_layer": mlp_mixer.SpatialGatingBlock, "mlp_layer": GatedMlp},
}
SAME = 1e-5  # of the logits' largest value: the same operations in float32, perhaps summed in another order


def timms(name: str, depth: int | None = None, **arguments) -> torch.nn.Module:
    """timm's network with random weights in every parameter; the first `depth` blocks of it (all)."""
    with torch.device("meta"):
        model = timm.create_model(name, **arguments)
    model.blocks = model.blocks[:depth]
    model = model.to_empty(device="cpu").eval()
    randomise(model)
    return model


def assert_equal_states(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor, other[name]), name


def test_our_list_of_timms_names_is_timms():
    assert set(TIMM_NAMES) == set(NAMES)
    assert tuple(name for name in TIMM_NAMES if timm_name(VARIANTS[name]) == name) == TIMM_NAMES


@pytest.mark.parametrize("depth", [1, pytest.param(None, marks=pytest.mark.slow)], ids=["one block", "all blocks"])
@pytest.mark.parametrize("name", NAMES)
def test_timm_to_allmlp_to_timm_to_allmlp_keeps_every_bit(name, depth, folder):
    theirs = timms(name, depth)
    save_file(theirs.state_dict(), folder / "timm.safetensors")
    model = allmlp.load(folder / "timm.safetensors")
    write_timm(model, folder / "ours.safetensors")
    back = load_file(folder / "ours.safetensors")
    assert_equal_states(back, theirs.state_dict())

    theirs.load_state_dict({name: tensor * 0 for name, tensor in back.items()})
    theirs.load_state_dict(back, strict=True)
    save_file(theirs.state_dict(), folder / "timm.safetensors")
    again = allmlp.load(folder / "timm.safetensors")
    assert_equal_states(again.state_dict(), model.state_dict())
    assert (again.config, again.preprocess) == (model.config, model.preprocess)


@pytest.mark.parametrize("name", NAMES)
def test_the_config_of_each_of_timms_networks_is_inferred(name):
    """From shapes alone, without memory: the config is that of our table, but for timm's GELU."""
    with torch.device("meta"):
        tensors = timm.create_model(name).state_dict()
    expected = VARIANTS[name]
    if name.startswith("mixer"):
        expected = expected.with_(blocks=tuple(block.with_(activation="erf") for block in expected.blocks))
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    config = infer_config(LAYOUTS[family_of(expected)], shapes, expected.depth)
    assert config == expected
    assert family_preprocess(config) == default_preprocess(name, expected)


@pytest.mark.parametrize("name", [name if name in SMALL else pytest.param(name, marks=pytest.mark.slow)
                                  for name in NAMES])
def test_timm_itself_loads_what_we_write_and_computes_the_same(name, folder):
    activation = None if name.startswith("gmixer") else "erf"
    model = allmlp.create_model(name, image_size=64, num_classes=5, activation=activation)
    randomise(model)
    assert write_timm(model, folder / "x.safetensors") == []
    theirs = timm.create_model(name, img_size=64, num_classes=5, checkpoint_path=str(folder / "x.safetensors"))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        our_logits, their_logits = model(images), theirs.eval()(images)
    assert (our_logits - their_logits).abs().max() <= SAME * their_logits.abs().max()


@pytest.mark.parametrize("container", ["safetensors", "pth", "legacy pth", "npz", "compressed npz"])
@pytest.mark.parametrize("family", TINY)
def test_every_container_of_timms_names_gives_timms_logits(family, container, tmp_path, writers):
    theirs = MlpMixer(img_size=20, patch_size=5, num_blocks=2, embed_dim=12, in_chans=5, num_classes=3, **TINY[family])
    randomise(theirs.eval())
    writers[container](theirs.state_dict(), tmp_path / "x")
    model = allmlp.load(tmp_path / "x")
    images = torch.randn(2, 5, 20, 20)
    with torch.no_grad():
        expected = theirs(images)
        assert (model(images) - expected).abs().max() <= SAME * expected.abs().max()


@pytest.mark.parametrize("container", ["pth", "legacy pth"])
def test_a_training_checkpoint_gives_its_averaged_weights(container, tmp_path, writers, tiny):
    state = tiny.state_dict()
    optimizer = torch.optim.AdamW(tiny.parameters())
    tiny(torch.randn(1, 3, 20, 20)).sum().backward()
    optimizer.step()
    training = {
        "epoch": 3, "arch": "x", "metric": 71.5, "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, layers=[1, 2], name="x"),
        "state_dict": {name: tensor * 0 for name, tensor in state.items()},
        "state_dict_ema": {f"module.{name}": tensor for name, tensor in tiny.state_dict().items()},
    }  # fmt: skip
    writers[container](training, tmp_path / "x.pth.tar")
    assert_equal_states(allmlp.load(tmp_path / "x.pth.tar").state_dict(), dict(tiny.state_dict()))


def test_parameters_views_and_shared_storages_are_read_as_torch_reads_them(tmp_path, tiny):
    flat = torch.cat([tensor.flatten() for tensor in tiny.state_dict().values()])
    state, start = {}, 0
    for name, tensor in tiny.state_dict().items():
        state[name] = flat[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()
    name = "blocks.0.mlp_channels.fc1.weight"
    state[name] = state[name].t().contiguous().t()  # the same numbers, strides the other way round
    state["head.bias"] = torch.nn.Parameter(state["head.bias"])
    torch.save(state, tmp_path / "views.pth")
    assert_equal_states(allmlp.load(tmp_path / "views.pth").state_dict(), dict(tiny.state_dict()))


def test_the_other_gelu_is_reported(configs, random_model, tmp_path):
    config = configs["mixer"].with_(blocks=tuple(block.with_(activation="tanh") for block in configs["mixer"].blocks))
    notes = write_timm(random_model(config), tmp_path / "x.safetensors")
    assert [note.partition(":")[0] for note in notes] == ["GELU", "timm has no network of these widths and depth by "
                                                         "name; build its MlpMixer with them"]


def test_a_mixture_of_blocks_is_refused(configs, random_model, tmp_path):
    mixture = configs["gmlp"].with_(blocks=(*configs["gmlp"].blocks, *configs["mixer"].blocks))
    with pytest.raises(CannotWrite, match="mixture of blocks"):
        write_timm(random_model(mixture), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_name_that_timm_would_not_read_is_refused(tiny, tmp_path):
    with pytest.raises(CannotWrite, match=r"must end in \.safetensors"):
        write_timm(tiny, tmp_path / "x.pth")
    assert not list(tmp_path.iterdir())


def test_our_own_checkpoints_load_in_timm_as_they_are(tmp_path):
    model = allmlp.create_model("gmlp_ti16_224", num_classes=5)
    randomise(model)
    allmlp.save(model, tmp_path / "x.safetensors")
    theirs = timm.create_model("gmlp_ti16_224", num_classes=5, checkpoint_path=str(tmp_path / "x.safetensors"))
    assert_equal_states(dict(theirs.state_dict()), dict(model.state_dict()))


def test_damage_to_what_we_write_for_timm_is_found(tiny, tmp_path):
    write_timm(tiny, tmp_path / "x.safetensors")
    content = bytearray((tmp_path / "x.safetensors").read_bytes())
    content[-2] ^= 1
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(BadCheckpoint, match="damaged: what it holds does not have the checksum"):
        allmlp.load(tmp_path / "x.safetensors")
