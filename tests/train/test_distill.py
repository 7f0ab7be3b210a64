"""Distillation against DeiT's equations written out, with teachers of ours and of timm."""

import copy

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from allmlp import checkpoint
from allmlp.data.batch import mixup
from allmlp.errors import AllMLPError, BadCheckpoint, BadData, BadSetting, UnknownName
from allmlp.files import load_tensors, save_tensors
from allmlp.models.variants import create_model
from allmlp.preprocess import Preprocess
from allmlp.recipe import Distillation, Loss
from allmlp.testing import randomise
from allmlp.train.distill import Distilled
from allmlp.train.loop import run
from allmlp.train.losses import build_loss, to_targets
from allmlp.train.objective import build_objective
from allmlp.train.teacher import Teacher, open_teacher, resized

CLOSE = 1e-5  # float32 logits of a few units, sums of ten terms
ROUNDED = 1.5  # of 255: PIL rounds after each of the two axes
CPU = torch.device("cpu")
CLASSES = tuple("0123456789")
SMALL = "test_resnet.r160_in1k"  # timm's ResNet for tests, 0.5 million parameters


def network(seed: int, **fields):
    model = create_model("mixer_p2_8", classes=CLASSES, seed=0, **fields)
    randomise(model, seed)
    return model.eval()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def batch(count: int = 6) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 255


@pytest.mark.parametrize("kind,temperature", [("hard", 1.0), ("soft", 1.0), ("soft", 3.0)])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_loss_is_deits_equation_also_for_mixed_labels(kind, temperature, alpha):
    student, teacher, preprocess = network(1), network(2), Preprocess(image_size=(8, 8))
    pixels, targets = mixup(batch(), to_targets(torch.arange(6), 10), 0.7)
    settings = Distillation(kind=kind, alpha=alpha, temperature=temperature)
    loss_of = build_loss(Loss(label_smoothing=0.1), np.arange(10), 10, CPU)
    objective = Distilled(preprocess, loss_of, Teacher(teacher, preprocess, torch.arange(10)), settings)
    found = objective.loss(student, pixels, targets, step=0)

    with torch.no_grad():
        z, z_teacher = (net((pixels / 255 - 0.5) / 0.5).numpy().astype(np.float64) for net in (student, teacher))
    smooth = 0.9 * targets.numpy() + 0.1 / 10
    labels = -(smooth * log_softmax(z)).sum(1).mean()
    if kind == "hard":
        learnt = -log_softmax(z)[np.arange(6), z_teacher.argmax(1)].mean()
    else:
        log_p = log_softmax(z_teacher / temperature)
        divergence = (np.exp(log_p) * (log_p - log_softmax(z / temperature))).sum(1).mean()
        learnt = temperature**2 * divergence
    assert abs(found.item() - ((1 - alpha) * labels + alpha * learnt)) < CLOSE
    found.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_teacher_of_ours_answers_in_the_order_of_the_datas_classes(tmp_path):
    teacher = network(1)
    teacher.classes = tuple(reversed(CLASSES))
    checkpoint.save(teacher, tmp_path / "teacher.safetensors")
    opened = open_teacher(Distillation(teacher=str(tmp_path / "teacher.safetensors")), CLASSES, CPU)
    with torch.no_grad():
        expected = teacher((batch() / 255 - 0.5) / 0.5).flip(1)
    assert torch.equal(opened(batch()), expected)
    assert not opened.network.training
    assert not any(parameter.requires_grad for parameter in opened.network.parameters())


def test_a_teacher_sees_the_students_pixels_at_its_own_size_and_normalisation(tmp_path):
    """Pixels of one colour stay so at any size, which tells what the network is given."""
    save_tensors(timm.create_model(SMALL, num_classes=10).state_dict(), tmp_path / "resnet.safetensors", {})
    settings = Distillation(teacher=SMALL, teacher_weights=str(tmp_path / "resnet.safetensors"))
    opened = open_teacher(settings, CLASSES, CPU)
    given = []
    opened.network.register_forward_pre_hook(lambda _module, inputs: given.append(inputs[0]))
    opened(torch.full((2, 3, 8, 8), 51.0))
    config = timm.get_pretrained_cfg(SMALL)
    expected = (0.2 - torch.tensor(config.mean)) / torch.tensor(config.std)
    assert given[0].shape == (2, *config.input_size)
    assert (given[0] - expected.view(1, 3, 1, 1)).abs().max() < CLOSE

    opened = open_teacher(settings.with_(teacher_image_size=(16, 24)), CLASSES, CPU)
    opened.network.register_forward_pre_hook(lambda _module, inputs: given.append(inputs[0]))
    opened(batch())
    assert given[1].shape == (6, 3, 16, 24)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(16, 24), (5, 7)])
