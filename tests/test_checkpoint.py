"""Our checkpoint: complete, exact, written atomically, and not to be fooled."""

import binascii
import json
import os
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from allmlp import checkpoint
from allmlp.errors import AllMLPError, BadCheckpoint, BadSetting, CannotWrite, printable
from allmlp.files import load_tensors, save_tensors, write_text_atomically
from allmlp.models.fold import fold
from allmlp.models.resize import resize
from allmlp.models.variants import create_model
from allmlp.preprocess import Preprocess
from allmlp.publish import save_hub
from allmlp.weights.hub import read_config


@pytest.fixture
def model():
    model = create_model("resmlp_p2_8", classes=["a", "ä", "c<script>"], image_size=(8, 12), seed=0)
    model.preprocess = Preprocess(image_size=(8, 12), crop_ratio=0.7, mean=(0.1, 0.2, 0.3))
    model.output = "sigmoid"
    return model


def test_everything_comes_back_exactly(model, tmp_path):
    checkpoint.save(model, tmp_path / "x.safetensors", {"seed": 3})
    again = checkpoint.load(tmp_path / "x.safetensors")
    assert (again.config, again.preprocess, again.classes, again.output) == (
        model.config, model.preprocess, model.classes, model.output)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert checkpoint.provenance(tmp_path / "x.safetensors")["seed"] == 3
    assert not again.training


def test_the_same_model_gives_the_same_bytes(model, tmp_path):
    for name in "ab":
        checkpoint.save(model, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_run_folder_stands_for_its_best_checkpoint_else_its_last(model, tmp_path):
    checkpoint.save(model, tmp_path / "last.safetensors")
    assert checkpoint.find_checkpoint(tmp_path).name == "last.safetensors"
    checkpoint.save(model, tmp_path / "best.safetensors")
    assert checkpoint.find_checkpoint(tmp_path).name == "best.safetensors"


def test_an_engines_file_that_is_a_pipe_or_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "model.allmlp"
    os.mkfifo(path)
    with pytest.raises(BadCheckpoint, match=r"model\.allmlp: not a regular file"):
        checkpoint.find_checkpoint(path)
    path.unlink()
    path.write_bytes(b"")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BadCheckpoint, match=r"model\.allmlp: cannot be read: .*Permission denied"):
        checkpoint.find_checkpoint(path)


def test_the_file_can_be_read_by_others(model, tmp_path):
    umask = os.umask(0o022)
    try:
        checkpoint.save(model, tmp_path / "x.safetensors")
    finally:
        os.umask(umask)
    assert os.stat(tmp_path / "x.safetensors").st_mode & 0o777 == 0o644


def edit(path, change):
    """Rewrite a checkpoint with its description changed by `change(dict)`."""
    tensors, metadata = load_tensors(path)
    about = json.loads(metadata["allmlp"])
    change(about, tensors)
    save_tensors(tensors, path, {"allmlp": json.dumps(about)})


EIGHT_BITS = torch.float8_e5m2
CHANGES = {
    "a missing tensor": (lambda about, tensors: tensors.pop("head.bias"), "missing head.bias"),
    "an unexpected tensor": (lambda about, tensors: tensors.update(x=torch.zeros(1)), "unexpected x"),
    "another shape": (lambda about, tensors: tensors.update({"head.bias": torch.zeros(4)}), "head.bias is (4,)"),
    "integers": (lambda about, tensors: tensors.update({"head.bias": torch.zeros(3, dtype=torch.int32)}), "int32"),
    "another format": (lambda about, tensors: about.update(format=99), "format 99"),
    "no config": (lambda about, tensors: about.pop("config"), "config"),
    "an unknown setting": (lambda about, tensors: about["config"].update(magic=1), "magic"),
    "too many names": (lambda about, tensors: about.update(classes=["a"] * 9), "9 class names for 3 classes"),
    "classes that are no list": (lambda about, tensors: about.update(classes=7), "no list of names"),
    "absurd width": (lambda about, tensors: about["config"].update(width=10**9), "width"),
    "absurd depth": (lambda about, tensors: about["config"].update(depth=10**7), "depth"),
    "absurd images": (lambda about, tensors: about["config"].update(image_size=[2**40, 2**40]), "preprocessing makes"),
    "absurd channels": (lambda about, tensors: about["config"].update(in_channels=2**62), "more than any machine has"),
    "no word for its output": (lambda about, tensors: about.update(output="\x1b[2J"), "softmax, sigmoid"),
    "names that are doubles": (lambda about, tensors: about.update(classes=["a", "b", "b"]), "'b' stands 2 times"),
    "a name that is none": (lambda about, tensors: about.update(classes=["a", " ", "b"]), "number 1 is empty"),
    "grey pictures": (lambda about, tensors: about["preprocess"].update(channels=1), "3 channels but its"),
    "a tiny deviation": (lambda about, tensors: about["preprocess"].update(std=[1e-300] * 3), "from 1e-06 to 1e+06"),
    "a vast mean": (lambda about, tensors: about["preprocess"].update(mean=[0, 0, -1e300]), "mean: must be at most"),
    "a tiny crop ratio": (lambda about, tensors: about["preprocess"].update(crop_ratio=1e-300), "crop_ratio"),
    "a number that is none": (lambda about, tensors: tensors["head.bias"].fill_(torch.nan), "head.bias holds numbers"),
    "eight bits": (lambda about, tensors: tensors.update({"head.bias": torch.zeros(3, dtype=EIGHT_BITS)}), "float8"),
}


