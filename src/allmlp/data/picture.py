"""A picture of a training batch as the network gets it: the first thing to look at when training goes wrong."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from allmlp.files import write_atomically

if TYPE_CHECKING:
    from PIL import Image, ImageFont

MAX_IMAGES = 64
CELL_PX = (112, 256)  # images are magnified to at least, and reduced to at most, about this width
GAP_PX = 8
FONT_PX = 13
SMALLEST_SHARE = 0.005  # a class with less of an image is not worth a line
BACKGROUND, INK = (250, 250, 250), (30, 30, 30)


def batch_titles(targets: torch.Tensor, classes: Sequence[str]) -> list[str]:
    """A caption for each row of `targets` `(N, K)`: the class, or one line per class ("cat · 70%") where it is mixed.

    At most two lines, the largest shares first. A row without a class says "none".
    """
    titles = []
    for row in targets.tolist():
        present = sorted(((share, name) for share, name in zip(row, classes, strict=True) if share > SMALLEST_SHARE),
                         key=lambda pair: -pair[0])
        lines = [name if share > 1 - SMALLEST_SHARE else f"{name} · {share:.0%}" for share, name in present]
        if len(lines) > 2:
            lines = [lines[0], f"{lines[1]}, +{len(lines) - 2}"]
        titles.append("\n".join(lines) or "none")
    return titles


def save_batch_picture(images: torch.Tensor, titles: Sequence[str], path: str | os.PathLike) -> None:
    """Write a PNG with the first `MAX_IMAGES` of a batch, each with its title below it, on a grid.

    `images`: uint8, or float in [0, 255], `(N, 3, H, W)`, on any device, N at least 1. Small images are magnified by a
    whole number with sharp pixels, large ones reduced. A title may have several lines; what is too wide ends in "…".
    Raises `CannotWrite`.
    """
    from PIL import Image, ImageDraw

    if len(images) != len(titles) or len(images) == 0:
        raise ValueError(f"{len(images)} images and {len(titles)} titles")
    pixels = images[:MAX_IMAGES].detach().cpu().float().round().clamp(0, 255).to(torch.uint8)
    pictures = [_scale(Image.fromarray(picture)) for picture in pixels.permute(0, 2, 3, 1).numpy()]
    font = _font()
    cell_width, cell_height = max(pictures[0].width, CELL_PX[0]), pictures[0].height
    captions = [[_shorten(line, font, cell_width) for line in title.split("\n")] for title in titles[:MAX_IMAGES]]
    line_px = round(1.3 * FONT_PX)
    caption_px = line_px * max(map(len, captions)) + GAP_PX // 2

    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    step_x, step_y = cell_width + GAP_PX, cell_height + caption_px + GAP_PX
    sheet = Image.new("RGB", (columns * step_x + GAP_PX, rows * step_y + GAP_PX), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for i, (picture, lines) in enumerate(zip(pictures, captions, strict=True)):
        left, top = GAP_PX + i % columns * step_x, GAP_PX + i // columns * step_y
        sheet.paste(picture, (left + (cell_width - picture.width) // 2, top))
        for j, line in enumerate(lines):
            draw.text((left + cell_width / 2, top + cell_height + 2 + j * line_px), line, INK, font, anchor="ma")
    write_atomically(path, lambda temporary: sheet.save(temporary, "PNG"))


def _scale(picture: "Image.Image") -> "Image.Image":
    from PIL import Image

    smallest, largest = CELL_PX
    if picture.width > largest or picture.height > largest:
        picture.thumbnail((largest, largest))
        return picture
    factor = max(1, min(math.ceil(smallest / picture.width), largest // picture.height))
    return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)


def _shorten(line: str, font: "ImageFont.FreeTypeFont", width: int) -> str:
    """`line`, or as much of it as fits `width` pixels. A share at its end ("cat · 70%") is kept."""
    if font.getlength(line) <= width:
        return line
    name, dot, share = line.rpartition(" · ")
    name, end = (name, f"…{dot}{share}") if dot else (line, "…")
    while name and font.getlength(name + end) > width:
        name = name[:-1]
    return name + end


def _font() -> "ImageFont.FreeTypeFont":
    """DejaVu Sans, which comes with matplotlib and has Latin, Greek, Cyrillic and more."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), FONT_PX)
