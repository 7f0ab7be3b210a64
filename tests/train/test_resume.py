"""A run that is stopped and resumed ends as one that was not, bit for bit."""

import os
import signal

import pytest

from allmlp.errors import AllMLPError, BadCheckpoint, BadSetting
from allmlp.files import load_tensors
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
    import json

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
    run(recipe, digits, tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "report.html").read_text() == "mine"  # the loop writes no report, and it was not a run's


def test_nothing_to_resume_is_one_clear_line(tmp_path, digits, recipe):
    with pytest.raises(BadSetting, match="nothing to resume"):
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


def test_a_truncated_state_is_refused(tmp_path, digits, recipe):
    run(recipe, digits, tmp_path, display=StopAt(2))
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AllMLPError, match="truncated"):
        run(recipe, digits, tmp_path, resume=True)
