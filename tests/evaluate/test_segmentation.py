"""Measures of pixels against counting by hand, and windows against the network itself."""

import itertools

import numpy as np
import pytest
import torch

from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.errors import BadData
from allmlp.evaluate.pixels import logits_of, starts
from allmlp.evaluate.segmentation import count_pixels, metrics_of, near_border, near_px, no_counts
from allmlp.inspection.flops import count_macs, measure_macs
from allmlp.models.config import ModelConfig
from allmlp.models.model import build
from allmlp.models.segment import DecoderConfig, SegmentConfig, TokenHeadConfig
from allmlp.models.variants import model_config

CLASSES = ("sky", "sea", "ship", "sand")


def drawn(seed: int, size: tuple[int, int] = (13, 17), images: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Logits `(N, 4, H, W)` and masks with some ignored pixels, without the last class."""
    random = np.random.default_rng(seed)
    maps = np.repeat(np.repeat(random.integers(0, 3, (images, 5, 6)), 3, 1), 3, 2)[:, : size[0], : size[1]]
    maps[random.random(maps.shape) < 0.1] = 255
    return random.normal(size=(images, 4, *size)), maps.astype(np.uint8)


def brute_near(where: np.ndarray, distance: int) -> np.ndarray:
    found = np.zeros_like(where)
    for y, x in np.argwhere(where):
        for dy, dx in itertools.product(range(-distance, distance + 1), repeat=2):
            there = (y + dy, x + dx)
            inside = 0 <= there[0] < where.shape[0] and 0 <= there[1] < where.shape[1]
            if not inside or not where[there]:
                found[y, x] = True
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_measures_are_those_of_counting_pixel_by_pixel(seed: int):
    logits, maps = drawn(seed)
    found = metrics_of(sum((count_pixels(*pair) for pair in zip(logits, maps, strict=True)), no_counts(4)), CLASSES)
    said, counted = logits.argmax(1), maps != 255
    overlaps, borders = [], []
    for k in range(4):
        both = any_ = near_both = near_any = 0
        for one_map, one_said, one_counted in zip(maps, said, counted, strict=True):
            near_true, near_said = (brute_near(part == k, near_px(one_map.shape)) for part in (one_map, one_said))
            for place in np.argwhere(one_counted):
                true, called = one_map[tuple(place)] == k, one_said[tuple(place)] == k
                both, any_ = both + (true and called), any_ + (true or called)
                true, called = near_true[tuple(place)], near_said[tuple(place)]
                near_both, near_any = near_both + (true and called), near_any + (true or called)
        overlaps.append(100 * both / any_)
        borders.append(100 * near_both / near_any)
    assert [row.iou_percent for row in found.classes] == pytest.approx(overlaps)
    assert [row.boundary_iou_percent for row in found.classes] == pytest.approx(borders)
    assert found.mean_iou_percent == pytest.approx(np.mean(overlaps))
    assert found.boundary_iou_percent == pytest.approx(np.mean(borders))
    assert found.pixel_accuracy_percent == pytest.approx(100 * (said == maps)[counted].mean())
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(maps).long(), ignore_index=255)
    assert found.negative_log_likelihood == pytest.approx(float(expected))


def test_a_class_that_nobody_has_or_says_is_left_out_of_the_mean():
    maps = np.zeros((8, 8), np.uint8)
    maps[:4] = 1
    logits = np.stack([maps == k for k in range(3)]).astype(float)
    found = metrics_of(count_pixels(logits, maps), ("a", "b", "c"))
    assert found.classes[2].iou_percent is None
    assert found.mean_iou_percent == found.boundary_iou_percent == 100


@pytest.mark.parametrize("distance", [1, 2, 4])
def test_near_a_border_are_the_pixels_from_which_so_many_kings_moves_lead_out(distance: int):
    where = np.random.default_rng(0).random((11, 14)) < 0.8
    np.testing.assert_array_equal(near_border(where, distance), brute_near(where, distance))


def test_a_mask_with_a_class_beyond_the_network_is_refused():
    with pytest.raises(BadData, match="class 7, and there are 4"):
        count_pixels(np.zeros((4, 2, 2)), np.full((2, 2), 7, np.uint8))


def network(head: SegmentConfig) -> PyTorchPredictor:
    config = model_config("mixer_p2_8", image_size=(16, 24), patch_size=4, num_classes=5, global_pool="")
    return PyTorchPredictor(build(config.with_(segment=head), generator=torch.Generator().manual_seed(0)))


HEADS = {"tokens": TokenHeadConfig(), "decoder": DecoderConfig(width=12, pixel_width=4, levels=3)}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_head_for_pixels_is_in_the_config_and_its_work_is_counted_as_torch_does(head: SegmentConfig):
    model = network(head).model
    assert ModelConfig.from_json(model.config.to_json()) == model.config
    assert count_macs(model.config) == measure_macs(model)
    assert model(torch.zeros(2, 3, 16, 24)).shape == (2, 5, 16, 24)


def test_each_token_answers_for_its_own_pixels():
    model = network(TokenHeadConfig()).model
    tokens = torch.randn(1, 24, 64)
    plain = model.head(tokens)
    tokens[0, 6 * 1 + 2] += 1  # row 1, column 2 of 4 x 6 tokens
    changed = (model.head(tokens) != plain).any(1)[0].nonzero()
    assert changed.min(0).values.tolist() == [4, 8]
    assert changed.max(0).values.tolist() == [7, 11]


def test_windows_average_what_the_network_says_of_each_and_cover_the_whole_image():
    predictor = network(TokenHeadConfig())
    image = np.random.default_rng(0).integers(0, 256, (21, 31, 3), dtype=np.uint8)
    total, counts = np.zeros((5, 21, 31)), np.zeros((21, 31))
    for top, left in itertools.product((0, 5), (0, 7)):  # half a window is 8 and 12: only the last ones are left
        total[:, top : top + 16, left : left + 24] += predictor(image[None, top : top + 16, left : left + 24])[0]
        counts[top : top + 16, left : left + 24] += 1
    np.testing.assert_allclose(logits_of(predictor, image), total / counts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", ["windows", "resize"])
@pytest.mark.parametrize("size", [(16, 24), (5, 7), (16, 60), (50, 3), (33, 47)])
def test_an_image_of_any_size_gets_logits_of_its_size(size: tuple[int, int], how):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = logits_of(network(TokenHeadConfig()), image, how)
    assert found.shape == (5, *size)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("side", "window"), [(16, 16), (17, 16), (24, 16), (40, 16), (41, 16), (3, 1)])
def test_windows_leave_no_pixel_out_and_stay_inside(side: int, window: int):
    places = starts(side, window)
    assert set().union(*(range(place, place + window) for place in places)) == set(range(side))
