"""Our checkpoint: complete, exact, written atomically, and not to be fooled."""

import json
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allmlp import checkpoint
from allmlp.errors import BadCheckpoint, CannotWrite
from allmlp.files import load_tensors, save_tensors
from allmlp.models.variants import create_model
from allmlp.preprocess import Preprocess


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


def test_writing_where_one_may_not_is_one_line_and_leaves_nothing(model, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CannotWrite):
        checkpoint.save(model, tmp_path / "file" / "x.safetensors")
    assert sorted(os.listdir(tmp_path)) == ["file"]
