"""Learning from a network instead of labels alone: from a teacher, or from oneself. `train.distill` and `train.dino`
do it."""

from typing import Literal, Self

import pydantic
from pydantic import Field

from allmlp.values import Value


class Distillation(Value):
    """A teacher's answers beside the labels (DeiT's losses.py, ResMLP App. A): (1 - alpha) · loss(labels) + alpha · KD.

    `teacher`: a MODEL of ours (file, run folder, published name), or the name of a network of timm, whose published
    weights are fetched unless `teacher_weights` names a file of them (.safetensors or .pth).
    "hard": KD is the cross entropy to the teacher's most probable class; "soft": temperature² times the divergence
    from the teacher's to the student's probabilities, both at `temperature`. The teacher sees the student's pixels,
    normalised its own way and resized to `teacher_image_size` (None: the size that its weights are for).
    """

    teacher: str = Field(default="regnety_160.deit_in1k", min_length=1)  # RegNetY-16GF, the papers' teacher
    teacher_weights: str | None = None
    kind: Literal["hard", "soft"] = "hard"
    alpha: float = Field(default=0.5, ge=0, le=1)
    temperature: float = Field(default=1.0, gt=0)
    teacher_image_size: tuple[int, int] | None = None


class Dino(Value):
    """DINO, self-distillation without labels (arXiv 2104.14294; defaults are those of dino's main_dino.py).

    `out_dim`: prototypes of the projection head, which is `head_layers` linear layers of `head_hidden` units and a
    bottleneck. The teacher's temperature rises linearly from the first to the second value over
    `teacher_temperature_warmup_epochs`; its weights follow the student with a momentum that goes along a cosine from
    `teacher_momentum` to 1. `global_crops`: two, of this range of areas, for both networks; `local_crops` more of the
    other range for the student only, seen at `local_image_size` and brought to the network's size (an all-MLP network
    has one size; None: cropped straight to it). `last_layer_frozen_epochs`: of the head's prototypes, at the start.
    `colour`: DINO's colour jitter, greying, blur and solarisation.
    """

    out_dim: int = Field(default=65_536, ge=2, le=2**20)
    head_layers: int = Field(default=3, ge=1, le=8)
    head_hidden: int = Field(default=2_048, ge=1, le=2**16)
    bottleneck: int = Field(default=256, ge=1, le=2**16)
    normalise_last_layer: bool = True
    last_layer_frozen_epochs: float = Field(default=1, ge=0)
    student_temperature: float = Field(default=0.1, gt=0)
    teacher_temperature: tuple[float, float] = (0.04, 0.04)
    teacher_temperature_warmup_epochs: float = Field(default=0, ge=0)
    teacher_momentum: float = Field(default=0.996, ge=0, le=1)
    center_momentum: float = Field(default=0.9, ge=0, le=1)
    global_crops: tuple[float, float] = (0.4, 1.0)
    local_crops: int = Field(default=8, ge=0, le=64)
    local_scale: tuple[float, float] = (0.05, 0.4)
    local_image_size: tuple[int, int] | None = (96, 96)
    colour: bool = True

    @pydantic.model_validator(mode="after")
    def _ranges(self) -> Self:
        if min(self.teacher_temperature) <= 0:
            raise ValueError(f"teacher_temperature {self.teacher_temperature}: both must be above 0")
        for name in ("global_crops", "local_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise ValueError(f"{name} {low, high}: expected the smallest and the largest share of the area, "
                                 "0 < smallest <= largest <= 1")
        return self