@pytest.mark.parametrize("change,says", CHANGES.values(), ids=CHANGES)
def test_what_does_not_fit_is_named(model, tmp_path, change, says):
    path = tmp_path / "x.safetensors"
    checkpoint.save(model, path)
    edit(path, change)
    with pytest.raises(BadCheckpoint) as error:
        checkpoint.load(path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damaged_files_are_refused_or_load_but_never_crash(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / "x.safetensors"
    checkpoint.save(create_model("mixer_p2_8", num_classes=2, seed=0), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 3000) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        checkpoint.load(path)
    except BadCheckpoint as error:
        assert "\n" not in str(error)


ABSURD = st.sampled_from([2**62, 10**400, 2**31, -1, 0, 1e308, float("nan"), None, True, "x" * 10_000, "\x1b[2J\n", [],
                          {}, [1], {"kind": "\n"}])  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_an_absurd_description_is_refused_in_one_line_or_loads(data, tmp_path_factory):
    """Any one value of it replaced: what a file says reaches neither the terminal nor the memory."""
    path = tmp_path_factory.getbasetemp() / "absurd.safetensors"
    checkpoint.save(create_model("mixer_p2_8", classes=["a", "b"], seed=0), path)

    def change(about, tensors):
        place = about
        while True:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 3)) == 0:
                place[key] = data.draw(ABSURD)
                return
            place = place[key]

    edit(path, change)
    try:
        checkpoint.load(path)
    except BadCheckpoint as error:
        assert str(error).isprintable()
        assert len(str(error)) < 1000


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_description_that_is_none_is_refused(model, tmp_path, text):
    save_tensors(model.state_dict(), tmp_path / "x.safetensors", {"allmlp": text})
    with pytest.raises(BadCheckpoint, match="its description is damaged"):
        checkpoint.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_commands_compute_in_float32_whatever_the_file_holds(model, tmp_path, dtype):
    """And the file comes back as it is, to whom asks for no size."""
    torch.nn.init.normal_(model.head.weight)
    checkpoint.save(model.to(dtype), tmp_path / "x.safetensors")
    assert checkpoint.load(tmp_path / "x.safetensors").head.weight.dtype == dtype
    for size in (None, (8, 12), (12, 8)):
        images = torch.randn(1, 3, *(size or (8, 12)))
        assert checkpoint.load_at(tmp_path / "x.safetensors", size)(images).dtype == torch.float32


@pytest.mark.parametrize(("name", "says"), [
    ("mixer_b16_224.goog_in2k", "did you mean goog_in21k"), ("mixer_b17_224.goog_in1k", "did you mean mixer_b16_224"),
    ("mixer_h14_224", "no weights of 'mixer_h14_224' were ever published"),
    ("mixer_b16_224.safetensors", "give a checkpoint"), ("runs/mine", "give a checkpoint"),
    ("x" * 5000, "give a checkpoint"), ("a\0b", "give a checkpoint"),
])  # fmt: skip
def test_what_is_neither_a_file_nor_a_name_is_answered_as_what_it_was_meant_to_be(name, says):
    with pytest.raises(AllMLPError, match=f"{printable(name)}: no such file".replace("?", ".")) as error:
        checkpoint.load(name)
    assert says in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(("path", "says"), [
    ("", "'': an empty name; give a checkpoint"), (None, "load: None is no path"), (7, "load: 7 is no path"),
    pytest.param("/proc/self/mem", "/proc/self/mem: cannot be read",
                 marks=pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="Linux has it")),
])  # fmt: skip
def test_what_is_no_path_or_cannot_be_read_is_one_line(path, says):
    with pytest.raises(AllMLPError) as error:
        checkpoint.load(path)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("provenance", [{"a": object()}, {"a": {1, 2}}, {(1, 2): 3}, ["a"], 7],
                         ids=["an object", "a set", "a key", "a list", "a number"])
@pytest.mark.parametrize("write", [checkpoint.save, lambda model, path, said: save_hub(model, path, provenance=said)])
def test_provenance_that_is_no_json_is_refused_with_nothing_written(model, tmp_path, write, provenance):
    with pytest.raises(BadSetting, match="^provenance: not plain values") as error:
        write(model, tmp_path / "x", provenance)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("other", [None, "runs/mine", torch.nn.Linear(1, 1)], ids=["none", "path", "module"])
