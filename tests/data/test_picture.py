import numpy as np
import pytest
import torch
from PIL import Image

from allmlp.data.picture import batch_titles, save_batch_picture
from allmlp.errors import CannotWrite


def solid(n: int, height: int, width: int) -> torch.Tensor:
    """Images of one colour each, no two alike and none of them grey."""
    colour = torch.stack([torch.arange(n) * 3 + 20, torch.full((n,), 90), 250 - torch.arange(n) * 3], 1)
    return colour.to(torch.uint8)[:, :, None, None].expand(n, 3, height, width).contiguous()


def boxes(path, images: torch.Tensor) -> list[tuple[int, int, int, int]]:
    """(top, left, height, width) of the place where each image's colour is in the picture."""
    weights = np.array([1 << 16, 1 << 8, 1])  # one number for each colour
    picture = np.asarray(Image.open(path)) @ weights
    found = []
    for image in images:
        rows, columns = np.nonzero(picture == image[:, 0, 0].numpy() @ weights)
        top, left, height, width = rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width  # one full box
        found.append((int(top), int(left), int(height), int(width)))
    return found


@pytest.mark.parametrize(("size", "shown"), [
    ((8, 8), (112, 112)), ((5, 7), (80, 112)), ((100, 112), (100, 112)), ((300, 600), (128, 256)), ((64, 4), (256, 16)),
    ((300, 3), (256, 3)), ((1, 1), (112, 112)),
])
def test_small_images_are_magnified_by_a_whole_number_and_large_ones_reduced(tmp_path, size, shown):
    images = solid(3, *size)
    save_batch_picture(images, ["a", "b", "c"], tmp_path / "batch.png")
    assert [box[2:] for box in boxes(tmp_path / "batch.png", images)] == [shown] * 3


@pytest.mark.parametrize(("n", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (64, 8, 8), (70, 8, 8)])
def test_images_stand_in_rows_and_at_most_64_of_them(tmp_path, n, columns, rows):
    images = solid(n, 8, 8)
    save_batch_picture(images, ["title"] * n, tmp_path / "batch.png")
    places = boxes(tmp_path / "batch.png", images[:64])
    assert places == sorted(places)
    assert len({left for _, left, _, _ in places}) == columns
    assert len({top for top, _, _, _ in places}) == rows


def test_floats_of_an_augmented_batch_are_rounded(tmp_path):
    images = solid(2, 8, 8)
    save_batch_picture(images.float() + 0.4, ["a", "b"], tmp_path / "batch.png")
    assert len(boxes(tmp_path / "batch.png", images)) == 2


def test_a_title_of_any_length_stays_below_its_image(tmp_path):
    images = solid(4, 8, 8)
    for titles in (["x" * 500] * 4, ["x" * 500 + " · 70%\nкот · 30%"] * 4, [""] * 4):
        save_batch_picture(images, titles, tmp_path / "batch.png")
        picture = np.asarray(Image.open(tmp_path / "batch.png")).astype(int)
        for top, left, height, width in boxes(tmp_path / "batch.png", images):
            ink_below = (picture[top + height : top + height + 20, left : left + width].sum(2) < 300).any()
            assert ink_below == (titles[0] != "")
            assert (picture[top + height : top + height + 20, left + width + 1 : left + width + 7] == 250).all()


def test_titles_say_which_classes_went_into_an_image():
    targets = torch.tensor([[0, 1, 0, 0], [0.7, 0, 0.3, 0], [0.3, 0.7, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1],
                            [0.9999, 0, 0.0001, 0], [0.5, 0.3, 0.2, 0.0]])
    assert batch_titles(targets, ["ant", "bee", "cow", "dog"]) == [
        "bee", "ant · 70%\ncow · 30%", "bee · 70%\nant · 30%", "ant\ncow", "none", "ant\nbee, +2", "ant",
        "ant · 50%\nbee · 30%, +1",
    ]


def test_a_picture_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "batch.png").mkdir()
    with pytest.raises(CannotWrite):
        save_batch_picture(solid(1, 8, 8), ["a"], tmp_path / "batch.png")


def test_images_and_titles_must_be_as_many():
    with pytest.raises(ValueError, match="2 images and 1 titles"):
        save_batch_picture(solid(2, 8, 8), ["a"], "unused.png")
