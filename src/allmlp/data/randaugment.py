"""Google's RandAugment, whose magnitude may go beyond 10, as it trained the Mixers (10, 15 and 20).

Source: big_vision's pp/archive/{randaug,autoaugment}.py (arXiv 1909.13719): so many operations, drawn uniformly with
replacement from sixteen and always applied, all at one magnitude M. Places that an operation leaves empty are grey 128.
torchvision's and timm's RandAugment are others: they know fewer or other operations, and M ends at 10 (of 31 bins at
30). Neither equals this one at M = 15, where an image is turned by 45° and enhanced by 2.8.

| operation | at level l = M / 10 | remark |
|---|---|---|
| rotate, shear, translate | 30° l, 0.3 l, 100 px l, with a random sign | nearest pixel; shear about the corner |
| colour, contrast, brightness, sharpness | factor 1.8 l + 0.1 | above 1 the difference is exaggerated |
| posterize | int(4 l) bits are kept | M = 0, 1, 2 keep 1 bit, as TensorFlow clamps the shift |
| solarize | inverts values from int(256 l) up | nothing from M = 10 up |
| solarize add | adds int(110 l) to values below 128 | |
| cutout | a box of 2 int(40 l) px, cut at the borders | |
| autocontrast, equalize, invert | no magnitude | per channel |

UNVERIFIED: whether TensorFlow really compared with a threshold above 255, or with its lower 8 bits.
Images are uint8 `(H, W, 3)`, in and out.
"""

import math
from collections.abc import Callable

import numpy as np

FILL = 128
LUMA = np.array([0.2989, 0.5870, 0.1140], np.float32)  # tf.image.rgb_to_grayscale

Operation = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def rand_augment(image: np.ndarray, count: int, magnitude: float, draws: np.random.Generator) -> np.ndarray:
    """`count` operations, one after another."""
    for name in draws.choice(list(OPERATIONS), count):
        image = OPERATIONS[name](image, magnitude / 10, draws)
    return image


def auto_contrast(image: np.ndarray) -> np.ndarray:
    """Each channel stretched to 0..255."""
    low, high = image.min((0, 1)).astype(np.float32), image.max((0, 1)).astype(np.float32)
    scale = np.divide(255.0, high - low, out=np.ones(3, np.float32), where=high > low)
    return _whole(image * scale - np.where(high > low, low * scale, 0))


