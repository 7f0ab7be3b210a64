"""A recipe: every number of an experiment. The recipe and the commit determine the run.

Any field can be set by its dotted name (`--set optimizer.weight_decay=0.05`). Fields hold what a person would
write down; what follows from data and machine (number of steps, classes, device) is worked out when training starts.
"""

from typing import Literal

import pydantic
from pydantic import Field

from allmlp.values import Value


class Affine(Value):
    """A random affine map per image, drawn uniformly: +-`degrees`, +-`translate` (of the side), 1 +- `scale`, +-`shear`
    (degrees). Done for a whole batch on the device, for images of one size (digits). `outside`: what comes in at the
    edges, the border's pixels repeated or black."""

    degrees: float = Field(default=0.0, ge=0, le=180)
    translate: float = Field(default=0.0, ge=0, le=1)
    scale: float = Field(default=0.0, ge=0, lt=1)
    shear: float = Field(default=0.0, ge=0, lt=90)
    outside: Literal["border", "black"] = "border"


class Augment(Value):
    """What is done to training images. Per image (torchvision transforms v2), then per batch."""

    random_resized_crop: tuple[float, float] | None = None  # area range, e.g. (0.05, 1.0); None: evaluation geometry
    horizontal_flip: float = Field(default=0.0, ge=0, le=1)  # probability; digits and text must not be flipped
    rand_augment: int = Field(default=0, ge=0)  # number of operations per image
    rand_augment_magnitude: int = Field(default=9, ge=0, le=30)  # torchvision's scale of 31 bins (not Google's 0..10)
    random_erasing: float = Field(default=0.0, ge=0, le=1)  # probability
    affine: Affine | None = None
    mixup: float = Field(default=0.0, ge=0)  # Beta(a, a); 0: off
    cutmix: float = Field(default=0.0, ge=0)
    cutmix_probability: float = Field(default=0.5, ge=0, le=1)  # of cutmix where both are on


class Optimizer(Value):
    """`weight_decay` is decoupled and multiplied by the learning rate (torch's AdamW); SGD adds it to the gradient.

    Decayed are tensors of two or more dimensions that carry a product (kernels): never biases, norms, LayerScale.
    """

    name: Literal["adamw", "adam", "sgd", "lamb"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)  # sgd only
    clip_norm: float | None = Field(default=1.0, gt=0)  # global norm of all gradients


class Schedule(Value):
    """Linear warm-up from 0, then decay to `final_factor` of the peak at the last step."""

    epochs: float = Field(default=100, gt=0)
    warmup_epochs: float = Field(default=5, ge=0)
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    final_factor: float = Field(default=0.0, ge=0, le=1)


class Loss(Value):
    """`softmax`: one class per image. `sigmoid`: each class for itself (one or several labels), summed over classes."""

    kind: Literal["softmax", "sigmoid"] = "softmax"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"  # balanced: N / (K * images of the class)


class Expected(Value):
    """What the recipe is known to reach, and how that is known."""

    accuracy: float | None = None  # percent
    spread: float | None = None  # standard deviation over seeds, points
    seeds: int = 0
    minutes: float | None = None
    hardware: str = ""
    source: str = ""


class Recipe(Value):
    """One training run, complete."""

    name: str
    model: str  # a name of `allmlp models`
    data: str = "digits"
    init: str | None = None  # a checkpoint whose weights training starts from; None: fresh weights
    image_size: tuple[int, int] | None = None  # None, here and below: the model's own
    crop_ratio: float | None = Field(default=None, gt=0, le=1)  # of evaluation images
    interpolation: Literal["bicubic", "bilinear", "nearest"] | None = None
    augment: Augment = Augment()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    batch_size: int = Field(default=128, ge=1, le=1_000_000)  # images per optimizer step
    gradient_accumulation: int = Field(default=1, ge=1)  # parts a batch is computed in
    stochastic_depth: float | None = Field(default=None, ge=0, lt=1)  # None: the model's own
    ema_decay: float | None = Field(default=None, gt=0, lt=1)  # moving average of the weights, evaluated and saved
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast
    freeze_backbone: bool = False  # a linear probe: only the head learns
    early_stopping_epochs: int | None = Field(default=None, ge=1)  # without a better validation accuracy
    seed: int = Field(default=0, ge=0, lt=2**63)
    expected: Expected | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by "
                             f"gradient_accumulation {self.gradient_accumulation}")
        if self.schedule.warmup_epochs >= self.schedule.epochs:
            raise ValueError(f"schedule: warmup_epochs {self.schedule.warmup_epochs:g} must be below "
                             f"epochs {self.schedule.epochs:g}")
        return self
