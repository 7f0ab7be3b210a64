"""Pictures inside the page, as base64 PNG."""

import base64
import io
from collections.abc import Sequence

import numpy as np

from allmlp.report.content import MistakePicture
from allmlp.report.markup import Html, breakable, tag
from allmlp.report.numbers import percent

MOST_PIXELS = 160  # of the longer side: sharp at the size shown on a screen of double density, and about 40 KB
MOST_OF_A_BATCH = 32
MOST_LETTERS = 14  # of a file name below a picture
PIXELATED_BELOW = 64  # smaller pictures show their pixels instead of a blur


def picture(image: np.ndarray, description: str, most_pixels: int = MOST_PIXELS) -> Html:
    """`image` uint8 `(H, W, 3)` as an `<img>`, made smaller where it is large."""
    from PIL import Image

    shown = Image.fromarray(image)
    shown.thumbnail((most_pixels, most_pixels), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    shown.save(data, format="PNG", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    return tag("img", src=source, alt=description, loading="lazy",
               class_="pixels" if max(shown.size) < PIXELATED_BELOW else None)


def mistakes_gallery(mistakes: Sequence[MistakePicture]) -> Html:
    return tag("div", [_mistake(mistake) for mistake in mistakes], class_="gallery")


def _mistake(mistake: MistakePicture) -> Html:
    sure = percent(100 * mistake.probability, 0 if mistake.probability < 0.995 else 1)
    said = f"{mistake.name}: {mistake.true}, called {mistake.predicted}"
    return tag(
        "figure",
        picture(mistake.image, said),
        tag("figcaption", tag("b", breakable(mistake.true), " → ", breakable(mistake.predicted)),
            tag("small", sure, " · ", _end(mistake.name))),
        title=said,
    )


def _end(name: str) -> str:
    """The end of a path tells more than its start; the whole stands in the title."""
    return name if len(name) <= MOST_LETTERS else "…" + name[-MOST_LETTERS:]


def batch_gallery(images: Sequence[np.ndarray]) -> Html:
    pictures = [picture(image, "a training image after augmentation") for image in images[:MOST_OF_A_BATCH]]
    return tag("div", pictures, class_="gallery plain")