@pytest.mark.parametrize("function", [
    lambda other, path: checkpoint.save(other, path), lambda other, path: save_hub(other, path),
    lambda other, path: fold(other), lambda other, path: resize(other, num_classes=2),
], ids=["save", "save_hub", "fold", "resize"])  # fmt: skip
def test_what_is_no_network_is_refused_where_one_is_expected(function, other, tmp_path):
    with pytest.raises(BadSetting, match=": give a network, as `allmlp.load`"):
        function(other, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_model_with_names_that_nobody_could_load_is_not_written(model, tmp_path):
    model.classes = ("a", "a", "b")
    with pytest.raises(BadSetting, match="'a' stands 2 times"):
        checkpoint.save(model, tmp_path / "x.safetensors")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A small network, and its file."""
    model, path = create_model("mixer_p2_8", classes=["a", "b"], seed=0), tmp_path_factory.mktemp("flip") / "x"
    checkpoint.save(model, path)
    return model, path.read_bytes()


@settings(deadline=None, max_examples=80)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_bit_of_a_file_can_flip_unseen(place, bit, written, tmp_path_factory):
    """In a tensor, in what is said of it, or in the description: it is refused, or had no effect on anything."""
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    model, content = written[0], bytearray(written[1])
    start = struct.unpack("<Q", content[:8])[0]
    at = int(4 * place * start) if place < 0.5 else int(place * len(content))  # the description is short
    content[at % len(content)] ^= 1 << bit
    path.write_bytes(content)
    try:
        again = checkpoint.load(path)
    except BadCheckpoint:
        return
    assert (again.config, again.preprocess, again.classes) == (model.config, model.preprocess, model.classes)
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_damage_to_a_weight_is_told_as_such(model, tmp_path, dtype):
    checkpoint.save(model.to(dtype), tmp_path / "x.safetensors")
    content = bytearray((tmp_path / "x.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(BadCheckpoint, match="damaged: what it holds does not have the checksum") as error:
        checkpoint.load(tmp_path / "x.safetensors")
    assert "\n" not in str(error.value)


def test_a_file_without_a_checksum_loads_as_it_did(model, tmp_path):
    checkpoint.save(model, tmp_path / "x.safetensors")
    tensors, metadata = load_tensors(tmp_path / "x.safetensors")
    save_file(tensors, tmp_path / "old.safetensors", {"allmlp": metadata["allmlp"]})
    assert checkpoint.load(tmp_path / "old.safetensors").config == model.config


def test_the_checksum_is_that_of_an_independent_sum(tmp_path):
    """Written out by hand, for a tensor without axes, one without elements, and one of whole numbers."""
    tensors = {"b": torch.tensor(1.5), "a": torch.zeros(0, 3), "c": torch.tensor([1, 2], dtype=torch.int64)}
    save_tensors(tensors, tmp_path / "x", {"say": "ä\x1b"})
    whole = (b'[["say", "\\u00e4\\u001b"]]' b'["a", "torch.float32", [0, 3]]'
             b'["b", "torch.float32", []]' + struct.pack("<f", 1.5)
             + b'["c", "torch.int64", [2]]' + struct.pack("<qq", 1, 2))
    assert load_tensors(tmp_path / "x")[1] == {"say": "ä\x1b", "allmlp-crc32": f"{binascii.crc32(whole):08x}"}


def test_writing_where_one_may_not_is_one_line_and_leaves_nothing(model, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CannotWrite):
        checkpoint.save(model, tmp_path / "file" / "x.safetensors")
    assert sorted(os.listdir(tmp_path)) == ["file"]


@pytest.mark.parametrize("linked", ["model.safetensors", "config.json"])
def test_a_link_that_leads_out_of_a_folder_is_refused(tmp_path, linked):
    folder = tmp_path / "brought along"
    save_hub(create_model("mixer_p2_8", seed=0), folder)
    (folder / linked).rename(tmp_path / linked)
    (folder / linked).symlink_to(tmp_path / linked)
    with pytest.raises(BadCheckpoint, match="a link that leads out of its folder"):
        read_config(folder / linked) if linked == "config.json" else checkpoint.load(folder)
    checkpoint.load(tmp_path / "model.safetensors" if linked == "model.safetensors" else folder / "model.safetensors")


def test_links_inside_a_folder_and_those_of_the_hubs_cache_are_followed(tmp_path):
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    save_hub(create_model("mixer_p2_8", num_classes=10, seed=0), snapshot)
    blobs.mkdir()
    (snapshot / "model.safetensors").rename(blobs / "123")
    (snapshot / "model.safetensors").symlink_to("../../blobs/123")
    assert checkpoint.load(snapshot).num_classes == 10
    os.replace(blobs / "123", snapshot / "other.safetensors")
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to("other.safetensors")
    assert checkpoint.load(snapshot).num_classes == 10


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CannotWrite, match="a device or a pipe"):
        write_text_atomically(tmp_path / "pipe", "rows")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_is_not_a_place_for_a_file_also_as_a_dot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in (".", "..", str(tmp_path)):
        with pytest.raises(CannotWrite, match="a folder; choose another place"):
            write_text_atomically(place, "a,b")
    assert list(tmp_path.iterdir()) == []
