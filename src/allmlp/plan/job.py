"""What is to be planned: a training run as numbers, from a recipe or from the name of a network."""

from dataclasses import dataclass

from allmlp.data.loader import steps_per_epoch
from allmlp.errors import BadSetting
from allmlp.models.config import ModelConfig
from allmlp.plan.machines import Precision
from allmlp.recipe import Optimizer, Recipe, Schedule
from allmlp.train.optimizer import total_steps
from allmlp.train.start import network_config, with_head_for_pixels

# Training images and classes of what recipes name as data.
KNOWN = {"digits": (1_437, 10), "digit-scenes": (5_748, 10), "digit-masks": (2_000, 11),
         "imagenet": (1_281_167, 1_000), "imagenet21k": (14_197_122, 21_843)}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One training run. `views`: images that the network sees at a time for each image of a batch (DINO's crops);
    `repeats`: how often it learns from them in a step (SAM: twice); `answers`: further forward passes without gradient,
    of a teacher like it."""

    name: str
    config: ModelConfig
    images: int  # of an epoch
    steps_per_epoch: int
    steps: int  # of the whole training
    batch_size: int
    parts: int  # that a batch is computed in
    precision: Precision
    moments: int  # numbers per weight that the optimizer keeps
    average: bool
    views: int = 1
    repeats: int = 1
    answers: int = 0
    notes: tuple[str, ...] = ()

    @property
    def epochs(self) -> float:
        return self.steps / self.steps_per_epoch


def papers_recipe(model: str) -> Recipe:
    """How MLP-Mixer's Table 4 trains on ImageNet, for a network without a recipe of its own."""
    return Recipe(name=model, model=model, data="imagenet", optimizer=Optimizer(learning_rate=1e-3, weight_decay=0.1),
                  schedule=Schedule(epochs=300, warmup_epochs=30), batch_size=4096, precision="bf16")


def job_of(recipe: Recipe, images: int | None = None, classes: int | None = None) -> Job:
    """A recipe's run on `images` training images of `classes` classes (None: what the recipe's data is known to have).

    Raises `BadSetting` where the number of images is not known, and what `model_config` does.
    """
    known_images, known_classes = KNOWN.get(recipe.data.partition(":")[0], (None, None))
    images = images or known_images
    if images is None:
        raise BadSetting(f"how many training images has {recipe.data!r}? give --images N "
                         f"(known by name: {', '.join(KNOWN)})")
    if recipe.segmentation and not (classes or known_classes):
        raise BadSetting(f"how many classes do the masks of {recipe.data!r} have? give --classes N")
    config = with_head_for_pixels(network_config(recipe, classes or known_classes), recipe)
    notes = []
    if config.stem.kind == "convolutions":
        notes.append("a stem of convolutions: its operations are counted, what it keeps and writes is not")
    if recipe.segmentation:
        notes.append("segmentation: its head's weights and operations are counted, what it keeps and writes is not")
    if recipe.dino:
        notes.append("DINO: its projection head is not counted")
    if recipe.distillation:
        notes.append(f"distillation: the forward passes of the teacher {recipe.distillation.teacher} are not counted")
    if recipe.freeze_backbone:
        notes.append("only the head learns; counted as if all did")
    if recipe.early_stopping_epochs:
        notes.append("may stop earlier")
    per_epoch = steps_per_epoch(images, recipe.batch_size)
    return Job(recipe.name, config, images, per_epoch, total_steps(recipe.schedule, per_epoch), recipe.batch_size,
               recipe.gradient_accumulation, recipe.precision, 1 if recipe.optimizer.name == "sgd" else 2,
               recipe.ema_decay is not None, 2 + recipe.dino.local_crops if recipe.dino else 1,
               2 if recipe.optimizer.sam_rho else 1, 2 if recipe.dino else 0, tuple(notes))
