"""How a network learns from labels: optimizer, schedule and loss. `train.optimizer` and `train.losses` do it."""

from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from allmlp.values import Value

Beta = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Value):
    """adamw: decoupled decay. adam and sgd (with momentum) add the decay to the gradient. lamb is timm's.

    `decay_semantics`, for adamw: at each step kernels lose `weight_decay` times the learning rate ("lr": torch's AdamW,
    the papers' numbers), or times the schedule's factor between 0 and 1 alone ("schedule": big_vision, whose 1e-4 is
    0.1 at a peak rate of 1e-3). `weight_decay_end`: the decay goes there along a cosine, for DINO; None: it stays.
    `decay_mask`: "kernels" decays what a linear layer or convolution multiplies with, never biases, norms, Aff or
    LayerScale; "dimensions" decays what has more than one axis (timm's and DeiT's rule, which takes in ResMLP's Aff,
    as its parameters are shaped (1, 1, C)). `clip_norm`: of all gradients together, before the optimizer.
    `sam_rho`: sharpness-aware minimisation, the radius that the weights are moved by before the gradient is taken.
    """

    name: Literal["adamw", "adam", "sgd", "lamb"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    weight_decay_end: float | None = Field(default=None, ge=0)
    decay_semantics: Literal["lr", "schedule"] = "lr"
    decay_mask: Literal["kernels", "dimensions"] = "kernels"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    epsilon: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)  # sgd only
    clip_norm: float | None = Field(default=1.0, gt=0)
    sam_rho: float | None = Field(default=None, gt=0, le=1e6)

    @pydantic.model_validator(mode="after")
    def _decay_is_decoupled(self) -> Self:
        if self.decay_semantics == "schedule" and self.name != "adamw":
            raise ValueError(f"decay_semantics 'schedule' is for adamw, whose decay is decoupled, not for {self.name}")
        return self


class Schedule(Value):
    """How long, and the learning rate's factor (of its peak) at each step.

    `steps` and `warmup_steps` stand in place of `epochs` and `warmup_epochs` where they are given. `rule`:
    - "allmlp": warm-up from `warmup_factor`, whose last step has the peak, then decay to `final_factor` at the end;
    - "google" (big_vision, vision_transformer): min(1, step / warm-up) times the decay, which begins after the warm-up;
      the first step has rate 0, and `final_factor` would come one step after the last;
    - "timm" (DeiT): warm-up from `warmup_factor`; the decay runs over the whole training, as if there were no warm-up.
    `decay` "steps": a tenth after each of `milestones`, steps counted from 0 (BiT).
    """

    epochs: float = Field(default=100, gt=0, le=1e9)
    steps: int | None = Field(default=None, ge=1)
    warmup_epochs: float = Field(default=5, ge=0)
    warmup_steps: int | None = Field(default=None, ge=0)
    warmup_factor: float = Field(default=0.0, ge=0, le=1)
    decay: Literal["cosine", "linear", "constant", "steps"] = "cosine"
    milestones: tuple[int, ...] = ()
    final_factor: float = Field(default=0.0, ge=0, le=1)
    rule: Literal["allmlp", "google", "timm"] = "allmlp"

    @pydantic.model_validator(mode="after")
    def _warmup_is_shorter(self) -> Self:
        if self.steps is None and self.warmup_steps is None and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} must be below epochs {self.epochs:g}")
        if self.steps is not None and (self.warmup_steps or 0) >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be below steps {self.steps}")
        if self.rule == "google" and self.warmup_factor:
            raise ValueError("rule 'google' warms up from 0; warmup_factor is for 'allmlp' and 'timm'")
        if (self.decay == "steps") != bool(self.milestones):
            raise ValueError("decay 'steps' and milestones, the steps after which the rate is a tenth, go together")
        return self

    def for_epochs(self, epochs: float) -> "Schedule":
        """The same schedule for another number of epochs. At most a tenth of them warm up, so that a short run keeps
        some of it for learning; a warm-up counted in steps stays."""
        return self.with_(epochs=epochs, steps=None, warmup_epochs=min(self.warmup_epochs, epochs / 10))


class Loss(Value):
    """`softmax`: one class per image. `sigmoid`: each class for itself (one or several labels), summed over classes.

    `head_bias_init`: where the bias of a fresh head starts (None: as the network says); with sigmoid, big_vision takes
    -6.9, about -ln 1000, so that the first loss is that of knowing that labels are rare."""

    kind: Literal["softmax", "sigmoid"] = "softmax"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"  # balanced: N / (K * images of the class)
    head_bias_init: float | None = Field(default=None, ge=-1e6, le=1e6)
