"""Test-time augmentation: the mean of a predictor's logits over several views of each image.

- flip: the image and its mirror image, where that means the same: of digits and of writing it does not
- crops5: the four corners and the centre of the image as it is before the central crop, which the preprocessing then
  must have a margin for
- crops10: those and the same of its mirror image (Krizhevsky et al., "ImageNet Classification with Deep Convolutional
  Neural Networks", 2012, section 4.1, who average probabilities)

An augmented predictor is a predictor like any other; for crops it asks for the larger image.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from allmlp.backends import Predictor
from allmlp.errors import BadSetting
from allmlp.preprocess import Preprocess, resized_size

Views = Literal["flip", "crops5", "crops10"]
VIEWS: tuple[Views, ...] = ("flip", "crops5", "crops10")


class Averaged:
    """`predictor` on all views of an image, its logits averaged."""

    def __init__(self, predictor: Predictor, views: Views):
        if views not in VIEWS:
            raise BadSetting(f"views {views!r}; accepted: {', '.join(VIEWS)}")
        self.predictor, self.views = predictor, views
        self.preprocess: Preprocess = predictor.preprocess if views == "flip" else uncropped(predictor.preprocess)
        self.classes: tuple[str, ...] | None = predictor.classes
        self.output: Literal["softmax", "sigmoid"] = predictor.output

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 `(N, H, W, 3)` to float32 logits `(N, K)`."""
        logits = [self.predictor(np.ascontiguousarray(view)) for view in self._views(images)]
        return np.stack(logits).mean(axis=0, dtype=np.float32)

    def _views(self, images: np.ndarray) -> Iterator[np.ndarray]:
        for whole in [images] if self.views == "crops5" else [images, images[:, :, ::-1]]:
            if self.views == "flip":
                yield whole
            else:
                yield from five_crops(whole, self.predictor.preprocess.image_size)


def uncropped(preprocess: Preprocess) -> Preprocess:
    """The same without the last crop: what the crops are taken from. Raises `BadSetting` where they would be one."""
    box = preprocess.with_(resize="squash_crop")  # in this mode the size before the crop is that of no image
    width, height = resized_size((0, 0), box)
    if preprocess.resize == "squash" or (height, width) == preprocess.image_size:
        raise BadSetting(f"crops need a margin, but this network's images are brought to {preprocess.image_size} and "
                         "not cropped; --tta flip does without")
    return preprocess.with_(image_size=(height, width), crop_ratio=1.0)


def five_crops(images: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """`(N, H, W, 3)` to the corners and the centre, each `(N, *size, 3)`, as torchvision's FiveCrop."""
    height, width = size
    bottom, right = images.shape[1] - height, images.shape[2] - width
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))]
    return [images[:, top : top + height, left : left + width] for top, left in places]
