"""The report as a whole: complete, self-contained, harmless, and in one piece whatever is missing."""

import base64
import datetime
import io
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from allmlp.errors import CannotWrite
from allmlp.evaluate import classification_metrics, multilabel_metrics, worst_mistakes
from allmlp.inspection.flops import count_macs, count_parameters
from allmlp.models.variants import model_config
from allmlp.recipe import Recipe
from allmlp.report import MistakePicture, RunReport, Speed, mistake_pictures, render, write_report
from allmlp.report.markup import VOID
from allmlp.report.numbers import SPACE

HOSTILE = "<script>alert('x')</script>\"&amp;"
RECIPE = Recipe(name="digits", model="mixer_p2_8")


class Page(HTMLParser):
    """Parses strictly: each element is closed, in order. Collects text, attributes and what is loaded."""

    def __init__(self, document: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def all(self, tag: str, class_: str | None = None) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements
                if name == tag and (class_ is None or class_ in (attributes.get("class") or "").split())]


def metrics_of(num_classes: int, count: int = 300, names: list[str] | None = None):
    random = np.random.default_rng(0)
    labels = random.integers(num_classes, size=count)
    logits = random.normal(size=(count, num_classes))
    logits[np.arange(count), labels] += 2
    return classification_metrics(logits, labels, names or [f"kind_{k}" for k in range(num_classes)])


def history_of(epochs: int) -> list[dict[str, Any]]:
    return [
        {"epoch": i + 1, "step": 12 * (i + 1), "train_loss": 2.3 / (i + 1), "eval_loss": 2.0 / (i + 1),
         "lr": 1e-3 / (i + 1), "eval_score": 90 * i / epochs, "score_name": "accuracy", "eval_split": "val",
         "images_per_second": 500.0 + i, "seconds": 2.0 * (i + 1)}
        for i in range(epochs)
    ]