def equalize(image: np.ndarray) -> np.ndarray:
    """Each channel with a flat histogram, by PIL's integer rule."""
    result = image.copy()
    for channel in range(3):
        counts = np.bincount(image[..., channel].ravel(), minlength=256)
        step = (counts.sum() - counts[counts.nonzero()[0][-1]]) // 255
        if step:
            table = np.concatenate([[0], (counts.cumsum()[:-1] + step // 2) // step])
            result[..., channel] = table.clip(0, 255).astype(np.uint8)[image[..., channel]]
    return result


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """The upper `bits` bits of each value; at least one."""
    shift = min(max(8 - bits, 0), 7)
    return image >> shift << shift


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    return np.where(image.astype(int) < threshold, image, 255 - image)


def solarize_add(image: np.ndarray, addition: int) -> np.ndarray:
    return np.where(image < 128, (image.astype(int) + addition).clip(0, 255), image).astype(np.uint8)


def colour(image: np.ndarray, factor: float) -> np.ndarray:
    return _blend(_grey(image)[..., None], image, factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    return _blend(np.array(int(_grey(image).mean()), np.float32), image, factor)


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return _blend(np.zeros(1, np.float32), image, factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blended with a 3 x 3 smoothing, whose kernel has 5 in the middle; the outermost pixels stay."""
    height, width = image.shape[:2]
    smooth = image.astype(np.float32)
    if min(height, width) > 2:
        windows = [smooth[y : height - 2 + y, x : width - 2 + x] for y in range(3) for x in range(3)]
        inner = (sum(windows) + 4 * windows[4]) / 13
        smooth = smooth.copy()
        smooth[1:-1, 1:-1] = np.floor(inner + 1e-3)  # whole sums over 13 must not fall below by rounding
    return _blend(smooth, image, factor)


def cutout(image: np.ndarray, half: int, draws: np.random.Generator) -> np.ndarray:
    """A grey box of twice `half` around a place drawn uniformly."""
    y, x = (int(draws.integers(side)) for side in image.shape[:2])
    result = image.copy()
    result[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = FILL
    return result


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turned about the middle, counter-clockwise for positive `degrees`."""
    middle = (np.array(image.shape[1::-1]) - 1) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cos, -sin], [sin, cos]])
    return _move(image, turn, middle - turn @ middle)


def shear_x(image: np.ndarray, level: float) -> np.ndarray:
    return _move(image, np.array([[1, level], [0, 1]]), np.zeros(2))


def shear_y(image: np.ndarray, level: float) -> np.ndarray:
    return _move(image, np.array([[1, 0], [level, 1]]), np.zeros(2))


def translate(image: np.ndarray, right_px: float, down_px: float) -> np.ndarray:
    return _move(image, np.eye(2), np.array([-right_px, -down_px]))


def _move(image: np.ndarray, matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The nearest pixel at `matrix @ (x, y) + shift` for each place (x, y); halves are rounded away from 0."""
    height, width = image.shape[:2]
    x, y = np.arange(width), np.arange(height)[:, None]
    source = [row[0] * x + row[1] * y + offset for row, offset in zip(matrix, shift, strict=True)]
    across, down = (np.trunc(place + np.copysign(0.5, place)).astype(int) for place in source)
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    found = image[down.clip(0, height - 1), across.clip(0, width - 1)]
    return np.where(inside[..., None], found, np.uint8(FILL))


def _grey(image: np.ndarray) -> np.ndarray:
    """Brightness, whole numbers as float32 `(H, W)`; TensorFlow's way back from [0, 1] is times 255.5, cut."""
    return np.floor((image.astype(np.float32) @ LUMA) * np.float32(255.5 / 255))


def _blend(plain: np.ndarray, image: np.ndarray, factor: float) -> np.ndarray:
    """From `plain` (factor 0) to `image` (1) and beyond."""
    return _whole(plain + np.float32(factor) * (image - plain))


def _whole(values: np.ndarray) -> np.ndarray:
    """TensorFlow's cast: cut, not rounded; the margin keeps whole numbers that rounding put just below themselves."""
    return (values + 1e-3).clip(0, 255).astype(np.uint8)


def _signed(value: float, draws: np.random.Generator) -> float:
    return value if draws.random() < 0.5 else -value


def _enhanced(by: Callable[[np.ndarray, float], np.ndarray]) -> Operation:
    return lambda image, level, draws: by(image, 1.8 * level + 0.1)


OPERATIONS: dict[str, Operation] = {
    "auto_contrast": lambda image, level, draws: auto_contrast(image),
    "equalize": lambda image, level, draws: equalize(image),
    "invert": lambda image, level, draws: 255 - image,
    "rotate": lambda image, level, draws: rotate(image, _signed(30 * level, draws)),
    "posterize": lambda image, level, draws: posterize(image, int(4 * level)),
    "solarize": lambda image, level, draws: solarize(image, int(256 * level)),
    "colour": _enhanced(colour),
    "contrast": _enhanced(contrast),
    "brightness": _enhanced(brightness),
    "sharpness": _enhanced(sharpness),
    "shear_x": lambda image, level, draws: shear_x(image, _signed(0.3 * level, draws)),
    "shear_y": lambda image, level, draws: shear_y(image, _signed(0.3 * level, draws)),
    "translate_x": lambda image, level, draws: translate(image, _signed(100 * level, draws), 0),
    "translate_y": lambda image, level, draws: translate(image, 0, _signed(100 * level, draws)),
    "cutout": lambda image, level, draws: cutout(image, int(40 * level), draws),
    "solarize_add": lambda image, level, draws: solarize_add(image, int(110 * level)),
}
