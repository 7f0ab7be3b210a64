"""A file that does not fit says which tensor and why, in one line that begins with the file's name."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import allmlp
from allmlp.checkpoint import load
from allmlp.errors import AllMLPError, BadCheckpoint, BadSetting


def refusal(path: Path, **arguments) -> str:
    with pytest.raises(BadCheckpoint) as error:
        load(path, **arguments)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 1000 + len(str(path))
    return message.removeprefix(f"{path}: ")


@pytest.fixture
def google(golden) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "google-mixer-tiny.npz"))


@pytest.fixture
def facebook(golden) -> dict[str, torch.Tensor]:
    return torch.load(golden / "facebook-resmlp-tiny.pth", weights_only=True)


def test_missing_and_unexpected_tensors_are_named(google, tmp_path, writers):
    for name in google:
        if name.startswith("head"):
            continue  # a file without a head is a network without one
        writers["npz"]({key: array for key, array in google.items() if key != name}, tmp_path / "x.npz")
        assert f"missing {name}" in refusal(tmp_path / "x.npz")
    writers["npz"]({**google, "head/extra": google["head/bias"]}, tmp_path / "x.npz")
    assert "unexpected head/extra" in refusal(tmp_path / "x.npz")
    writers["npz"]({key: array for key, array in google.items() if key != "head/bias"}, tmp_path / "x.npz")
    assert "missing head/bias" in refusal(tmp_path / "x.npz")


def test_a_missing_block_is_named_by_its_first_tensors(google, tmp_path, writers):
    writers["npz"]({key: array for key, array in google.items() if "Block_1/" not in key}, tmp_path / "x.npz")
    message = refusal(tmp_path / "x.npz")
    assert "missing MixerBlock_1/LayerNorm_0/scale" in message
    assert "and 19 more" in message  # 12 missing, 12 unexpected ("MixerBlock_2/…"), 5 named


def test_a_tensor_of_another_shape_is_named_with_both_shapes_as_in_the_file(google, facebook, tmp_path, writers):
    name = "MixerBlock_1/token_mixing/Dense_0/kernel"
    writers["npz"]({**google, name: google[name].T}, tmp_path / "x.npz")
    assert f"{name} is (10, 16), expected (16, 10)" in refusal(tmp_path / "x.npz")
    name = "blocks.2.norm1.alpha"
    torch.save({**facebook, name: torch.zeros(23)}, tmp_path / "x.pth")
    assert f"{name} is (23,), expected (24,)" in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize("shape", [(), (0,), (24, 1), (1, 24), (2, 3, 4), (24, 0)])
def test_a_tensor_with_other_axes_is_named(google, tmp_path, writers, shape):
    for name in ("stem/bias", "head/bias", "stem/kernel", "MixerBlock_1/channel_mixing/Dense_1/bias",
                 "MixerBlock_0/token_mixing/Dense_0/kernel", "MixerBlock_0/channel_mixing/Dense_0/kernel"):
        if google[name].shape != shape:
            writers["npz"]({**google, name: np.zeros(shape, np.float32)}, tmp_path / "x.npz")
            assert f"{name} is {shape}, expected" in refusal(tmp_path / "x.npz")


@pytest.mark.parametrize("dtype", ["<i4", "|u1", "|b1", "<c8", "|S3", "<U3", "<f4,<f4", "|O", "<M8[s]"])
def test_numbers_that_are_not_floating_point_are_refused_by_name(google, tmp_path, writers, dtype):
    writers["npz"]({**google, "stem/bias": np.zeros(24, dtype)}, tmp_path / "x.npz")
    assert "stem/bias" in refusal(tmp_path / "x.npz")


@pytest.mark.parametrize("container", ["safetensors", "pth", "legacy pth"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_integers_in_torchs_files_are_refused_by_name(facebook, tmp_path, writers, container, dtype):
    writers[container]({**facebook, "head.bias": facebook["head.bias"].to(dtype)}, tmp_path / "x")
    assert f"head.bias is {str(dtype).removeprefix('torch.')}, expected floating point" in refusal(
        tmp_path / "x").replace("I64", "int64").replace("I32", "int32").replace("U8", "uint8").replace("BOOL", "bool")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("container", ["safetensors", "pth", "legacy pth", "npz"])
def test_numbers_that_are_not_finite_are_refused_by_name(facebook, tmp_path, writers, container, bad):
    facebook["blocks.1.attn.weight"][3, 5] = bad
    writers[container](facebook, tmp_path / "x")
    assert "blocks.1.attn.weight holds numbers that are not finite" in refusal(tmp_path / "x")


def test_a_float64_too_large_for_float32_is_not_finite(google, tmp_path, writers):
    writers["npz"]({**google, "head/bias": np.full(7, 1e300)}, tmp_path / "x.npz")
    assert "head/bias holds numbers that are not finite" in refusal(tmp_path / "x.npz")


def test_another_network_is_refused_with_what_is_known(tmp_path, writers):
    save_file({"conv1.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(3)}, tmp_path / "resnet.safetensors")
    message = refusal(tmp_path / "resnet.safetensors")
    assert "conv1.weight" in message
    assert "Google's Mixer" in message
    vit = {f"blocks.{i}.{name}": torch.zeros(3) for i in range(3) for name in ("attn.qkv.weight", "norm1.weight")}
    torch.save({**vit, "cls_token": torch.zeros(3)}, tmp_path / "vit.pth")
    assert "knows" in refusal(tmp_path / "vit.pth") or "unexpected cls_token" in refusal(tmp_path / "vit.pth")


@pytest.mark.parametrize("container", ["safetensors", "pth", "legacy pth", "npz"])
def test_names_from_a_file_neither_break_the_line_nor_reach_the_terminal(facebook, tmp_path, writers, container):
    for name in ("a\nb", "\x1b[2J", "\r\u2028", "x" * 60_000, "params/" * 9_000, "module." * 9_000):
        writers[container]({**facebook, name: torch.zeros(2)}, tmp_path / "x")
        message = refusal(tmp_path / "x")
        assert message.isprintable()
        writers[container]({name: torch.zeros(2)}, tmp_path / "x")
        assert refusal(tmp_path / "x").isprintable()


def test_no_tensors_at_all_are_refused(tmp_path, writers):
    for container, write in writers.items():
        write({}, tmp_path / container)
        assert "not a network that allmlp knows" in refusal(tmp_path / container)


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "truncated (0 bytes)"), (b"x", "truncated (1 bytes)"), (b"hello, world", "not a file of weights"),
    (b"PK", "damaged"), (b"PK\x03\x04" + bytes(100), "damaged"), (b"\x80", "pickle"), (b"\x80\x02.", "pickle"),
    (b"\xff" * 8 + b"{" + bytes(50), "truncated"), (b"\x05" + bytes(7) + b"{}   ", "not a network"),
    (b"\x1f\x8b\x08" + bytes(30), "not a file of weights"), (b"\x89HDF\r\n\x1a\n" + bytes(30), "not a file of weights"),
])  # fmt: skip
def test_what_is_no_weights_file_is_refused(tmp_path, content, reason):
    (tmp_path / "x").write_bytes(content)
    assert reason in refusal(tmp_path / "x")


def test_a_zip_of_something_else_is_refused(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "'readme.txt' is not an array" in refusal(tmp_path / "x.zip")


def test_objects_that_are_no_state_dict_are_refused(tmp_path):
    for value, reason in [(torch.zeros(3), "no state dict"), ([torch.zeros(3)], "no state dict"), (7, "no state dict"),
                          ({"lr": 0.1}, "not tensors: lr"), ({1: torch.zeros(3)}, "not tensors: 1"),
                          ({"state_dict": {"a": "b"}}, "not tensors: a")]:
        for new in (True, False):
            torch.save(value, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
            assert reason in refusal(tmp_path / "x.pth")


def test_a_torchscript_program_is_refused(tmp_path):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces TorchScript's end
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), tmp_path / "x.pt")
    assert "TorchScript" in refusal(tmp_path / "x.pt")


def test_only_regular_files_are_read_and_links_are_followed_to_them_only(golden, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(golden / "google-mixer-tiny.npz")
    assert load(link).num_classes == 7

    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to folder").symlink_to(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    (tmp_path / "to pipe").symlink_to(tmp_path / "pipe")
    (tmp_path / "text").write_text("root:secret")
    (tmp_path / "to text").symlink_to(tmp_path / "text")
    for name in ("nowhere", "loop", "dangling", "device", "folder", "to folder", "pipe", "to pipe", "to text"):
        message = refusal(tmp_path / name)
        assert "secret" not in message
        assert re.search("no such file|cannot be read|not a regular file|a folder|not a file of weights|Too many",
                         message), message  # fmt: skip


def test_a_file_that_may_not_be_read_is_refused(golden, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes((golden / "google-mixer-tiny.npz").read_bytes())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "Permission denied" in refusal(path)


@pytest.mark.parametrize(("size", "reason"), [
    (None, "48 x 32, 32 x 48, 64 x 24"),
    ((32, 32), "makes 8 tokens, but its network has 12"),
    ((30, 48), "30 x 48 is not divisible into patches of 16 x 8"),
    (48, "makes 18 tokens"),
    ((32,), "give one number or (height, width)"), ((32, 48, 3), "give one number"), ((0, 48), "give one number"),
    ((-32, -48), "give one number"),
])  # fmt: skip
def test_an_image_size_that_the_shapes_leave_open_or_contradict_is_asked_for(golden, size, reason):
    assert reason in refusal(golden / "google-mixer-rect.npz", image_size=size)


def test_another_grid_of_the_same_number_of_tokens_can_be_wanted(golden):
    path = golden / "google-mixer-tiny.npz"
    assert load(path).config.image_size == (32, 32)
    assert load(path, image_size=32).config.image_size == (32, 32)
    assert load(path, image_size=(16, 64)).config.grid == (2, 8)
    assert load(path, image_size=[64, 16]).config.grid == (8, 2)


def test_an_image_size_for_our_own_checkpoint_must_be_its_own(tmp_path):
    allmlp.save(allmlp.create_model("mixer_p2_8", seed=0), tmp_path / "x.safetensors")
    assert allmlp.load(tmp_path / "x.safetensors", image_size=8).config.image_size == (8, 8)
    with pytest.raises(BadSetting, match="image_size"):
        allmlp.load(tmp_path / "x.safetensors", image_size=16)


def test_our_own_checkpoint_is_read_whatever_the_length_of_its_header(tmp_path):
    """A safetensors file begins with the lowest byte of its header's length, which may be a pickle's or a zip's."""
    model = allmlp.create_model("mixer_p2_8", seed=0)
    first = set()
    for length in range(0, 256, 8):  # headers are padded to a multiple of 8
        if {0x80, 0x50} <= first:
            break
        allmlp.checkpoint.save(model, tmp_path / "x", {"note": "x" * length})
        first.add((tmp_path / "x").read_bytes()[0])
        assert allmlp.load(tmp_path / "x").config == model.config
    assert {0x80, 0x50} <= first


def test_every_refusal_is_an_error_of_ours(tmp_path):
    with pytest.raises(AllMLPError, match="no such file"):
        allmlp.load(tmp_path / "absent.npz")