def picture_of(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def run_of(**changes: Any) -> RunReport:
    fields: dict[str, Any] = {
        "model_name": "mixer_p2_8", "model": model_config("mixer_p2_8", num_classes=7), "data_name": "shapes",
        "images": {"train": 1200, "test": 300}, "split": "test", "metrics": metrics_of(7),
        "finished": datetime.datetime(2026, 10, 2, 14, 3, 11, tzinfo=datetime.UTC),
        "command": "allmlp train shapes", "recipe_json": RECIPE.to_json(), "history": history_of(5), "best_epoch": 4,
        "mistakes": [MistakePicture(picture_of(8), "cat", "dog", 0.987, "shapes/17")],
        "augmented": [picture_of(8, seed) for seed in range(3)],
        "speed": [Speed(1, 400.0, "cpu", 2), Speed(64, 8000.0, "cuda")],
        "machine": {"processor": "8086", "commit": None, "versions": {"torch": "2.11.0"}},
        "notes": ["3 files were skipped"],
    }
    return RunReport(**{**fields, **changes})


def test_everything_that_was_passed_in_is_on_the_page():
    run = run_of()
    text = Page(render(run)).text
    for expected in ("mixer_p2_8 on shapes", "2026-10-02 14:03", "5 epochs", f"10{SPACE}s", "kept epoch 4",
                     "1,200 train, 300 test", "3 files were skipped", "8086", f"torch{SPACE}2.11.0",
                     "allmlp train shapes", "cat → dog", f"99{SPACE}%", "shapes/17", "cpu, 2 threads", "8,000", "2.5"):
        assert expected in text, expected
    assert f"{count_parameters(run.model):,}" in text
    assert f"{count_macs(run.model) / 1e6:.2f}{SPACE}M multiply-adds" in text
    assert json.loads(text[text.rindex('{\n  "name"') :]) == json.loads(RECIPE.to_json())


def test_all_numbers_of_the_metrics_are_on_the_page():
    metrics = metrics_of(7)
    text = Page(render(run_of(metrics=metrics))).text
    assert metrics.top1_interval_percent is not None
    for value, digits in ((metrics.top1_percent, 2), (metrics.top5_percent, 2), (metrics.macro_f1_percent, 1),
                          (metrics.balanced_accuracy_percent, 1), (metrics.calibration_error_percent, 1),
                          (metrics.top1_interval_percent[0], 1), (metrics.top1_interval_percent[1], 1)):
        assert f"{value:.{digits}f}{SPACE}%" in text
    assert f"{metrics.negative_log_likelihood:.3f}" in text
    for row in metrics.classes:
        cells = (row.precision_percent, row.recall_percent, row.f1_percent)
        assert f"{row.name}{row.support}" + "".join(f"{value:.1f}{SPACE}%" for value in cells) in text


def test_classes_are_listed_from_the_weakest_to_those_without_images():
    names = ["good", "half", "stray", "absent"]
    metrics = classification_metrics(np.eye(4)[[0, 0, 1, 2]], np.array([0, 0, 1, 1]), names)
    text = Page(render(run_of(metrics=metrics))).text
    start = text.index("Precision: of those")
    places = [text.index(name, start) for name in ("half", "good", "stray", "absent")]
    assert places == sorted(places)


def test_confusion_cells_are_the_matrix():
    metrics = metrics_of(7)
    page = Page(render(run_of(metrics=metrics)))
    cells = page.all("td", "right") + page.all("td", "wrong")
    found = sorted(int((cell["title"] or "").split()[0]) for cell in cells)
    assert found == sorted(images for _, _, images in metrics.confusion)
    assert len(page.all("td", "right")) == sum(true == predicted for true, predicted, _ in metrics.confusion)


def test_more_than_40_classes_are_shown_as_the_pairs_confused_most():
    metrics = metrics_of(200, count=3000)
    page = Page(render(run_of(metrics=metrics)))
    assert page.all("table", "confusion") == []
    most, true, predicted = max((images, t, p) for t, p, images in metrics.confusion if t != p)
    assert f"{most}{100 * most / metrics.classes[true].support:.1f}{SPACE}%" in page.text
    assert "180 more" in page.text
    assert all(f"kind_{k}" in page.text for k in (true, predicted, 199))


def test_page_loads_nothing_and_runs_nothing():
    document = render(run_of())
    page = Page(document)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|javascript:", document.split("base64,")[0])
    for name, attributes in page.elements:
        assert name not in ("script", "link", "iframe", "object", "form")
        assert not any(attribute.startswith("on") for attribute in attributes)
        assert all((attributes.get(source) or "data:").startswith("data:") for source in ("src", "href", "srcset"))
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_text_from_outside_is_escaped_everywhere():
    metrics = metrics_of(3, names=[HOSTILE, "b", "c"])
    row = {**history_of(1)[0], "score_name": HOSTILE, "eval_split": HOSTILE}
    document = render(run_of(
        metrics=metrics, model_name=HOSTILE, data_name=HOSTILE, images={HOSTILE: 3}, split=HOSTILE, command=HOSTILE,
        history=[row], recipe_json=json.dumps({HOSTILE: HOSTILE}), notes=[HOSTILE], speed=[Speed(1, 1.0, HOSTILE)],
        machine={HOSTILE: HOSTILE, "versions": {HOSTILE: HOSTILE}},
        mistakes=[MistakePicture(picture_of(8), HOSTILE, HOSTILE, 0.5, HOSTILE)],
    ))
    page = Page(document)
    assert "<script" not in document
    assert page.all("script") == []
    assert page.text.count(HOSTILE) >= 15
    assert Page(render(run_of(metrics=metrics_of(50, names=[HOSTILE] * 50)))).all("script") == []


def test_pictures_are_the_images_pixel_for_pixel_and_large_ones_are_made_smaller():
    small, big = picture_of(8), np.repeat(picture_of(30), 20, axis=1)
    page = Page(render(run_of(augmented=[small, big], mistakes=[])))
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode((img["src"] or "").partition(",")[2]))))
             for img in page.all("img")]
    np.testing.assert_array_equal(shown[0], small)
    assert shown[1].shape == (8, 160, 3)
    assert [img.get("class") for img in page.all("img")] == ["pixels", None]


def test_curves_have_a_point_per_epoch_and_the_kept_epoch_is_marked():
    page = Page(render(run_of()))
    lines = page.all("polyline")
    assert len(lines) == 5  # two losses, accuracy, learning rate, speed
    assert all(len((line["points"] or "").split()) == 5 for line in lines)
    mark = page.all("circle", "mark")
    accuracy = (lines[2]["points"] or "").split()
    assert [float(mark[0][key] or 0) for key in ("cx", "cy")] == pytest.approx(
        [float(number) for number in accuracy[3].split(",")], abs=0.06
    )


