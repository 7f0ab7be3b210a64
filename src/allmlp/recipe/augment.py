"""What is done to training images. `data.augment` (per image) and `data.batch` (per batch) do it."""

from typing import Literal, Self

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
    """What is done to training images: per image in the order of the fields, then per batch (affine, mixup, CutMix).

    `random_crop_kind`: "torchvision" (area uniform, aspect log-uniform in 3/4..4/3, antialiased) or "inception"
    (TensorFlow's sample_distorted_bounding_box: aspect and height uniform, bilinear without antialiasing).
    `random_crop`: the evaluation's resize, then a crop at a random place, for fine-tuning.
    `rand_augment_kind` says whose operations, and so what `rand_augment_magnitude` means: "torchvision" counts 31 bins,
    "google" is level / 10 with no upper end (10 is full strength, the Mixers' 15 is beyond it), "timm" is level / 10
    with an end at 10, `rand_augment_deviation` around the level and every operation stronger with the level ("inc1").
    `random_erasing_kind`: a box of the mean colour, or of "noise" (timm's and DeiT's mode "pixel").
    `mixup_kind`: the partner of an image is the one before it in the batch, with lambda as drawn ("roll") or folded to
    max(lambda, 1 - lambda) ("google"), or the one at the same place from the end ("timm"; CutMix too).
    `repeated`: so many differently augmented copies of an image in its batch, and an epoch of as many images as before,
    so that it sees 1/`repeated` of the data set (DeiT's RASampler has 3).
    """

    random_resized_crop: tuple[float, float] | None = None  # area range, e.g. (0.05, 1.0); None: evaluation geometry
    random_crop_kind: Literal["torchvision", "inception"] = "torchvision"  # of random_resized_crop
    random_crop: bool = False
    horizontal_flip: float = Field(default=0.0, ge=0, le=1)  # probability; digits and text must not be flipped
    auto_augment: bool = False  # AutoAugment's policy for ImageNet (torchvision's)
    rand_augment: int = Field(default=0, ge=0)  # number of operations per image
    rand_augment_kind: Literal["torchvision", "google", "timm"] = "torchvision"
    rand_augment_magnitude: int = Field(default=9, ge=0, le=30)
    rand_augment_deviation: float = Field(default=0.5, ge=0, le=10)  # timm only: of the magnitude, per operation
    random_erasing: float = Field(default=0.0, ge=0, le=1)  # probability
    random_erasing_kind: Literal["mean", "noise"] = "mean"
    affine: Affine | None = None
    mixup: float = Field(default=0.0, ge=0, le=1e6)  # Beta(a, a); 0: off
    mixup_kind: Literal["roll", "google", "timm"] = "roll"
    cutmix: float = Field(default=0.0, ge=0, le=1e6)
    cutmix_probability: float = Field(default=0.5, ge=0, le=1)  # of cutmix where both are on
    repeated: int = Field(default=1, ge=1, le=64)

    @pydantic.model_validator(mode="after")
    def _one_crop(self) -> Self:
        if self.random_crop and self.random_resized_crop is not None:
            raise ValueError("random_crop and random_resized_crop are two ways to crop; set one of them")
        if self.rand_augment and self.auto_augment:
            raise ValueError("rand_augment and auto_augment are two policies; set one of them")
        return self
