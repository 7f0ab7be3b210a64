"""The pictures themselves: every number is a square of whole pixels in its colour, and they fit their page."""

import math

import matplotlib
import numpy as np
import pytest

import allmlp
from allmlp import figures
from allmlp.errors import BadSetting
from allmlp.inspection.gallery import of_features, of_images, of_weights
from allmlp.inspection.pictures import mosaic
from allmlp.inspection.pictures.interaction import token_matrices
from allmlp.inspection.pictures.mosaic import Panel
from allmlp.inspection.pictures.stem import stem_filters


@pytest.mark.parametrize("number,shape,room", [
    (384, (14, 14), 423), (384, (14, 14), 1326), (512, (28, 28), 650), (32, (4, 4), 423), (768, (16, 16), 1326),
    (512, (32, 32), 1326), (1, (5, 3), 423), (2, (1, 1), 423), (7, (2, 9), 300),
])  # fmt: skip
@pytest.mark.parametrize("paired", [False, True])
def test_maps_fit_their_panel_and_the_page(number, shape, room, paired):
    if paired and number == 1:
        return
    scale, gap, across = mosaic.layout(number, shape, room, None, paired)
    assert across * (scale * shape[1] + gap) + gap <= room
    assert math.ceil(number / across) * (scale * shape[0] + gap) <= mosaic.MOST_HEIGHT or scale == 1
    assert not paired or across % 2 == 0 or across == number


