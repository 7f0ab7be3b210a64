"""A run that is stopped and resumed ends as one that was not, bit for bit."""

import json
import os
import resource
import signal
from dataclasses import replace

import pytest

from allmlp.errors import AllMLPError, BadCheckpoint, BadImage, BadSetting, CannotWrite
from allmlp.files import load_tensors
from allmlp.train import run_folder
from allmlp.train.display import SilentDisplay
from allmlp.train.loop import run


class StopAt(SilentDisplay):
    """Sends this process a signal when step `at` is done."""

    def __init__(self, at: int, number: signal.Signals = signal.SIGTERM):
        super().__init__()
        self.at, self.number = at, number

    def step(self, done, total, row):
        if done == self.at:
            os.kill(os.getpid(), self.number)


def state_of(folder):
    tensors, _ = load_tensors(folder / "state.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def metrics_of(folder):
    """Rows without what a clock decides."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")} for row in rows]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, digits):
    """One whole run to compare with, per optimizer."""
    made = {}

    def make(recipe):
        if recipe.optimizer.name not in made:
            made[recipe.optimizer.name] = tmp_path_factory.mktemp("whole")
            run(recipe, digits, made[recipe.optimizer.name])
        return made[recipe.optimizer.name]

    return make


@pytest.mark.parametrize("stops", [(1,), (4,), (6, 11)], ids=["first step", "end of an epoch", "twice inside epochs"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lamb"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, digits, recipe, uninterrupted, optimizer,
                                                                          stops):
    recipe = recipe.with_(optimizer=recipe.optimizer.with_(name=optimizer))
    whole = uninterrupted(recipe)
    for i, at in enumerate(stops):
        outcome = run(recipe, digits, tmp_path, resume=i > 0, display=StopAt(at))
        assert outcome.stopped == "SIGTERM"
        assert outcome.counters.step == at
    outcome = run(recipe, digits, tmp_path, resume=True)
    assert outcome.counters.finished
    assert state_of(tmp_path) == state_of(whole)
    assert metrics_of(tmp_path) == metrics_of(whole)
    for name in ("best.safetensors", "last.safetensors"):
        assert load_bytes(tmp_path / name) == load_bytes(whole / name)


def load_bytes(path):
    return {name: tensor.numpy().tobytes() for name, tensor in load_tensors(path)[0].items()}


def test_workers_do_not_change_the_run(tmp_path, digits, recipe, uninterrupted):
    recipe = recipe.with_(augment=recipe.augment.with_(random_erasing=0.3))  # random per image, so images are loaded
    for workers in (0, 2):
        run(recipe, digits, tmp_path / str(workers), workers=workers)
    assert state_of(tmp_path / "0") == state_of(tmp_path / "2")


def test_a_finished_run_resumed_stays_as_it_is(tmp_path, digits, recipe):
    run(recipe, digits, tmp_path)
    before = state_of(tmp_path)
    assert run(recipe, digits, tmp_path, resume=True).counters.finished
    assert state_of(tmp_path) == before


def test_a_time_limit_leaves_a_usable_model_and_a_run_that_can_go_on(tmp_path, digits, recipe, uninterrupted):
    outcome = run(recipe, digits, tmp_path, time_limit_minutes=1e-9)
    assert outcome.stopped == "time limit"
    assert (tmp_path / "best.safetensors").exists()
    run(recipe, digits, tmp_path, resume=True)
    assert state_of(tmp_path) == state_of(uninterrupted(recipe))


def test_a_run_is_not_mixed_with_another(tmp_path, digits, recipe):
    run(recipe, digits, tmp_path)
    with pytest.raises(BadSetting, match="holds a run already"):
        run(recipe, digits, tmp_path)
    run(recipe.with_(seed=6), digits, tmp_path, overwrite=True)


def test_overwriting_leaves_files_alone_that_are_no_part_of_a_run(tmp_path, digits, recipe):
    (tmp_path / "report.html").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadSetting, match="holds report.html and no run"):  # a run makes one of that name
        run(recipe, digits, tmp_path, overwrite=True)
    assert (tmp_path / "report.html").read_text() == "mine"
    (tmp_path / "report.html").unlink()
    for _ in range(2):
        run(recipe, digits, tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_nothing_to_resume_is_one_clear_line(tmp_path, digits, recipe):
    with pytest.raises(BadSetting, match="nothing to resume"):
        run(recipe, digits, tmp_path, resume=True)


@pytest.mark.parametrize("name,given,said", [
    ("threads", None, "threads' is None"), ("threads", ..., "threads' is missing"), ("threads", "2", "threads' is '2'"),
    ("threads", True, "'threads' is True"), ("threads", 0, "'threads' is 0"), ("device", ..., "'device' is missing"),
    ("machine", [], r"machine' is \[\]"), ("command", ..., "'command' is missing"),
])  # fmt: skip
def test_a_run_whose_description_lacks_what_going_on_takes_says_so_before_it_does(tmp_path, digits, recipe, name, given,
                                                                                  said):
    run_folder.write_start(tmp_path, recipe, digits, {"device": "cpu", "threads": 1})
    run_folder.prepare(tmp_path, recipe, resume=True, overwrite=False)
    about = json.loads((tmp_path / "run.json").read_text())
    about.pop(name) if given is ... else about.update({name: given})
    (tmp_path / "run.json").write_text(json.dumps(about))
    with pytest.raises(BadCheckpoint, match=rf"run.json: .*{said}, and a run goes on with .*; copy the run folder"):
        run(recipe, digits, tmp_path, resume=True)


def test_a_run_is_resumed_with_its_own_recipe_only(tmp_path, digits, recipe):
    run(recipe, digits, tmp_path, display=StopAt(2))
    with pytest.raises(BadSetting, match="another recipe"):
        run(recipe.with_(model="resmlp_p2_8"), digits, tmp_path, resume=True)


def test_a_state_of_another_network_is_refused(tmp_path, digits, recipe):
    for name in ("mixer_p2_8", "resmlp_p2_8"):
        run(recipe.with_(model=name), digits, tmp_path / name, display=StopAt(2))
    (tmp_path / "resmlp_p2_8" / "state.safetensors").replace(tmp_path / "mixer_p2_8" / "state.safetensors")
    with pytest.raises(BadCheckpoint, match="do not fit"):
        run(recipe, digits, tmp_path / "mixer_p2_8", resume=True)


def test_a_run_goes_on_without_the_file_it_started_from(tmp_path, digits, recipe):
    run(recipe, digits, tmp_path / "first")
    recipe = recipe.with_(init=str(tmp_path / "first" / "last.safetensors"))
    run(recipe, digits, tmp_path / "whole")
    run(recipe, digits, tmp_path / "second", display=StopAt(5))
    (tmp_path / "first" / "last.safetensors").unlink()
    run(recipe, digits, tmp_path / "second", resume=True)
    assert state_of(tmp_path / "second") == state_of(tmp_path / "whole")


class FullDiskAt(SilentDisplay):
    """From step `at` on no file can grow beyond `most_bytes`: too little for a state (the largest file), or for any."""

    def __init__(self, at: int, most_bytes: int):
        super().__init__()
        self.at, self.most_bytes = at, most_bytes

    def step(self, done, total, row):
        if done == self.at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.most_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize("most_bytes", [400_000, 0], ids=["the state does not fit", "nothing fits"])
def test_a_full_disk_ends_the_run_in_one_line_and_costs_nothing_that_was_saved(tmp_path, digits, recipe, uninterrupted,
                                                                               most_bytes):
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(CannotWrite, match=r"the earlier file is untouched"):
            run(recipe, digits, tmp_path, save_every_seconds=0, display=FullDiskAt(6, most_bytes))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.glob(".*.tmp"))
    assert run(recipe, digits, tmp_path, resume=True).counters.finished
    assert state_of(tmp_path) == state_of(uninterrupted(recipe))


@pytest.mark.parametrize("old", [("state",), ("state", "last"), ("state", "last", "best")])
def test_a_run_killed_between_two_files_goes_on_from_its_state_alone(tmp_path, digits, recipe, uninterrupted, old):
    """Files of step 6 beside files of step 10: each is whole, and they are not of one moment."""
    run(recipe, digits, tmp_path, display=StopAt(6))
    kept = {name: (tmp_path / f"{name}.safetensors").read_bytes() for name in old}
    run(recipe, digits, tmp_path, resume=True, display=StopAt(10))
    for name, content in kept.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    (tmp_path / ".state.safetensors.0a1b2c3d.tmp").write_bytes(b"half a st")  # what it was writing
    run(recipe, digits, tmp_path, resume=True)
    whole = uninterrupted(recipe)
    assert state_of(tmp_path) == state_of(whole)
    assert metrics_of(tmp_path) == metrics_of(whole)
    for name in ("best.safetensors", "last.safetensors"):
        assert load_bytes(tmp_path / name) == load_bytes(whole / name)
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_run_killed_before_it_first_saved_begins_again(tmp_path, digits, recipe, uninterrupted):
    run(recipe, digits, tmp_path, display=StopAt(1))
    for name in ("state", "last", "best"):
        (tmp_path / f"{name}.safetensors").unlink(missing_ok=True)
    run(recipe, digits, tmp_path, resume=True)
    assert state_of(tmp_path) == state_of(uninterrupted(recipe))


def test_an_image_that_cannot_be_read_any_more_costs_no_step(tmp_path, digits, recipe, uninterrupted):
    """What was learnt before is saved, and with the image back the run ends as if nothing had been."""
    recipe = recipe.with_(augment=recipe.augment.with_(random_erasing=0.3))  # so that images are read in each epoch

    class Fragile:
        def __init__(self, dataset):
            self.dataset, self.classes, self.labels, self.left = dataset, dataset.classes, dataset.labels, 230

        def __len__(self):
            return len(self.dataset)

        def image(self, index):
            self.left -= 1
            if self.left == 0:
                raise BadImage(f"{self.name(index)}: broken")
            return self.dataset.image(index)

        def name(self, index):
            return self.dataset.name(index)

    fragile = replace(digits, splits={**digits.splits, "train": Fragile(digits.splits["train"])})
    with pytest.raises(BadImage, match="digits/"):
        run(recipe, fragile, tmp_path / "run")
    saved = json.loads(load_tensors(tmp_path / "run" / "state.safetensors")[1]["allmlp-run"])
    assert saved["step"] == 7  # inside the second epoch, in which it broke
    run(recipe, fragile, tmp_path / "run", resume=True)
    run(recipe, digits, tmp_path / "whole")
    assert state_of(tmp_path / "run") == state_of(tmp_path / "whole")


def test_a_truncated_state_is_refused(tmp_path, digits, recipe):
    run(recipe, digits, tmp_path, display=StopAt(2))
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AllMLPError, match="truncated"):
        run(recipe, digits, tmp_path, resume=True)