def test_epochs_without_a_value_are_left_out_of_their_curve():
    rows = history_of(6)
    rows[2] |= {"eval_loss": None, "eval_score": None}
    rows[4]["train_loss"] = math.nan
    del rows[5]["images_per_second"]
    lines = Page(render(run_of(history=rows))).all("polyline")
    assert [len((line["points"] or "").split()) for line in lines] == [5, 5, 5, 6, 5]
    assert "nan" not in "".join(line["points"] or "" for line in lines)


def test_long_runs_have_all_points_but_no_more_than_200_places_to_point_at():
    page = Page(render(run_of(history=history_of(1001))))
    assert all(len((line["points"] or "").split()) == 1001 for line in page.all("polyline"))
    assert len(page.all("g", "strip")) <= 4 * 200


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"history": []}, "Point at an epoch"),
        ({"history": [{"epoch": 1}]}, "Point at an epoch"),
        ({"metrics": None}, "Calibration"),
        ({"metrics": metrics_of(7, count=0)}, "Calibration"),
        ({"mistakes": []}, "mistakes"),
        ({"augmented": []}, "after augmentation"),
        ({"speed": []}, "Measured speed"),
        ({"machine": {}}, "versions"),
        ({"images": {}, "notes": []}, "1,200"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else value,
)
def test_what_is_missing_leaves_its_section_out(changes, absent):
    text = Page(render(run_of(**changes))).text
    assert absent not in text
    assert "How to make it again" in text


def test_one_epoch_is_drawn_as_dots():
    page = Page(render(run_of(history=history_of(1))))
    assert page.all("polyline") == []
    assert len(page.all("circle", "dot")) == 5
    assert "1 epoch" in page.text


def test_one_class_and_one_image():
    metrics = classification_metrics(np.zeros((1, 1)), np.zeros(1, np.int64), ["it"])
    assert "1 image)" in Page(render(run_of(metrics=metrics))).text


def test_multi_label_metrics_have_their_own_numbers():
    random = np.random.default_rng(0)
    labels = (random.uniform(size=(100, 3)) < 0.4).astype(np.uint8)
    metrics = multilabel_metrics(random.normal(size=(100, 3)) + labels, labels, ["cat", "dog", "bird"])
    text = Page(render(run_of(metrics=metrics))).text
    for value, digits in ((metrics.mean_average_precision_percent, 2), (metrics.micro_f1_percent, 1),
                          (metrics.classes[1].average_precision_percent, 1), (metrics.exact_match_percent, 1)):
        assert f"{value:.{digits}f}{SPACE}%" in text
    assert "Confusion" not in text


def test_recipe_that_is_no_json_is_shown_as_it_is():
    assert "not json <b>" in Page(render(run_of(recipe_json="not json <b>"))).text


def test_mistakes_get_their_pictures_and_names_from_the_data_set():
    class Shapes:
        classes, labels = ("cat", "dog"), np.array([0, 1])

        def __len__(self) -> int:
            return 2

        def image(self, index: int) -> np.ndarray:
            return picture_of(8, index)

        def name(self, index: int) -> str:
            return f"shapes/{index}"

    dataset = Shapes()
    found = worst_mistakes(np.array([[1.0, 0], [2, 0]]), dataset.labels)
    (mistake,) = mistake_pictures(found, dataset, dataset.classes)
    np.testing.assert_array_equal(mistake.image, picture_of(8, 1))
    assert (mistake.true, mistake.predicted, mistake.name) == ("dog", "cat", "shapes/1")


def test_report_is_written_as_utf8_and_a_place_that_cannot_be_written_is_an_error(tmp_path):
    run = run_of()
    write_report(run, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render(run)
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite):
        write_report(run, tmp_path / "file" / "report.html")


def test_of_a_large_batch_the_first_32_pictures_are_shown():
    assert len(Page(render(run_of(augmented=[picture_of(4)] * 100, mistakes=[]))).all("img")) == 32
