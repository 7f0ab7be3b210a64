"""Images with their masks laid over them, what was to be found beside what was found."""

from collections.abc import Sequence

import numpy as np

from allmlp.data.dataset import IGNORED, ImageDataset
from allmlp.data.palette import overlay, palette
from allmlp.evaluate.pixels import PixelPredictor, logits_of
from allmlp.report.content import OverlayPicture
from allmlp.report.markup import Html, tag
from allmlp.report.pictures import picture

MOST = 16


def overlay_pictures(predictor: PixelPredictor, dataset: ImageDataset, most: int = MOST) -> tuple[OverlayPicture, ...]:
    """Images evenly over a data set with label maps, with the network's answers."""
    made = []
    for index in np.linspace(0, len(dataset) - 1, min(len(dataset), most)).astype(int).tolist():
        image, labels = dataset.image(index), dataset.label_map(index)  # pyright: ignore[reportAttributeAccessIssue]
        said = logits_of(predictor, image).argmax(0).astype(np.uint8)
        counted = labels != IGNORED
        wrong = 100 * float((said != labels)[counted].mean()) if counted.any() else 0.0
        made.append(OverlayPicture(image, overlay(image, labels), overlay(image, said), wrong, dataset.name(index)))
    return tuple(made)


def overlay_gallery(pictures: Sequence[OverlayPicture]) -> Html:
    return tag("div", [_figure(each) for each in pictures], class_="gallery")


def _figure(each: OverlayPicture) -> Html:
    gap = np.full((len(each.image), max(each.image.shape[1] // 20, 1), 3), 255, np.uint8)
    row = np.concatenate([each.image, gap, each.true, gap, each.found], axis=1)
    said = f"{each.name}: the image, its mask, and the network's answer"
    caption = tag("figcaption", tag("small", f"{each.wrong_percent:.1f} % wrong · {each.name}"))
    return tag("figure", picture(row, said, most_pixels=360), caption, title=said)


def legend(classes: Sequence[str]) -> Html:
    """The colour of each class but the first, which is not coloured."""
    colours = palette()
    return tag("p", [[tag("span", "■", style="color:#{:02x}{:02x}{:02x}".format(*colours[k])), f" {name}  "]
                     for k, name in enumerate(classes) if k], class_="lead")
