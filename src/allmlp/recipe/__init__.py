"""A recipe: every number of an experiment. The recipe and the commit determine the run.

Any field can be set by its dotted name (`--set optimizer.weight_decay=0.05`). Fields hold what a person would
write down; what follows from data and machine (number of steps, classes, device) is worked out when training starts.
"""

from typing import Any, Literal

import pydantic
from pydantic import Field

from allmlp.recipe.augment import Affine as Affine
from allmlp.recipe.augment import Augment as Augment
from allmlp.recipe.learning import Loss as Loss
from allmlp.recipe.learning import Optimizer as Optimizer
from allmlp.recipe.learning import Schedule as Schedule
from allmlp.recipe.segmenting import Segmentation as Segmentation
from allmlp.recipe.teaching import Dino as Dino
from allmlp.recipe.teaching import Distillation as Distillation
from allmlp.values import Value


class Expected(Value):
    """What the recipe is known to reach, and how that is known."""

    accuracy: float | None = None  # percent
    spread: float | None = None  # standard deviation over seeds, points
    seeds: int = 0
    minutes: float | None = None
    hardware: str = ""
    source: str = ""
    measured: bool = True  # by us; False: published by others, not repeated here


class Recipe(Value):
    """One training run, complete."""

    name: str
    model: str  # a name of `allmlp models`; where `network` is given, what that is called
    # The config of a network without a name, as plain JSON: a recipe is read without knowing networks.
    network: dict[str, Any] | None = Field(default=None, exclude_if=lambda network: network is None)
    data: str = "digits"
    init: str | None = None  # a checkpoint whose weights training starts from; None: fresh weights
    # How the weights of `init` come to `image_size` (see models.resize); "block" is MLP-Mixer's App. C.
    init_resize: Literal["auto", "block", "nearest", "bilinear", "bicubic", "area", "least_squares"] = "auto"
    image_size: tuple[int, int] | None = None  # None, here and below: the model's own
    resize: Literal["shorter", "squash_crop", "squash"] | None = None  # of evaluation images (see preprocess)
    crop_ratio: float | None = Field(default=None, gt=0, le=1)  # of evaluation images
    interpolation: Literal["bicubic", "bilinear", "nearest"] | None = None
    augment: Augment = Augment()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    distillation: Distillation | None = None
    dino: Dino | None = None
    # A class for every pixel; None: for the whole image. Left out of JSON where it is, as older recipes have none.
    segmentation: Segmentation | None = Field(default=None, exclude_if=lambda value: value is None)
    batch_size: int = Field(default=128, ge=1, le=1_000_000)  # images per optimizer step
    gradient_accumulation: int = Field(default=1, ge=1)  # parts a batch is computed in
    stochastic_depth: float | None = Field(default=None, ge=0, lt=1)  # None: the model's own
    # How that is spread (see layers.StochasticDepth). "mlp" and "block" (Google's) do not rescale, "constant" does.
    stochastic_depth_rule: Literal["mlp", "block", "constant"] | None = None
    dropout: float | None = Field(default=None, ge=0, lt=1)  # before the head
    ema_decay: float | None = Field(default=None, gt=0, lt=1)  # moving average of the weights, evaluated and saved
    ema_warmup: bool = True  # forget the random start faster; False: timm's and DeiT's plain average
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
        if self.distillation is not None and self.dino is not None:
            raise ValueError("distillation and dino are two ways to learn from a network; set one of them")
        if self.dino is not None and (self.augment.mixup or self.augment.cutmix):
            raise ValueError("dino learns from crops without labels; set augment.mixup and augment.cutmix to 0")
        if self.network is not None and self.init is not None:
            raise ValueError(f"init {self.init} brings its own network; leave out network or init")
        if self.stochastic_depth_rule is not None and self.stochastic_depth is None:
            raise ValueError("stochastic_depth_rule says how stochastic_depth is spread; set stochastic_depth too")
        return self