def test_every_weight_is_a_square_of_its_colour_at_its_place():
    maps = np.random.default_rng(0).normal(size=(5, 2, 3))
    panel = Panel("title", "remark", maps, limit=1.5, across=2)
    picture = mosaic._picture(panel, 200)
    scale, gap, across = mosaic.layout(5, (2, 3), 200, 2, False)
    for i, map_ in enumerate(maps):
        top, left = (gap + (i // across) * (2 * scale + gap), gap + (i % across) * (3 * scale + gap))
        for row in range(2):
            for column in range(3):
                square = picture[top + row * scale : top + (row + 1) * scale, left + column * scale :][:, :scale]
                wanted = matplotlib.colormaps["RdBu_r"](np.clip(map_[row, column] / 3 + 0.5, 0, 1), bytes=True)[:3]
                assert (square == np.array(wanted)).all()
    assert (picture[-1, -1] == 255).all()  # where no map is, paper


def test_the_png_has_the_maps_pixel_by_pixel(tmp_path):
    from PIL import Image

    panels = [Panel(f"title {i}", "remark", np.random.default_rng(i).normal(size=(20, 3, 3))) for i in range(6)]
    path, _ = figures.save(mosaic.mosaic([panels[:3], panels[3:]]), tmp_path / "a")
    with Image.open(path) as image:
        page = np.asarray(image.convert("RGB"))
    picture = mosaic._picture(panels[0], (mosaic.WIDTH - 2 * mosaic.MARGIN - 2 * mosaic.BETWEEN) // 3)
    height, width = picture.shape[:2]
    top = mosaic.MARGIN + mosaic.HEAD
    assert (page[top : top + height, mosaic.MARGIN : mosaic.MARGIN + width] == picture).all()


def test_kernels_over_colours_are_grey_at_zero_and_full_at_the_limit():
    maps = np.zeros((1, 1, 3, 3))
    maps[0, 0, 1], maps[0, 0, 2] = (2, 0, -2), (9, 9, 9)
    assert mosaic.colours(Panel("", "", maps, limit=2)).tolist() == [[[[128] * 3, [255, 128, 0], [255] * 3]]]


def test_the_scale_holds_nearly_all_weights_and_never_vanishes():
    weights = np.linspace(-1, 1, 2001)
    assert mosaic.limit_of(weights) == pytest.approx(0.995, abs=1e-3)
    assert mosaic.limit_of(np.zeros(4)) == 1


@pytest.mark.parametrize("number,rows", [(1, [1]), (2, [2]), (3, [3]), (4, [3, 1]), (9, [3, 3, 3])])
def test_many_panels_stand_in_rows_of_three(number, rows):
    panels = [Panel(str(i), "", np.ones((1, 2, 2))) for i in range(number)]
    found = mosaic.in_rows(panels)
    assert [sum(panel is not None for panel in row) for row in found] == rows
    assert len({len(row) for row in found}) == 1
    figure = mosaic.mosaic(found)
    assert len(figure.axes) == 2 * number  # the maps and the scale of each


@pytest.mark.parametrize("channels,columns", [(1, 4), (3, 4), (4, 16)])
def test_a_stem_is_drawn_for_any_number_of_channels(channels, columns):
    from allmlp.inspection.pictures.stem import _panel

    kernels = np.random.default_rng(0).normal(size=(6, 2, 4, channels))
    panel = _panel("x", kernels)
    assert panel.maps.shape[2] == columns
    figure = stem_filters({"x": kernels, "y": kernels})
    assert "6 kernels of 2 × 4 pixels" in " ".join(text.get_text() for text in figure.texts)


def test_of_a_large_grid_the_central_patches_are_shown():
    matrix = np.zeros((20, 18, 20, 18), np.float32)
    matrix[7:13, 6:12] = 1
    figure = token_matrices({3: matrix})
    assert any("central 6 × 6 of 20 × 18" in text.get_text() for text in figure.texts)
    assert (figure.axes[0].images[0].get_array().reshape(-1, 3).min(0) < 200).all()  # all of them red or the ground
    from allmlp.inspection.pictures.interaction import _rows

    assert (_rows(3, matrix).maps == 1).all()


def network(name: str, seed: int = 0):
    return allmlp.create_model(name, image_size=(8, 12), patch_size=(2, 3), num_classes=3, seed=seed)


def test_what_a_family_has_not_is_left_out_and_said():
    gallery = of_weights({"m": network("mixer_p2_8"), "g": network("gmlp_p2_8")})
    assert [picture.name for picture in gallery.pictures] == ["stem", "token-mixing", "spatial-gate-2", "sparsity"]
    assert gallery.left_out == ["g: no token MLP in the blocks shown",
                                "m: no linear map from tokens to tokens in the blocks shown"]
    headless = allmlp.create_model("mixer_p2_8", num_classes=0, seed=0)
    four = allmlp.create_model("mixer_p2_8", in_channels=4, num_classes=2, seed=0)
    gallery = of_images({"headless": headless, "four": four}, {"a": np.zeros((8, 8, 3), np.uint8)})
    assert not gallery.pictures
    assert "headless: no evidence in images: it has no linear head" in gallery.left_out
    assert "four: no evidence in images: it takes 4 channels" in gallery.left_out[1]


def test_blocks_can_be_chosen_and_must_exist():
    def titles(blocks):
        panels = of_weights({"m": network("mixer_p2_8")}, blocks).pictures[1].figure.texts
        return [text.get_text() for text in panels if text.get_text().startswith("block")]

    assert titles(None) == ["block 0", "block 1", "block 2"]
    assert titles((1, 3)) == ["block 1", "block 3"]
    with pytest.raises(BadSetting, match="block 4: the network has blocks 0 to 3"):
        of_weights({"m": network("mixer_p2_8")}, (4,))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixer_p2_8", "resmlp_p2_8", "gmlp_p2_8"])
def test_all_pictures_of_a_network_are_the_same_bytes_each_time(name, tmp_path):
    images = {"a.png": np.random.default_rng(0).integers(256, size=(9, 9, 3), dtype=np.uint8)}
    labels = np.arange(30) % 3
    points = {"x": np.random.default_rng(0).normal(size=(30, 2))}

    def drawn(folder: str) -> list[bytes]:
        gallery = (of_weights({"x": network(name)}) + of_images({"x": network(name)}, images)
                   + of_features(points, labels, ("a", "b", "c"), "by hand"))
        return [path.read_bytes() for picture in gallery.pictures
                for path in figures.save(picture.figure, tmp_path / folder / picture.name)]

    assert drawn("one") == drawn("two")


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_an_embedding_names_its_classes_unless_there_are_too_many(classes):
    labels = np.arange(80) % classes
    points = np.random.default_rng(0).normal(size=(80, 2))
    gallery = of_features({"x": points}, labels, [f"class {i}" for i in range(classes)], "by hand")
    names = [text.get_text() for text in gallery.pictures[0].figure.axes[0].texts]
    assert len(names) == (classes if classes <= 20 else 0)
