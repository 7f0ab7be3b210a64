"""Many small maps of weights side by side, each number a square of whole pixels, so that none is smeared or uneven.

A figure is a grid of panels; a panel is a title, its maps row by row, and the scale of their colours. Lengths here are
in pixels of the PNG (`figures.DPI`); an SVG has the same picture inside.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from allmlp import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = round(figures.TEXT_WIDTH_CM * figures.CM * figures.DPI)
MOST_HEIGHT = round(22 * figures.CM * figures.DPI)  # of a panel: what fits a page
LARGEST_TILE, LARGEST_ALONE = 110, 230
MARGIN, BETWEEN = 6, 28  # around all; between panels
HEAD, FOOT = 64, 62  # title and remark above the maps; the scale below
LEAST_WIDTH = 330  # of a panel
TITLE_LETTER, REMARK_LETTER = 14, 11.5  # the widest that a letter is on average, so that texts keep to their panel
LABEL, BAR, BAR_HEIGHT = 80, 150, 12  # of the scale: room for the number at its left, and the bar of colours
BACKGROUND = (178, 184, 194)  # between maps: neither a weight of zero, which is white, nor a strong one
WITHIN = 0.995  # share of the weights inside the scale; one outlier shall not pale all others


@dataclass(frozen=True)
class Panel:
    """`maps`: `(N, rows, columns)`, or `(N, rows, columns, 3)` for kernels over red, green and blue; N at least 1.

    `limit`: what the full colours stand for, ± (None: what holds 99.5 % of these weights). `across`: how many maps in
    a row (None: what fits best), `paired`: always an even number. None in place of a panel leaves its place empty."""

    title: str
    remark: str
    maps: np.ndarray
    limit: float | None = None
    across: int | None = None
    paired: bool = False


def in_rows(panels: Sequence[Panel], most: int = 3) -> list[list[Panel | None]]:
    """Panels as rows of at most `most`, the last one filled up with None."""
    columns = min(most, len(panels))
    padded = [*panels, *[None] * (-len(panels) % columns)]
    return [padded[start : start + columns] for start in range(0, len(padded), columns)]


def limit_of(*maps: np.ndarray) -> float:
    """A scale for all of `maps`: 99.5 % of the weights lie within ± this."""
    return float(np.quantile(np.concatenate([np.abs(each).ravel() for each in maps]), WITHIN)) or 1.0


@figures.style()
def mosaic(panels: Sequence[Sequence[Panel | None]]) -> "Figure":
    """The figure of a grid of `panels`, row by row; all rows have the same number. Columns are as wide as need be."""
    columns = len(panels[0])
    room = (WIDTH - 2 * MARGIN - (columns - 1) * BETWEEN) // columns
    pictures = [[None if panel is None else _picture(panel, room) for panel in row] for row in panels]
    widths = [max(min(room, max(map(_text_width, titles))), *(0 if each is None else each.shape[1] for each in column))
              for titles, column in zip(zip(*panels, strict=True), zip(*pictures, strict=True), strict=True)]
    heights = [max((picture.shape[0] for picture in row if picture is not None), default=0) for row in pictures]
    total = (2 * MARGIN + sum(widths) + (columns - 1) * BETWEEN,
             2 * MARGIN + sum(heights) + len(panels) * (HEAD + FOOT))
    # A hundredth more: matplotlib cuts to whole pixels, and would lose one to rounding.
    figure = figures.empty(*((side + 0.01) / figures.DPI / figures.CM for side in total))
    top = MARGIN
    for row, row_pictures, height in zip(panels, pictures, heights, strict=True):
        for i, (panel, picture) in enumerate(zip(row, row_pictures, strict=True)):
            if panel is not None and picture is not None:
                left = MARGIN + sum(widths[:i]) + i * BETWEEN
                _write_head(figure, panel, left, top, widths[i], total)
                _place(figure, picture, left, top + HEAD, total)
                _draw_scale(figure, panel, left, top + HEAD + picture.shape[0] + 16, total)
        top += HEAD + height + FOOT
    return figure


def colours(panel: Panel) -> np.ndarray:
    """The maps as uint8 RGB `(N, rows, columns, 3)`."""
    import matplotlib

    limit = panel.limit or limit_of(panel.maps)
    place = np.clip(panel.maps / (2 * limit) + 0.5, 0, 1)
    if panel.maps.ndim == 4:
        return np.round(255 * place).astype(np.uint8)
    return matplotlib.colormaps[figures.SIGNED](place, bytes=True)[..., :3]


def layout(number: int, shape: tuple[int, int], room: int, across: int | None, paired: bool) -> tuple[int, int, int]:
    """(pixels per weight, gap, maps in a row): the largest that fit a panel of `room` pixels, and about a square.

    At two pixels per weight the panel may become as high as a page, since one is too small to be seen well.
    """
    largest = LARGEST_ALONE if across == 1 else LARGEST_TILE
    for scale in range(max(1, largest // max(shape)), 0, -1):
        height, width = scale * shape[0], scale * shape[1]
        gap = _gap(height, width)
        fits = (room - gap) // (width + gap)
        if across is not None:
            if fits >= across:
                return scale, gap, across
        elif fits >= 1 + paired:
            in_row = _even_rows(min(fits, number), number, 1 + paired)
            if math.ceil(number / in_row) * (height + gap) <= (MOST_HEIGHT if scale <= 2 else 0.9 * room):
                return scale, gap, in_row
    gap = _gap(*shape)
    return 1, gap, across or max(1 + paired, (room - gap) // (shape[1] + gap) // 2 * 2)


def _gap(height: int, width: int) -> int:
    return min(max(2, round(0.07 * min(height, width))), 5)


def _even_rows(most: int, number: int, step: int) -> int:
    """At most `most` maps in a row, a multiple of `step`, so that the last row is full if that costs few columns."""
    most -= most % step if most < number else 0
    tried = range(most, math.ceil(0.6 * most) - 1, -1)
    return next((across for across in tried if number % across == 0 and across % step == 0), most)


def _picture(panel: Panel, room: int) -> np.ndarray:
    """All maps of a panel as one RGB picture of whole pixels."""
    tiles = colours(panel)
    number, rows, columns, _ = tiles.shape
    scale, gap, across = layout(number, (rows, columns), room, panel.across, panel.paired)
    tiles = tiles.repeat(scale, 1).repeat(scale, 2)
    height, width = tiles.shape[1:3]
    down = math.ceil(number / across)
    picture = np.full((down * (height + gap) + gap, across * (width + gap) + gap, 3), 255, np.uint8)
    for i in range(number):
        top, left = (height + gap) * (i // across), (width + gap) * (i % across)
        picture[top : top + height + 2 * gap, left : left + width + 2 * gap] = BACKGROUND
    for i, tile in enumerate(tiles):
        top, left = gap + (height + gap) * (i // across), gap + (width + gap) * (i % across)
        picture[top : top + height, left : left + width] = tile
    return picture


def _box(left: int, top: int, width: int, height: int, total: tuple[int, int]) -> tuple[float, float, float, float]:
    """Pixels from the top left as matplotlib's fractions from the bottom left."""
    return left / total[0], 1 - (top + height) / total[1], width / total[0], height / total[1]