def test_pixels_are_resized_as_pil_does(size, interpolation):
    """Away from black and white: there PIL cuts what overshoots after each axis, we do once."""
    image = np.random.default_rng(0).integers(80, 170, (11, 9, 3), np.uint8)
    expected = Image.fromarray(image).resize(size[::-1], Image.Resampling[interpolation.upper()])
    found = resized(torch.from_numpy(image).permute(2, 0, 1)[None].float(), size, interpolation)
    assert np.abs(found[0].permute(1, 2, 0).numpy() - np.asarray(expected)).max() <= ROUNDED


@pytest.mark.parametrize("container", ["safetensors", "pth"])
def test_a_teacher_from_a_file_of_timms_weights_answers_as_that_network(tmp_path, container):
    network = timm.create_model(SMALL, num_classes=10).eval()
    file = tmp_path / f"teacher.{container}"
    if container == "pth":
        torch.save({"state_dict": network.state_dict()}, file)
    else:
        save_tensors(network.state_dict(), file, {})
    settings = Distillation(teacher=SMALL, teacher_weights=str(file), teacher_image_size=(8, 8))
    opened = open_teacher(settings, CLASSES, CPU)
    config = timm.get_pretrained_cfg(SMALL)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    with torch.no_grad():
        assert (opened(batch()) - network((batch() / 255 - mean) / std)).abs().max() < CLOSE


class Code:
    def __reduce__(self):
        return print, ("run",)


def test_what_is_no_teacher_for_the_data_is_refused_in_one_line(tmp_path, capsys):
    resnet = timm.create_model(SMALL, num_classes=7)
    save_tensors(resnet.state_dict(), tmp_path / "seven.safetensors", {})
    torch.save({"state_dict": {"conv1.weight": Code()}}, tmp_path / "code.pth")
    other = create_model("mixer_p2_8", classes=list("abcdefghij"))
    checkpoint.save(other, tmp_path / "letters.safetensors")
    nameless = create_model("mixer_p2_8", num_classes=7)
    checkpoint.save(nameless, tmp_path / "nameless.safetensors")
    refused: list[tuple[type[AllMLPError], str, dict]] = [
        (BadSetting, "knows 7 classes, and the data has 10", {"teacher_weights": str(tmp_path / "seven.safetensors")}),
        (BadCheckpoint, "", {"teacher_weights": str(tmp_path / "code.pth")}),
        (BadCheckpoint, "", {"teacher_weights": str(tmp_path / "missing.pth")}),
        (BadCheckpoint, "weights of timm's", {"teacher_weights": str(tmp_path / "letters.safetensors")}),
        (BadSetting, "knows 1,000 classes, and the data has 10", {}),
        (BadData, "does not know: '0'", {"teacher": str(tmp_path / "letters.safetensors")}),
        (BadSetting, "knows 7 classes", {"teacher": str(tmp_path / "nameless.safetensors")}),
        (UnknownName, "unknown teacher 'regnety_16'", {"teacher": "regnety_16"}),
    ]
    for kind, text, settings in refused:
        with pytest.raises(kind) as caught:
            open_teacher(Distillation(**{"teacher": SMALL, **settings}), CLASSES, CPU)
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_distillation_is_for_one_class_per_image(digits, recipe):
    recipe = recipe.with_(distillation=Distillation(teacher="unread"), loss=Loss(kind="sigmoid"))
    with pytest.raises(BadSetting, match="one class per image"):
        build_objective(recipe, digits, create_model("mixer_p2_8", num_classes=10), CPU)


def test_a_run_learns_from_its_teacher_and_keeps_nothing_of_it(tmp_path, digits, recipe):
    """With alpha 1 labels say nothing: a teacher that always answers 7 makes a student that does."""
    teacher = network(1)
    with torch.no_grad():
        teacher.head.bias[7] = 1000
    checkpoint.save(teacher, tmp_path / "teacher.safetensors")
    before = copy.deepcopy(teacher.state_dict())
    settings = Distillation(teacher=str(tmp_path / "teacher.safetensors"), alpha=1.0)
    outcome = run(recipe.with_(distillation=settings), digits, tmp_path / "run", device="cpu")
    with torch.no_grad():
        assert (outcome.model((batch() / 255 - 0.5) / 0.5).argmax(1) == 7).all()
    names = load_tensors(tmp_path / "run" / "state.safetensors")[0]
    assert not any(name.startswith("objective/") for name in names)
    assert {name for name in names if name.startswith("model/")} == {f"model/{name}" for name in before}
