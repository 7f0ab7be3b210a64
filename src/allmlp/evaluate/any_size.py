"""Images of many sizes, each seen whole and in its own shape, by a network that takes any size.

That is a network whose stem averages onto a fixed grid of tokens (`models/stems.py`). Nothing is padded and nothing is
cut: images are read in their order, those of one size among the next ones go through the network together, and what
comes out is in order again. An image's logits do not depend on the others, so the batches change the speed only.

- "aspect": an image keeps its shape and gets the area that the network learnt (its `image_size`), with sides in whole
  patches; so a folder of photographs needs few sizes. A shape beyond `MOST_ASPECT` to 1 is squashed to that.
- "native": an image stays as it is, pixel by pixel, and takes the time that its pixels take.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from allmlp.backends import Predictor
from allmlp.backends.network import NetworkPredictor
from allmlp.data.dataset import ImageDataset
from allmlp.errors import BadSetting
from allmlp.models.model import Model
from allmlp.preprocess import fit

Sizes = Literal["aspect", "native"]
MOST_ASPECT = 8
BATCH_PIXELS = 64 * 224 * 224  # of images that go through the network together; a larger image goes alone
WAITING_IMAGES, WAITING_BYTES = 512, 256 * 2**20  # that are looked through for images of one size


class AnySize:
    """`predictor`'s network for images of all sizes. Raises `BadSetting` for one that takes images of one size."""

    def __init__(self, predictor: Predictor, sizes: Sizes):
        model = getattr(predictor, "model", None)
        if not isinstance(model, Model) or getattr(model.config.stem, "tokens", None) is None:
            raise BadSetting(f"--any-size {sizes}: this network takes images of one size; one that takes any is "
                             "trained with --set network.stem=convolutions --set network.stem.tokens=[ROWS,COLUMNS], "
                             "and runs from its checkpoint, not exported")
        self.model, self.sizes, self.preprocess = model, sizes, predictor.preprocess
        self.classes, self.output = predictor.classes, predictor.output

    def fit(self, image: np.ndarray) -> np.ndarray:
        """An image uint8 `(h, w, 3)` as the network is to see it."""
        if self.sizes == "native":
            return image
        size = size_in_shape((image.shape[0], image.shape[1]), self.preprocess.image_size, self.model.config.patch_size)
        return fit(image, self.preprocess.with_(image_size=size, resize="squash"))

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Fitted images uint8 `(h, w, 3)`, each of any size, to float32 logits `(N, K)`, those of one size together."""
        logits = np.empty((len(images), self.model.num_classes), np.float32)
        alike: dict[tuple[int, int], list[int]] = {}
        for number, image in enumerate(images):
            alike.setdefault((image.shape[0], image.shape[1]), []).append(number)
        for size, numbers in alike.items():
            most = max(BATCH_PIXELS // math.prod(size), 1)
            run = NetworkPredictor(self.model, self.preprocess.with_(image_size=size), None, max_batch=most)
            logits[numbers] = run(np.stack([images[number] for number in numbers]))
        return logits


def size_in_shape(size: tuple[int, int], like: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in the shape of `size` and of the area of `like`, in whole patches, at least one each way."""
    aspect = min(max(size[0] / size[1], 1 / MOST_ASPECT), MOST_ASPECT)
    area = math.prod(like)
    height, width = math.sqrt(area * aspect), math.sqrt(area / aspect)
    return max(round(height / patch[0]), 1) * patch[0], max(round(width / patch[1]), 1) * patch[1]


def predict_any_size(
    predictor: AnySize, dataset: ImageDataset, progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """float32 logits `(N, K)` of a data set, in its order. Raises `BadData` for an image that cannot be used."""
    parts = [predictor([])]
    done = 0
    for images in waiting(predictor.fit(dataset.image(index)) for index in range(len(dataset))):
        parts.append(predictor(images))
        done += len(images)
        if progress is not None:
            progress(done, len(dataset))
    return np.concatenate(parts)


def waiting(images: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The images in order, as many at a time as are looked through for equal sizes."""
    held: list[np.ndarray] = []
    for image in images:
        held.append(image)
        if len(held) == WAITING_IMAGES or sum(each.nbytes for each in held) >= WAITING_BYTES:
            yield held
            held = []
    if held:
        yield held