def _place(figure: "Figure", picture: np.ndarray, left: int, top: int, total: tuple[int, int]) -> None:
    axes = figure.add_axes(_box(left, top, picture.shape[1], picture.shape[0], total))
    axes.imshow(picture, interpolation="none", aspect="auto")
    axes.set_axis_off()


def _text_width(panel: Panel | None) -> int:
    """What a panel's title and remark need."""
    if panel is None:
        return LEAST_WIDTH
    return round(max(LEAST_WIDTH, TITLE_LETTER * len(panel.title), REMARK_LETTER * len(panel.remark)))


def _write_head(figure: "Figure", panel: Panel, left: int, top: int, width: int, total: tuple[int, int]) -> None:
    title = figures.ending(panel.title, round(width / TITLE_LETTER))
    for text, size, colour, down in ((title, 8.5, figures.INK, 24), (panel.remark, 7, figures.QUIET, 48)):
        figure.text(left / total[0], 1 - (top + down) / total[1], text, size=size, color=colour, va="baseline")


def _draw_scale(figure: "Figure", panel: Panel, left: int, top: int, total: tuple[int, int]) -> None:
    """A bar of the colours from -limit to +limit; of colour kernels, grey stands for each of red, green and blue."""
    limit = panel.limit or limit_of(panel.maps)
    axes = figure.add_axes(_box(left + LABEL, top, BAR, BAR_HEIGHT, total))
    in_colour = panel.maps.ndim == 4
    axes.imshow(np.linspace(0, 1, 256)[None], cmap="gray" if in_colour else figures.SIGNED, aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.4)
    middle = 1 - (top + BAR_HEIGHT / 2) / total[1]
    style = {"size": 7, "color": figures.QUIET, "va": "center_baseline"}
    figure.text((left + LABEL - 8) / total[0], middle, f"−{limit:.2g}", ha="right", **style)
    figure.text((left + LABEL + BAR + 8) / total[0], middle,
                f"{limit:.2g}{' in each of red, green, blue' if in_colour else ''}", **style)
