"""The training loop: what it learns, keeps, and refuses."""

import json

import numpy as np
import pytest
import torch

from allmlp import checkpoint
from allmlp.errors import BadSetting, TrainingStopped
from allmlp.files import load_tensors
from allmlp.recipe import Augment
from allmlp.train.engine import Engine
from allmlp.train.loop import run
from allmlp.train.start import starting_model

PARTS_TOLERANCE = 2e-6  # float32 sums in another order, through 12 steps; SGD, as Adam divides noise by noise


def test_it_learns(tmp_path, digits, recipe):
    outcome = run(recipe.with_(schedule=recipe.schedule.with_(epochs=25), augment=Augment()), digits, tmp_path)
    assert outcome.counters.best_score is not None
    assert outcome.counters.best_score > 60  # 10 % by chance; 100 images


def test_the_best_epoch_is_the_one_with_the_highest_validation_accuracy(tmp_path, digits, recipe):
    outcome = run(recipe.with_(schedule=recipe.schedule.with_(epochs=6)), digits, tmp_path)
    scores = [row["eval_score"] for row in outcome.counters.history]
    assert outcome.counters.best_epoch == 1 + scores.index(max(scores))
    about = checkpoint.provenance(tmp_path / "best.safetensors")
    assert about["eval_score"] == max(scores)


def test_without_a_validation_split_the_last_epoch_is_the_best(tmp_path, digits, recipe):
    from dataclasses import replace

    data = replace(digits, splits={"train": digits.splits["train"], "test": digits.splits["val"]})
    outcome = run(recipe, data, tmp_path)
    best, last = (checkpoint.load(tmp_path / f"{name}.safetensors").state_dict() for name in ("best", "last"))
    assert all(torch.equal(best[name], last[name]) for name in last)
    assert outcome.counters.best_epoch == 3
    assert "eval_score" in outcome.counters.history[-1]  # watched all the same


def test_gradient_accumulation_does_not_change_the_step(tmp_path, digits, recipe):
    recipe = recipe.with_(stochastic_depth=0.0, optimizer=recipe.optimizer.with_(name="sgd", learning_rate=0.01))
    weights = []
    for parts in (1, 4):
        run(recipe.with_(gradient_accumulation=parts), digits, tmp_path / str(parts))
        weights.append(checkpoint.load(tmp_path / str(parts) / "last.safetensors").state_dict())
    largest = max((weights[0][name] - weights[1][name]).abs().max().item() for name in weights[0])
    assert largest < PARTS_TOLERANCE


def test_activation_checkpointing_changes_nothing(tmp_path, digits, recipe):
    states = []
    for on in (False, True):
        run(recipe, digits, tmp_path / str(on), engine=Engine(activation_checkpointing=on))
        states.append(load_tensors(tmp_path / str(on) / "state.safetensors")[0])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, from inside the compiler
def test_compiling_changes_no_more_than_the_order_of_sums(tmp_path, digits, recipe):
    recipe = recipe.with_(stochastic_depth=0.0)  # the compiler draws random numbers of its own
    losses = [run(recipe, digits, tmp_path / str(on), engine=Engine(compile=on)).counters.history[-1]["train_loss"]
              for on in (False, True)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)  # Adam divides noise by noise


def test_freezing_the_backbone_moves_the_head_only(tmp_path, digits, recipe):
    before = starting_model(recipe, digits).state_dict()
    run(recipe.with_(freeze_backbone=True, ema_decay=None), digits, tmp_path)
    after = checkpoint.load(tmp_path / "last.safetensors").state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"head.weight", "head.bias"}


def test_bf16_trains_to_nearly_the_same_loss(tmp_path, digits, recipe):
    losses = [run(recipe.with_(precision=precision), digits, tmp_path / precision).counters.history[-1]["train_loss"]
              for precision in ("fp32", "bf16")]
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    assert losses[1] != losses[0]


