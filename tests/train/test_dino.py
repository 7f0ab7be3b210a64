"""DINO against its definition written out, and a run that is stopped, resumed, measured and used."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import allmlp
from allmlp.backends import load_features, load_predictor
from allmlp.cli import main
from allmlp.data.digits import open_digits
from allmlp.errors import BadCheckpoint, BadSetting
from allmlp.evaluate import evaluate_dataset
from allmlp.evaluate.knn import knn_predictor
from allmlp.files import load_tensors
from allmlp.models.variants import create_model
from allmlp.recipe import Augment, Dino, Optimizer, Schedule
from allmlp.testing import randomise
from allmlp.train.dino import DinoHead, DinoObjective, dino_loss, momentum_at
from allmlp.train.loop import run

CLOSE = 1e-5  # float32 sums of some dozen terms of size one
SMALL = Dino(out_dim=24, head_hidden=20, bottleneck=6, local_crops=2, local_image_size=None, colour=False,
             teacher_temperature=(0.04, 0.07), teacher_temperature_warmup_epochs=3, teacher_momentum=0.9)
CPU = torch.device("cpu")


@pytest.fixture
def dino_recipe(recipe):
    """Accumulation, stochastic depth, affine maps of each view, a decay that rises; no average beside."""
    return recipe.with_(dino=SMALL, augment=Augment(affine=recipe.augment.affine), ema_decay=None,
                        optimizer=Optimizer(learning_rate=2e-3, weight_decay=0.04, weight_decay_end=0.4),
                        schedule=Schedule(epochs=1.25, warmup_epochs=0.5))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def written_out(student: np.ndarray, teacher: np.ndarray, centre: np.ndarray, low: float, high: float) -> float:
    """Pairs in loops, as in the paper's Algorithm 1 with multi-crop (main_dino.py's DINOLoss)."""
    losses = []
    for g, target in enumerate(teacher):
        for v, view in enumerate(student):
            if v != g:
                losses.append(-(softmax((target - centre) / low) * np.log(softmax(view / high))).sum(-1).mean())
    return sum(losses) / len(losses)


@pytest.mark.parametrize("views", [2, 5])
def test_the_loss_is_the_definition(views):
    draws = np.random.default_rng(0)
    student, teacher = draws.normal(size=(views, 4, 7)), draws.normal(size=(2, 4, 7))
    centre = draws.normal(size=7)
    found = dino_loss(torch.tensor(student), torch.tensor(teacher), torch.tensor(centre), 0.1, 0.04)
    assert abs(found.item() - written_out(student, teacher, centre, 0.04, 0.1)) < 1e-9


def test_the_head_is_dinos_with_weight_normalised_prototypes():
    """The oracle: torch's own weight norm with gain 1 after the same layers (DINOHead)."""
    head = DinoHead(5, SMALL.with_(head_layers=2), torch.Generator().manual_seed(0))
    randomise(head)
    last = weight_norm(nn.Linear(6, 24, bias=False))
    last.parametrizations.weight.original0.data.fill_(1)
    last.parametrizations.weight.original1.data.copy_(head.prototypes.weight)
    x = torch.randn(3, 5)
    middle = nn.functional.gelu(x @ head.mlp[0].weight.T + head.mlp[0].bias) @ head.mlp[2].weight.T + head.mlp[2].bias
    expected = last(middle / middle.norm(dim=1, keepdim=True))
    assert (head(x) - expected).abs().max() < CLOSE
    learnt = DinoHead(5, SMALL.with_(normalise_last_layer=False))
    randomise(learnt)
    assert (learnt(x) - without_gain(learnt)(x) * learnt.gain).abs().max() < CLOSE


def without_gain(head: DinoHead) -> DinoHead:
    plain = copy.deepcopy(head)
    plain.gain = None
    return plain


