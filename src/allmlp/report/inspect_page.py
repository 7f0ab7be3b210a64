"""The page of `allmlp inspect`: every picture with its caption. It loads nothing and runs nothing."""

import base64
import os
from collections.abc import Sequence
from pathlib import Path

from allmlp import figures
from allmlp.files import write_text_atomically
from allmlp.inspection.gallery import Gallery, Picture
from allmlp.report.markup import Html, tag
from allmlp.report.page import document, section
from allmlp.report.style import STYLE

MOST_BYTES = 400_000  # a larger SVG would make the page slow; its PNG stands in

EXTRA = """
.plate { background: #fff; border-radius: 10px; padding: 14px; }
.plate img { display: block; min-width: min(100%, 320px); height: auto; }
p.lead { max-width: 90ch; } figcaption { margin-top: 8px; color: var(--muted); }
"""


def write_inspection(
    names: Sequence[str], gallery: Gallery, files: Sequence[tuple[Path, Path]], command: str, path: str | os.PathLike
) -> None:
    """Write the page as one HTML file, atomically. `names`: of the networks. `files`: for each picture of `gallery` its
    PNG and its SVG, in the page's folder. Raises `CannotWrite`."""
    title = " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
    sections = [_picture(picture, *pair) for picture, pair in zip(gallery.pictures, files, strict=True)]
    again = tag("section", tag("h2", "How to make it again"), tag("pre", tag("code", command)))
    header = tag("header", tag("h1", title), tag("p", "What the network has learnt" if len(names) == 1 else
                                                 "What the networks have learnt, side by side"))
    write_text_atomically(path, document(title, header, sections, _left_out(gallery), again, style=STYLE + EXTRA))


def _picture(picture: Picture, png: Path, svg: Path) -> Html:
    kind, content = ("svg+xml", svg.read_bytes()) if svg.stat().st_size <= MOST_BYTES else ("png", png.read_bytes())
    share = min(100, 100 * picture.figure.get_figwidth() / figures.CM / figures.TEXT_WIDTH_CM)
    image = tag("img", src=f"data:image/{kind};base64,{base64.b64encode(content).decode()}", alt=picture.title,
                style=f"width: {share:.0f}%")
    caption = tag("figcaption", tag("a", png.name, href=png.name), " · ", tag("a", svg.name, href=svg.name))
    return section(picture.title, picture.caption, tag("figure", tag("div", image, class_="plate"), caption))


def _left_out(gallery: Gallery) -> Html | None:
    if not gallery.left_out:
        return None
    return tag("section", tag("h2", "Left out"), tag("ul", [tag("li", line) for line in gallery.left_out]))
