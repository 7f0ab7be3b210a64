"""How our figures are made: the same bytes every time, and nothing of matplotlib's own changed."""

import matplotlib
import numpy as np
import pytest

from allmlp import figures
from allmlp.errors import CannotWrite


@figures.style()
def curve():
    figure, left, right = figures.new(8, 4, columns=2, sharey=True)
    left.plot([0, 1, 2], [0, 1, 0], label="rising γ ≤ 1")
    left.legend()
    right.imshow(np.arange(6).reshape(2, 3))
    right.set_title("a map")
    return figure


def test_equal_figures_are_equal_bytes_as_png_and_as_svg(tmp_path):
    from PIL import Image

    first, second = figures.save(curve(), tmp_path / "a"), figures.save(curve(), tmp_path / "b")
    assert [path.name for path in first] == ["a.png", "a.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    with Image.open(first[0]) as image:
        assert image.size == (629, 314)  # 8 and 4 cm in whole pixels at 200 to the inch


def test_settings_of_matplotlib_are_ours_only_while_drawing():
    matplotlib.rcParams["font.size"] = 23.0
    before = dict(matplotlib.rcParams)
    try:
        figure = curve()
        assert dict(matplotlib.rcParams) == before
        assert figure.axes[1].title.get_fontsize() == figures.SETTINGS["axes.titlesize"]
    finally:
        matplotlib.rcdefaults()


def test_a_figure_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="file"):
        figures.save(curve(), tmp_path / "file" / "a")


def test_colours_can_be_told_apart_without_red_and_green():
    """Distances of all pairs in the plane a red-blind eye sees (Viénot et al., 1999, linear RGB)."""
    rgb = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in figures.COLOURS]) / 255
    linear = rgb**2.2
    protan = linear @ np.array([[0.1121, 0.8853, 0], [0.1127, 0.8897, 0], [0.0045, 0.0001, 1.0019]]).T
    seen = np.clip(protan, 0, 1) ** (1 / 2.2)
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=2)[np.triu_indices(len(seen), 1)]
    assert distances.min() > 0.08