def test_two_steps_move_teacher_centre_and_temperature_as_written_out(dino_recipe):
    model = create_model("mixer_p2_8", num_classes=10, seed=0)
    recipe = dino_recipe.with_(schedule=Schedule(epochs=2, warmup_epochs=0.5))
    objective = DinoObjective(recipe, model, 2, CPU)  # 2 steps an epoch, 4 in all
    randomise(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    teacher, centre = copy.deepcopy(objective.teacher), np.zeros(24)
    pixels = torch.rand(6, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    inputs = (pixels / 255 - 0.5) / 0.5
    for step, temperature in enumerate((0.04, 0.04, 0.055)):
        with torch.no_grad():
            says = np.stack([teacher(inputs[:, g]).numpy() for g in range(2)])
            student = np.stack([model(inputs[:, v]).numpy() for v in range(4)])
        loss = objective.loss(model, pixels, torch.zeros(6, 10), step)
        assert abs(loss.item() - written_out(student, says, centre, temperature, 0.1)) < CLOSE
        loss.backward()
        frozen = step < 2  # the first epoch
        assert bool(model.head.prototypes.weight.grad.any()) != frozen
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step(model, step)

        centre = 0.9 * centre + 0.1 * says.mean((0, 1))
        momentum = 1 + 0.5 * (0.9 - 1) * (1 + np.cos(np.pi * step / 4))  # main_dino.py's cosine_scheduler
        for mine, of_student in zip(teacher.parameters(), model.parameters(), strict=True):
            mine.data = momentum * mine.data + (1 - momentum) * of_student.data
        assert np.abs(objective.centre.numpy() - centre).max() < CLOSE
        for mine, theirs in zip(teacher.parameters(), objective.teacher.parameters(), strict=True):
            assert (mine - theirs).abs().max() < CLOSE


def test_the_teacher_ends_almost_still():
    momenta = [momentum_at(0.996, step, 100) for step in range(100)]
    assert momenta[0] == 0.996
    assert momenta == sorted(momenta)
    assert 0.99999 < momenta[-1] < 1


def test_parts_of_a_batch_move_the_centre_like_the_whole(dino_recipe):
    pixels = torch.rand(6, 4, 3, 8, 8) * 255
    centres = []
    for parts in (1, 2):
        objective = DinoObjective(dino_recipe, create_model("mixer_p2_8", num_classes=10, seed=0), 2, CPU)
        for part in range(parts):
            objective.loss(objective.teacher, pixels[part::parts], torch.zeros(6, 10), 0)
        objective.after_step(objective.teacher, 0)
        centres.append(objective.centre)
    assert centres[0].any()
    assert (centres[0] - centres[1]).abs().max() < CLOSE


def bytes_of(file):
    return {name: tensor.numpy().tobytes() for name, tensor in load_tensors(file)[0].items()}


def test_a_run_stopped_after_every_step_equals_an_uninterrupted_one_bit_for_bit(tmp_path, digits, dino_recipe):
    run(dino_recipe, digits, tmp_path / "whole")
    for step in range(5):
        outcome = run(dino_recipe, digits, tmp_path / "parts", resume=step > 0, time_limit_minutes=0)
        assert (outcome.counters.step, outcome.counters.finished) == (step + 1, step == 4)
    for name in ("state.safetensors", "best.safetensors", "last.safetensors"):
        assert bytes_of(tmp_path / "parts" / name) == bytes_of(tmp_path / "whole" / name)
    assert "objective/centre" in bytes_of(tmp_path / "whole" / "state.safetensors")


@pytest.fixture(scope="module")
def learnt(tmp_path_factory, digits):
    """A run of the recipe, as a person starts it, cut short."""
    folder = tmp_path_factory.mktemp("dino") / "run"
    arguments = ["train", "digits", "--recipe", "digits_dino", "--epochs", "1", "--output", str(folder), "--quiet"]
    smaller = ["--set", "dino.local_crops=0", "--set", "dino.out_dim=32", "--batch-size", "512"]
    assert main([*arguments, *smaller]) == 0
    return folder


def test_a_run_ends_with_the_teachers_backbone_which_every_command_takes(learnt, tmp_path, capsys, digits):
    model = allmlp.load(str(learnt))
    assert (model.num_classes, model.classes) == (0, None)
    tensors, _ = load_tensors(learnt / "state.safetensors")
    assert all(torch.equal(tensor, tensors[f"objective/teacher/{name}"]) for name, tensor in model.state_dict().items())

    capsys.readouterr()
    for option in (["--knn", "20"], ["--linear-probe"]):
        assert main(["evaluate", str(learnt), "digits", "--json", *option]) == 0
        assert json.loads(capsys.readouterr().out)["top1_percent"] > 60  # even features of fresh weights reach that
    reported = json.loads((learnt / "results.json").read_text())["splits"]["test"]
    assert reported["score_name"] == "k-NN accuracy"
    features = load_features(learnt, "cpu")
    train, test = (open_digits().splits[split] for split in ("train", "test"))
    found = evaluate_dataset(knn_predictor(features, train, 20), test)
    assert found.score_percent == reported["score_percent"]

    assert main(["train", "digits", "--init", str(learnt), "--epochs", "1", "--output", str(tmp_path / "tuned"),
                 "--quiet"]) == 0
    assert allmlp.load(str(tmp_path / "tuned")).classes == tuple("0123456789")


def test_a_network_without_classes_says_how_to_measure_it(learnt, capsys):
    with pytest.raises(BadSetting, match="without classes"):
        load_predictor(learnt)
    assert main(["evaluate", str(learnt), "digits"]) == 2
    assert "--knn 20" in capsys.readouterr().err


@pytest.mark.parametrize("changes,text", [({"ema_decay": 0.9}, "ema_decay"), ({"freeze_backbone": True}, "freeze")])
def test_settings_that_do_not_go_with_dino_are_refused(dino_recipe, changes, text):
    with pytest.raises(BadSetting, match=text):
        DinoObjective(dino_recipe.with_(**changes), create_model("mixer_p2_8", num_classes=10), 2, CPU)


def test_the_state_of_another_recipe_is_refused(dino_recipe):
    objective = DinoObjective(dino_recipe, create_model("mixer_p2_8", num_classes=10), 2, CPU)
    with pytest.raises(BadCheckpoint, match="missing centre"):
        objective.load({name: tensor for name, tensor in objective.tensors().items() if name != "centre"})