def test_early_stopping_stops_after_epochs_without_progress(tmp_path, digits, recipe):
    recipe = recipe.with_(early_stopping_epochs=2, schedule=recipe.schedule.with_(epochs=50),
                          optimizer=recipe.optimizer.with_(learning_rate=1e-9))
    outcome = run(recipe, digits, tmp_path)
    assert outcome.finished_by == "early stopping"
    assert len(outcome.counters.history) == outcome.counters.best_epoch + 2


def test_early_stopping_without_validation_split_is_refused(tmp_path, digits, recipe):
    from dataclasses import replace

    data = replace(digits, splits={"train": digits.splits["train"]})
    with pytest.raises(BadSetting, match="validation split"):
        run(recipe.with_(early_stopping_epochs=2), data, tmp_path)


def test_a_non_finite_loss_stops_with_the_step_named_and_the_last_good_checkpoint_kept(tmp_path, digits, recipe):
    recipe = recipe.with_(optimizer=recipe.optimizer.with_(learning_rate=1e30, clip_norm=None), ema_decay=None)
    with pytest.raises(TrainingStopped, match=r"became (nan|inf) at step \d+ \(epoch \d\)"):
        run(recipe, digits, tmp_path)
    names = (tmp_path / "non_finite_batch.txt").read_text().splitlines()
    assert names
    assert all(name.startswith("digits/") for name in names)


def test_weights_of_another_run_are_a_start_and_the_head_stays_when_the_classes_are_the_same(tmp_path, digits, recipe):
    run(recipe, digits, tmp_path / "first")
    first = checkpoint.load(tmp_path / "first").state_dict()
    again = starting_model(recipe.with_(init=str(tmp_path / "first")), digits).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_new_head_is_made_for_other_classes(tmp_path, digits, recipe):
    from dataclasses import replace

    run(recipe, digits, tmp_path / "first")
    other = replace(digits, classes=tuple("abcdefghijkl"))
    model = starting_model(recipe.with_(init=str(tmp_path / "first")), other)
    assert model.classes == tuple("abcdefghijkl")
    assert model.config.num_classes == 12
    first = checkpoint.load(tmp_path / "first").state_dict()
    assert torch.equal(model.state_dict()["stem.proj.weight"], first["stem.proj.weight"])


def test_the_run_folder_says_what_was_done(tmp_path, digits, recipe):
    run(recipe, digits, tmp_path)
    about = json.loads((tmp_path / "run.json").read_text())
    assert about["images"] == {"train": 100, "val": 50}
    assert about["machine"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    header, *rows = (tmp_path / "summary.csv").read_text().splitlines()
    assert header == "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr"
    assert len(rows) == 3
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_several_labels_per_image_are_learnt_with_sigmoid(tmp_path, digits, recipe):
    from dataclasses import replace

    class SeveralLabels:
        """Each digit is also "even" or "odd" and "small" or "large"."""

        classes = ("even", "large", "odd", "small")

        def __init__(self, dataset):
            self.dataset = dataset
            even, large = dataset.labels % 2 == 0, dataset.labels > 4
            self.labels = np.stack([even, large, ~even, ~large], 1).astype(np.uint8)

        def __len__(self):
            return len(self.labels)

        def image(self, index):
            return self.dataset.image(index)

        def name(self, index):
            return self.dataset.name(index)

    splits = {name: SeveralLabels(dataset) for name, dataset in digits.splits.items()}
    data = replace(digits, classes=SeveralLabels.classes, splits=splits)
    with pytest.raises(BadSetting, match="several labels"):
        run(recipe, data, tmp_path / "softmax")
    recipe = recipe.with_(loss=recipe.loss.with_(kind="sigmoid"), schedule=recipe.schedule.with_(epochs=20),
                          augment=Augment())
    outcome = run(recipe, data, tmp_path / "sigmoid")
    assert outcome.model.output == "sigmoid"
    assert outcome.counters.best_score is not None
    assert outcome.counters.best_score > 70  # mean average precision; about 50 by chance
